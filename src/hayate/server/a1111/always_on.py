"""`alwayson_scripts`: A1111's own ones are fields of the call in another place, others are extensions of ours.

Source: A1111 v1.10.1's sampler, seed and refiner sections.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import ValidationError

from hayate.errors import UsageError, clip
from hayate.extensions.current import current
from hayate.extensions.standing import Standing
from hayate.server.a1111.requests import Generation
from hayate.server.a1111.script_arguments import fields_of

FIELDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "sampler": ("steps", "sampler_name", "scheduler"),
        "seed": ("seed", "", "subseed", "subseed_strength", "seed_resize_from_w", "seed_resize_from_h"),
        "refiner": ("", "refiner_checkpoint", "refiner_switch_at"),
    }
)
"""What the arguments of A1111's own scripts are; the second of `seed` opens a part of its page."""
IDLE = ("comments", "extra options", "hypertile")
"""Scripts that change no picture, or only how it is computed there."""

_Asked = TypeVar("_Asked", bound=Generation)


def with_always_on(asked: _Asked) -> _Asked:
    """The call with what its always-on scripts say.

    Raises: UsageError for one that is not there: what an extension would have done is not left out in silence. One
    that is told to do nothing is no loss.
    """
    changes: dict[str, Any] = {}
    for name, content in asked.alwayson_scripts.items():
        arguments = _arguments(name, content)
        if name.casefold() in FIELDS:
            changes |= _fields(name.casefold(), arguments)
        elif name.casefold() not in IDLE and extension_called(name) is None and arguments and arguments[0] is not False:
            hint = "hayate extensions lists those that are here; leave it out"
            raise UsageError(f"always on script {clip(name)!r} not found", hint=hint)
    if not changes:
        return asked
    try:
        return type(asked).model_validate({**asked.model_dump(exclude_unset=True), **changes})
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"alwayson_scripts: {first['loc'][0]}: {clip(first['msg'], 100)}", hint="args") from error


def asked_extensions(asked: Generation) -> dict[str, Mapping[str, Any]]:
    """What a call says to our extensions: `[{"field": value}]`, perhaps behind true, or values in the controls' order.

    Raises: UsageError for more values than there are controls.
    """
    said: dict[str, Mapping[str, Any]] = {}
    for name, content in asked.alwayson_scripts.items():
        owner = extension_called(name)
        arguments = list(_arguments(name, content))
        if owner is None or not arguments or arguments[0] is False:
            continue
        if len(arguments) == 2 and arguments[0] is True and isinstance(arguments[1], Mapping):
            del arguments[0]
        said[owner.name] = fields_of(arguments, [control.key for control in owner.manifest.controls], name)
    return said


def extension_called(name: str) -> Standing | None:
    """The extension of a name, in any case, if it is one that acts on jobs."""
    wanted = name.casefold()
    found = (each for each in current().standings if each.name == wanted and each.found.is_usable)
    return next((each for each in found if each.is_for_jobs), None)


def _arguments(name: str, content: Any) -> Sequence[Any]:
    arguments = content.get("args") if isinstance(content, Mapping) else None
    if arguments is None:
        return ()
    if not isinstance(arguments, list):
        raise UsageError(f"the arguments of {clip(name)!r} are no list", hint='{"args": […]}')
    return arguments


def _fields(name: str, arguments: Sequence[Any]) -> dict[str, Any]:
    """Fewer arguments leave the rest as it is; a refiner that is turned off leaves all."""
    if name == "refiner" and (not arguments or not arguments[0]):
        return {}
    pairs = zip(FIELDS[name], arguments, strict=False)
    return {field: value for field, value in pairs if field and value is not None}
