"""`alwayson_scripts`: A1111's own ones are fields of the call in another place; extensions are not there.

Source: A1111 v1.10.1's sampler, seed and refiner sections.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import ValidationError

from hayate.errors import UsageError, clip
from hayate.server.a1111.requests import Generation

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
        elif name.casefold() not in IDLE and arguments and arguments[0] is not False:
            hint = "there are no such extensions here; leave it out"
            raise UsageError(f"always on script {clip(name)!r} not found", hint=hint)
    if not changes:
        return asked
    try:
        return type(asked).model_validate({**asked.model_dump(exclude_unset=True), **changes})
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"alwayson_scripts: {first['loc'][0]}: {clip(first['msg'], 100)}", hint="args") from error


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
