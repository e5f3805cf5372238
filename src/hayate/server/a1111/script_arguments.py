"""Positional arguments of a script, and what a script makes of a call with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hayate.errors import UsageError, clip
from hayate.request import TextToImage
from hayate.server.a1111.names import Names
from hayate.server.a1111.replies import ScriptArgument


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What a script makes of a call."""

    request: TextToImage
    body: Mapping[str, Any] | None = None
    """The part `script` of the job; None where the request alone says it."""
    notes: tuple[str, ...] = ()
    has_sheet: bool = False
    """Whether a sheet of all pictures comes before them."""
    shows_pictures: bool = True
    """Whether the pictures come with their sheet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """Positional arguments, read one by one with their names."""

    values: Sequence[Any]
    script: ScriptInfo

    def get(self, label: str) -> Any:
        """The argument of that label, or its default where fewer were sent."""
        for number, each in enumerate(self.script.arguments):
            if each.label == label:
                return self.values[number] if number < len(self.values) else each.value
        raise KeyError(label)

    def number(self, label: str) -> float:
        value = self.get(label)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UsageError(f"{self.script.name}: {label} is no number: {clip(repr(value), 40)}", hint="script_args")
        return value

    def whole(self, label: str) -> int:
        return int(self.number(label))

    def text(self, label: str) -> str:
        value = self.get(label)
        if not isinstance(value, str):
            raise UsageError(f"{self.script.name}: {label} is no text: {clip(repr(value), 40)}", hint="script_args")
        return value


def fields_of(arguments: Sequence[Any], keys: Sequence[str], title: str) -> Mapping[str, Any]:
    """Arguments of something of an extension's: one object of its fields, or values in the fields' order.

    Raises: UsageError for more values than there are fields.
    """
    if len(arguments) == 1 and isinstance(arguments[0], Mapping):
        return arguments[0]
    if len(arguments) > len(keys):
        message = f"{len(arguments)} arguments for {clip(title)!r}, which has {len(keys)} fields"
        raise UsageError(message, hint=", ".join(keys) or "it has none")
    return dict(zip(keys, arguments, strict=False))


Make = Callable[[Arguments, TextToImage, Names], Planned]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptInfo:
    """A script: its name in lower case, as callers give it, and what it takes."""

    name: str
    make: Make
    arguments: tuple[ScriptArgument, ...] = ()
    is_txt2img: bool = True
    is_img2img: bool = True
