"""A prompt's weights: round brackets stress, square brackets soften, BREAK starts a new chunk.

`(text)` multiplies by 1.1, `[text]` divides by 1.1, `(text:1.3)` multiplies by 1.3, nesting multiplies, brackets left
open close at the end, and a backslash makes a bracket ordinary.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from hayate.errors import clip

MAX_PROMPT_CHARS = 200_000
MAX_DEPTH = 64
MAX_WEIGHT = 1e6
STRESS = 1.1

TOKEN = re.compile(
    r"""
      \\[()\[\]\\]?                         # an escaped bracket or backslash; a lone backslash vanishes
    | [(\[\])]
    | :\s*+(?P<weight>[+-]?[.\d]++)\s*+\)   # possessive: a failed weight costs its length once
    | [^\\()\[\]:]+
    | :
    """,
    re.VERBOSE,
)
BREAK_WORD = re.compile(r"\bBREAK\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A run of text under one weight, or the marker that closes a chunk."""

    text: str
    weight: float = 1.0
    is_break: bool = False


BREAK: Final = Span(text="BREAK", is_break=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """The spans of a text, and what in it was not taken as its writer may have meant it."""

    spans: tuple[Span, ...]
    warnings: tuple[str, ...] = ()


def parse_attention(text: str) -> list[Span]:
    """The spans of `text`; never empty, and any text at all has a reading.

    Source: A1111 behaviour; its six published cases are in the tests.
    """
    return list(read_attention(text).spans)


def read_attention(text: str) -> Attention:
    """The spans of `text` with warnings about numbers, brackets and depths that have no effect.

    Cost: linear in the text; a run of text is weighted once per bracket around it, at most `2 · MAX_DEPTH` times.
    """
    weighing = _Weighing()
    for token in TOKEN.finditer(text):
        weighing.take(token[0], token["weight"])
    weighing.close_all()
    return Attention(spans=tuple(merge(weighing.spans())), warnings=tuple(dict.fromkeys(weighing.warnings)))


def merge(spans: Iterable[Span]) -> Iterator[Span]:
    """Joins neighbours of equal weight, as their words may touch and then make one token."""
    is_empty = True
    for (weight, is_break), run in itertools.groupby(spans, key=lambda span: (span.weight, span.is_break)):
        is_empty = False
        if is_break:
            yield from run
        else:
            yield Span(text="".join(span.text for span in run), weight=weight)
    if is_empty:
        yield Span(text="")


@dataclass(slots=True)
class _Weighing:
    """The pieces read so far and, for each bracket still open, the index of its first piece (None: too deep)."""

    texts: list[str | None] = field(default_factory=list)
    """None stands for a BREAK."""
    weights: list[float] = field(default_factory=list)
    round_starts: list[int | None] = field(default_factory=list)
    square_starts: list[int | None] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def take(self, token: str, number: str | None) -> None:
        if token[0] == "\\":
            self.add(token[1:])
        elif token == "(":
            self.open(self.round_starts)
        elif token == "[":
            self.open(self.square_starts)
        elif number is not None and self.round_starts:
            self.close_weighted(token, number)
        elif token == ")" and self.round_starts:
            self.multiply(self.round_starts.pop(), STRESS)
        elif token == "]" and self.square_starts:
            self.multiply(self.square_starts.pop(), 1 / STRESS)
        else:
            self.add_words(token)

    def add(self, text: str | None) -> None:
        if text != "":
            self.texts.append(text)
            self.weights.append(1.0)

    def add_words(self, text: str) -> None:
        if text in {")", "]"}:
            self.warnings.append(f"a '{text}' closes nothing and is read as text")
        if "BREAK" not in text:
            self.add(text)
            return
        first, *rest = BREAK_WORD.split(text)
        self.add(first.rstrip() if rest else first)
        for part in rest[:-1]:
            self.add(None)
            self.add(part.strip())
        if rest:
            self.add(None)
            self.add(rest[-1].lstrip())

    def open(self, starts: list[int | None]) -> None:
        if len(starts) == MAX_DEPTH:
            self.warnings.append(f"brackets nested deeper than {MAX_DEPTH} have no effect")
        starts.append(len(self.texts) if len(starts) < MAX_DEPTH else None)

    def close_weighted(self, token: str, number: str) -> None:
        weight = read_weight(number)
        if weight is None:
            self.warnings.append(f"{clip(number, 20)!r} is not a weight and is read as text")
            self.add(token[:-1])
            weight = STRESS
        self.multiply(self.round_starts.pop(), weight)

    def close_all(self) -> None:
        for name, starts, factor in (("(", self.round_starts, STRESS), ("[", self.square_starts, 1 / STRESS)):
            if starts:
                self.warnings.append(f"a '{name}' is never closed: it reaches to the end of the prompt")
            for start in starts:
                self.multiply(start, factor)

    def multiply(self, start: int | None, factor: float) -> None:
        if start is None:
            return
        for index in range(start, len(self.weights)):
            self.weights[index] *= factor

    def spans(self) -> Iterator[Span]:
        for text, weight in zip(self.texts, self.weights, strict=True):
            if text is None:
                yield BREAK
            elif abs(weight) <= MAX_WEIGHT:
                yield Span(text=text, weight=weight)
            else:
                self.warnings.append(f"a weight beyond {MAX_WEIGHT:.0f} is cut to it")
                yield Span(text=text, weight=math.copysign(MAX_WEIGHT, weight))


def read_weight(number: str) -> float | None:
    """The weight that `number` writes, or None if it is malformed or beyond `MAX_WEIGHT`."""
    try:
        weight = float(number)
    except ValueError:
        return None
    return weight if abs(weight) <= MAX_WEIGHT else None
