"""Spans to the text encoder's input: chunks of 75 tokens between a start and an end marker."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from hayate.prompt.extra_networks import split_extra_networks
from hayate.prompt.grammar import Span, parse_attention
from hayate.prompt.inversions import NONE, Inversions
from hayate.prompt.schedule import parse_prompt
from hayate.prompt.tokenizer import Tokenizer

CHUNK_TOKENS = 75
CHUNK_POSITIONS = CHUNK_TOKENS + 2
COMMA_BACKTRACK = 20


class Emphasis(StrEnum):
    """What the weights of a prompt do; the values are A1111's names."""

    ORIGINAL = "Original"
    """Multiply the embeddings, then restore their mean."""
    NO_NORM = "No norm"
    """Multiply the embeddings."""
    IGNORE = "Ignore"
    """Read the brackets, then weigh everything 1."""
    NONE = "None"
    """Brackets and BREAK are plain text."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tokens:
    """The text encoder's input for one text.

    Shapes: `ids` int64 and `weights` float32, both [chunks, 77].
    """

    ids: NDArray[np.int64]
    weights: NDArray[np.float32]
    used: int
    """Places taken up to the last token; a chunk closed early counts as full."""

    @property
    def capacity(self) -> int:
        """Tokens that fit before one more chunk is needed."""
        return math.ceil(max(self.used, 1) / CHUNK_TOKENS) * CHUNK_TOKENS


def spans_of(text: str, emphasis: Emphasis = Emphasis.ORIGINAL) -> list[Span]:
    """The spans of `text` as `emphasis` reads it."""
    return [Span(text=text)] if emphasis is Emphasis.NONE else parse_attention(text)


def chunk(
    spans: Iterable[Span],
    tokenizer: Tokenizer,
    *,
    pad_id: int = Tokenizer.eos_id,
    comma_backtrack: int = COMMA_BACKTRACK,
    emphasis: Emphasis = Emphasis.ORIGINAL,
    words: Inversions = NONE,
) -> Tokens:
    """The chunks of `spans`: start marker, at most 75 tokens, end marker, then `pad_id`; at least one chunk.

    When a chunk is full and a comma is among its last `comma_backtrack` tokens, what follows the comma moves to the
    next chunk, so that a phrase stays whole. The ids of one of `words` are never parted.
    Source: A1111 behaviour.
    """
    filling = _Filling(comma_id=tokenizer.comma_id, comma_backtrack=comma_backtrack)
    for span in spans:
        if span.is_break:
            filling.close()
            continue
        weight = 1.0 if emphasis is Emphasis.IGNORE else span.weight
        for unit in words.units(tokenizer.encode(span.text)):
            filling.take(unit, weight)
    if filling.ids or not filling.chunks:
        filling.close()
    return _lay_out(filling.chunks, tokenizer, pad_id)


def tokenize(
    text: str,
    tokenizer: Tokenizer,
    *,
    pad_id: int = Tokenizer.eos_id,
    comma_backtrack: int = COMMA_BACKTRACK,
    emphasis: Emphasis = Emphasis.ORIGINAL,
    words: Inversions = NONE,
) -> Tokens:
    """The chunks of a stage's `text`, read as `emphasis` says."""
    spans = spans_of(text, emphasis)
    return chunk(spans, tokenizer, pad_id=pad_id, comma_backtrack=comma_backtrack, emphasis=emphasis, words=words)


def count_tokens(text: str, tokenizer: Tokenizer, *, steps: int = 20) -> tuple[int, int]:
    """Tokens used by the longest stage of a whole prompt, and how many fit before it needs another chunk."""
    prompt = parse_prompt(split_extra_networks(text)[0], steps)
    texts = {stage.text for subprompt in prompt.subprompts for stage in subprompt.stages}
    longest = max((tokenize(stage_text, tokenizer) for stage_text in texts), key=lambda tokens: tokens.used)
    return longest.used, longest.capacity


@dataclass(slots=True, kw_only=True)
class _Filling:
    """The closed chunks and the open one."""

    comma_id: int
    comma_backtrack: int
    chunks: list[tuple[list[int], list[float]]] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    last_comma: int | None = None
    """Index of the open chunk's last comma."""

    def take(self, unit: tuple[int, ...], weight: float) -> None:
        if unit == (self.comma_id,):
            # Noted before the chunk may close: a comma in 76th place goes to the next chunk and is forgotten there.
            self.last_comma = len(self.ids)
        elif len(self.ids) == CHUNK_TOKENS and self.last_comma is not None:
            self.backtrack(self.last_comma)
        if len(self.ids) + len(unit) > CHUNK_TOKENS:
            self.close()
        self.ids += unit
        self.weights += [weight] * len(unit)

    def backtrack(self, comma: int) -> None:
        if len(self.ids) - comma > self.comma_backtrack:
            return
        ids, weights = self.ids[comma + 1 :], self.weights[comma + 1 :]
        del self.ids[comma + 1 :], self.weights[comma + 1 :]
        self.close()
        self.ids, self.weights = ids, weights

    def close(self) -> None:
        self.chunks.append((self.ids, self.weights))
        self.ids, self.weights, self.last_comma = [], [], None


def _lay_out(chunks: list[tuple[list[int], list[float]]], tokenizer: Tokenizer, pad_id: int) -> Tokens:
    """The chunks as arrays, with markers and padding of weight 1."""
    ids = np.full((len(chunks), CHUNK_POSITIONS), pad_id, dtype=np.int64)
    weights = np.ones((len(chunks), CHUNK_POSITIONS), dtype=np.float32)
    ids[:, 0] = tokenizer.bos_id
    for row, (chunk_ids, chunk_weights) in enumerate(chunks):
        end = 1 + len(chunk_ids)
        ids[row, 1:end] = chunk_ids
        ids[row, end] = tokenizer.eos_id
        weights[row, 1:end] = chunk_weights
    return Tokens(ids=ids, weights=weights, used=CHUNK_TOKENS * (len(chunks) - 1) + len(chunks[-1][0]))
