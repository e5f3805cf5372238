"""Chunks of 75 tokens, against the rule written as slices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hayate.errors import UsageError
from hayate.prompt.chunks import Emphasis, chunk, count_tokens, spans_of, tokenize
from hayate.prompt.grammar import BREAK, Span
from hayate.prompt.tokenizer import Tokenizer, load_tokenizer

BOS, EOS, COMMA, A = 49406, 49407, 267, 320
WORDS = st.lists(st.sampled_from(["a"] * 12 + [",", "astronaut"]), max_size=120)
SPANS = st.lists(
    st.just(BREAK)
    | st.builds(lambda words, weight: Span(text=" ".join(words), weight=weight), WORDS, st.floats(-2, 2)),
    max_size=6,
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer()


def reference(spans: list[Span], comma_backtrack: int) -> list[list[tuple[int, float]]]:
    """A1111's rule as slices: each chunk is a window of 75 tokens, cut after a late comma if more follows."""
    segments: list[list[tuple[int, float]]] = [[]]
    for span in spans:
        if span.is_break:
            segments.append([])
        else:
            segments[-1] += [(token, span.weight) for token in load_tokenizer().encode(span.text)]
    chunks: list[list[tuple[int, float]]] = []
    for number, segment in enumerate(segments):
        rest = segment
        if not rest and (number < len(segments) - 1 or not chunks):
            chunks.append([])
        while rest:
            length = min(75, len(rest))
            if len(rest) > 75 and rest[75][0] != COMMA:
                late = [place for place in range(max(0, 75 - comma_backtrack), 75) if rest[place][0] == COMMA]
                length = late[-1] + 1 if late else 75
            chunks.append(rest[:length])
            rest = rest[length:]
    return chunks


@settings(max_examples=60, deadline=None)
@given(SPANS, st.integers(0, 40))
def test_chunks_equal_the_reference(spans: list[Span], comma_backtrack: int) -> None:
    tokens = chunk(spans, load_tokenizer(), comma_backtrack=comma_backtrack, pad_id=0)
    expected = reference(spans, comma_backtrack)
    assert tokens.ids.shape == tokens.weights.shape == (len(expected), 77)
    for ids, weights, pairs in zip(tokens.ids, tokens.weights, expected, strict=True):
        padding = 75 - len(pairs)
        assert ids.tolist() == [BOS, *(token for token, _ in pairs), EOS, *[0] * padding]
        assert weights.tolist() == [1.0, *(float(np.float32(weight)) for _, weight in pairs), 1.0, *[1.0] * padding]


# The rule's corners, counted by hand.
@pytest.mark.parametrize(
    ("words", "lengths"),
    [
        (["a"] * 75, [75]),
        (["a"] * 76, [75, 1]),
        (["a"] * 55 + [","] + ["a"] * 20, [56, 20]),
        (["a"] * 54 + [","] + ["a"] * 21, [75, 1]),
        (["a"] * 60 + [","] + ["a"] * 14, [75]),
        (["a"] * 60 + [","] + ["a"] * 14 + [","], [75, 1]),
        (["a"] * 60 + [","] + ["a"] * 90, [61, 75, 15]),
        (["a"] * 75 + [","] + ["a"] * 75, [75, 75, 1]),
    ],
)
def test_the_comma_rule(tokenizer: Tokenizer, words: list[str], lengths: list[int]) -> None:
    tokens = tokenize(" ".join(words), tokenizer)
    assert np.argmax(tokens.ids == EOS, axis=1).tolist() == [length + 1 for length in lengths]
    assert tokens.used == 75 * (len(lengths) - 1) + lengths[-1]


@pytest.mark.parametrize("pad_id", [EOS, 0])
def test_an_empty_prompt_is_one_chunk(tokenizer: Tokenizer, pad_id: int) -> None:
    tokens = tokenize("", tokenizer, pad_id=pad_id)
    assert tokens.ids.tolist() == [[BOS, EOS, *[pad_id] * 75]]
    assert tokens.weights.tolist() == [[1.0] * 77]
    assert (tokens.ids.dtype, tokens.weights.dtype) == (np.int64, np.float32)
    assert (tokens.used, tokens.capacity) == (0, 75)


@pytest.mark.parametrize(
    ("text", "chunks"), [("BREAK", 1), ("a BREAK", 1), ("BREAK a", 2), ("a BREAK b", 2), ("a BREAK BREAK b", 3)]
)
def test_break_closes_a_chunk(tokenizer: Tokenizer, text: str, chunks: int) -> None:
    assert tokenize(text, tokenizer).ids.shape == (chunks, 77)


def test_emphasis_modes(tokenizer: Tokenizer) -> None:
    text = "(a:1.5) BREAK a"
    weights = {mode: tokenize(text, tokenizer, emphasis=mode).weights for mode in Emphasis}
    for mode in (Emphasis.ORIGINAL, Emphasis.NO_NORM):
        assert weights[mode][:, 1].tolist() == [1.5, 1.0]
    assert weights[Emphasis.IGNORE].shape == (2, 77)
    assert weights[Emphasis.IGNORE].tolist() == np.ones((2, 77)).tolist()
    plain = tokenize(text, tokenizer, emphasis=Emphasis.NONE)
    count = len(tokenizer.encode(text))
    assert plain.ids[0, 1 : 1 + count].tolist() == tokenizer.encode(text)
    assert plain.ids.shape == (1, 77)
    assert spans_of(text, Emphasis.NONE) == [Span(text=text)]
    assert [mode.value for mode in Emphasis] == ["Original", "No norm", "Ignore", "None"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (0, 75)),
        ("a (photo:1.2) of an astronaut", (5, 75)),
        ("a <lora:ink:0.8>", (1, 75)),
        ("[a:a a a:.5]", (3, 75)),
        ("a AND a a", (2, 75)),
        ("a " * 76, (76, 150)),
        ("a BREAK a", (76, 150)),
    ],
)
def test_count_tokens(tokenizer: Tokenizer, text: str, expected: tuple[int, int]) -> None:
    assert count_tokens(text, tokenizer) == expected


def test_counting_a_prompt_without_end_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(UsageError, match="characters"):
        count_tokens("a" * 1_000_000, tokenizer)
