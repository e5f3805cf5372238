"""`--extension`: which extensions act on a picture, and what is said to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hayate.errors import UnknownName, UsageError, clip
from hayate.extensions.control import Control
from hayate.extensions.current import current
from hayate.extensions.session import Session


def parse_extensions(words: Sequence[str], session: Session | None = None) -> dict[str, Mapping[str, Any]]:
    """What "detailer" and "detailer.denoising=0.5" say: extensions by name, with the fields that are given.

    Raises: UnknownName, UsageError.
    """
    session = session or current()
    asked: dict[str, dict[str, Any]] = {}
    for word in words:
        name, is_field, rest = word.partition(".")
        controls = _controls(session, name)
        values = asked.setdefault(name, {})
        if not is_field:
            continue
        key, is_given, text = rest.partition("=")
        if key not in controls:
            raise UnknownName(f"field of the extension {name}", key, controls)
        if not is_given:
            raise UsageError(f"--extension {clip(word)} has no value", hint=f"{name}.{key}=…: {controls[key].range()}")
        values[key] = controls[key].parsed(text, f"the extension {name}: {key}")
    return dict(asked)


def _controls(session: Session, name: str) -> dict[str, Control]:
    standing = session.standing(name)
    if standing.found.manifest is None:
        raise UsageError(f"the extension {name} can't act: {standing.found.problem}", hint="hayate extensions")
    return {control.key: control for control in standing.manifest.controls}
