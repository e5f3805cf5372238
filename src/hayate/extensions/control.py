"""Fields that an extension offers: declared in its manifest, drawn by the page, checked before a job is queued."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, get_args

from hayate.errors import UnknownName, UsageError, clip

Kind = Literal["text", "prompt", "number", "slider", "choice", "switch"]
KINDS: tuple[str, ...] = get_args(Kind)
Value = str | float | bool
MAX_TEXT_CHARACTERS = 10_000
WHOLE_STEP = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """One field: what a job may say, and how the page asks for it."""

    key: str
    kind: Kind
    default: Value
    label: Mapping[str, str]
    """By language; English is always there."""
    help: Mapping[str, str] = field(default_factory=dict)
    low: float | None = None
    high: float | None = None
    step: float | None = None
    """Of a number; whole numbers where it is 1."""
    choices: tuple[str, ...] = ()

    def text(self, language: str = "en") -> str:
        """Its label, in English where there is no other."""
        return self.label.get(language) or self.label["en"]

    @property
    def is_numeric(self) -> bool:
        return self.kind in ("number", "slider")

    def checked(self, value: Any, title: str) -> Value:
        """`value` as this control's type, if it is one of its values.

        Raises: UsageError, UnknownName.
        """
        if self.kind == "switch":
            return _typed(value, bool, title)
        if self.is_numeric:
            return self._number(value, title)
        text = _typed(value, str, title)
        if self.kind == "choice" and text not in self.choices:
            raise UnknownName(title, text, self.choices)
        if len(text) > MAX_TEXT_CHARACTERS:
            raise UsageError(f"{title} has {len(text)} characters", hint=f"at most {MAX_TEXT_CHARACTERS}")
        return text

    def parsed(self, text: str, title: str) -> Value:
        """A command line's word as this control's value.

        Raises: UsageError, UnknownName.
        """
        if self.kind == "switch":
            words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
            if text.casefold() not in words:
                raise UnknownName(title, text, words)
            return words[text.casefold()]
        if not self.is_numeric:
            return self.checked(text, title)
        try:
            number = float(text)
        except ValueError:
            raise UsageError(f"{title}: {clip(text)!r} is not a number", hint=self.range()) from None
        return self.checked(int(number) if number.is_integer() else number, title)

    def range(self) -> str:
        """Its values in words."""
        if self.choices:
            return ", ".join(self.choices)
        if not self.is_numeric:
            return "true or false" if self.kind == "switch" else "a text"
        low, high = ("any" if bound is None else f"{bound:g}" for bound in (self.low, self.high))
        return f"{'a whole number' if self.step == WHOLE_STEP else 'a number'}, {low} to {high}"

    def _number(self, value: Any, title: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise UsageError(f"{title}: {clip(repr(value))} is not a number", hint=self.range())
        is_outside = (self.low is not None and value < self.low) or (self.high is not None and value > self.high)
        if is_outside or (self.step == WHOLE_STEP and value != int(value)):
            raise UsageError(f"{title}: {value} can't be", hint=self.range())
        return int(value) if self.step == WHOLE_STEP else float(value)


def _typed(value: Any, kind: type, title: str) -> Any:
    if not isinstance(value, kind):
        hint = "true or false" if kind is bool else "a text"
        raise UsageError(f"{title}: {clip(repr(value))} is not {hint}", hint=f"give {hint}")
    return value


def checked_values(controls: Sequence[Control], given: Mapping[str, Any], title: str) -> Mapping[str, Value]:
    """The value of every control: the given one, else its default.

    Raises: UnknownName for a key that no control has, UsageError for a value that can't be.
    """
    known = {control.key: control for control in controls}
    for key in given:
        if key not in known:
            raise UnknownName(f"field of {title}", str(key), known)
    values = {control.key: control.default for control in controls}
    values |= {key: known[key].checked(value, f"{title}: {key}") for key, value in given.items()}
    return MappingProxyType(values)
