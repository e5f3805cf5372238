"""Groups of options that several commands share: each a dataclass, each field an option."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from hayate.errors import UsageError, clip


def takes_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options of each parameter that is a dataclass, in its place, as Typer reads a signature."""
    before = get_type_hints(command, include_extras=True)
    groups = {name: kind for name, kind in before.items() if isinstance(kind, type) and is_dataclass(kind)}
    parameters: list[inspect.Parameter] = []
    for each in inspect.signature(command).parameters.values():
        if each.name in groups:
            parameters += _parameters_of(groups[each.name])
        else:
            parameters.append(each.replace(annotation=before[each.name], kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(command)
    def with_options(**words: Any) -> None:
        made = {
            name: kind(**{each.name: words.pop(each.name) for each in fields(kind)}) for name, kind in groups.items()
        }
        command(**words, **made)

    with_options.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportAttributeAccessIssue]
    with_options.__annotations__ = {each.name: each.annotation for each in parameters}
    return with_options


def _parameters_of(group: type) -> list[inspect.Parameter]:
    kinds = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=each.default, annotation=kinds[each.name])
        for each in fields(group)
    ]


def given_of(**values: Any) -> dict[str, Any]:
    """Those of `values` that are given."""
    return {name: value for name, value in values.items() if value is not None}


def parse_size(text: str | None, flag: str) -> tuple[int | None, int | None]:
    """Width and height of "512x768", or two Nones.

    Raises: UsageError.
    """
    if text is None:
        return None, None
    width, _, height = text.lower().replace("×", "x").partition("x")
    if not (width.isascii() and height.isascii() and width.isdigit() and height.isdigit() and len(text) < 20):
        raise UsageError(f"{flag} {clip(text, 30)!r} is not a size", hint="write WIDTHxHEIGHT, such as 512x768")
    return int(width), int(height)
