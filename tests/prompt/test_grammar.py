"""Weights and BREAK, against the cases that A1111 published and on any text at all."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hayate.prompt.grammar import MAX_DEPTH, MAX_WEIGHT, Span, parse_attention, read_attention

# Input and output pairs published with A1111 1.6; the floats are exact.
PUBLISHED = [
    ("normal text", [("normal text", 1.0)]),
    ("an (important) word", [("an ", 1.0), ("important", 1.1), (" word", 1.0)]),
    ("(unbalanced", [("unbalanced", 1.1)]),
    (r"\(literal\]", [("(literal]", 1.0)]),
    ("(unnecessary)(parens)", [("unnecessaryparens", 1.1)]),
    (
        "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
        [
            ("a ", 1.0),
            ("house", 1.5730000000000004),
            (" ", 1.1),
            ("on", 1.0),
            (" a ", 1.1),
            ("hill", 0.55),
            (", sun, ", 1.1),
            ("sky", 1.4641000000000006),
            (".", 1.1),
        ],
    ),
]
SYNTAX = st.text(st.sampled_from("()[]:\\ab1. -+|,\n") | st.characters(), max_size=60)
BRACKET_FREE = st.text(st.characters(exclude_characters="()[]\\"), max_size=60).filter(lambda text: "BREAK" not in text)


def pairs(spans: list[Span]) -> list[tuple[str, float] | None]:
    return [None if span.is_break else (span.text, span.weight) for span in spans]


@pytest.mark.parametrize(("text", "expected"), PUBLISHED)
def test_published_cases(text: str, expected: list[tuple[str, float]]) -> None:
    assert pairs(parse_attention(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [("", 1.0)]),
        ("()", [("", 1.0)]),
        ("[soft]", [("soft", 1 / 1.1)]),
        ("[soft", [("soft", 1 / 1.1)]),
        ("(a:-0.5)", [("a", -0.5)]),
        ("(a: 1.5 )", [("a", 1.5)]),
        ("[a:1.5]", [("a:1.5", 1 / 1.1)]),
        ("a:1.5)", [("a:1.5)", 1.0)]),
        (r"\\(a)", [("\\", 1.0), ("a", 1.1)]),
        ("a BREAK b", [("a", 1.0), None, ("b", 1.0)]),
        ("a\n BREAK\tBREAK b", [("a", 1.0), None, None, ("b", 1.0)]),
        ("(a BREAK b:1.3)", [("a", 1.3), None, ("b", 1.3)]),
        ("BREAKFAST break BREAK2", [("BREAKFAST break BREAK2", 1.0)]),
        ("BREAK", [None]),
    ],
)
def test_grammar(text: str, expected: list[tuple[str, float] | None]) -> None:
    assert pairs(parse_attention(text)) == expected


@pytest.mark.parametrize("number", ["1.2.3", ".", "..", "+.", "9" * 400, "1000001"])
def test_a_malformed_weight_is_text_and_a_warning(number: str) -> None:
    attention = read_attention(f"(a:{number})")
    assert pairs(list(attention.spans)) == [(f"a:{number}", 1.1)]
    assert len(attention.warnings) == 1
    assert len(attention.warnings[0]) < 80


@pytest.mark.parametrize(
    ("text", "warning"), [("(a", "never closed"), ("[a", "never closed"), ("a)", "closes nothing")]
)
def test_an_unbalanced_bracket_warns(text: str, warning: str) -> None:
    assert warning in read_attention(text).warnings[0]


def test_depth_and_size_of_weights_are_capped() -> None:
    deep = read_attention("(" * 1000 + "a" + ")" * 1000 + "b")
    assert [span.text for span in deep.spans] == ["a", "b"]
    assert deep.spans[0].weight == pytest.approx(1.1**MAX_DEPTH, rel=1e-12)
    assert deep.spans[1].weight == 1.0
    assert "deeper" in deep.warnings[0]
    heavy = read_attention("(" * 60 + "a" + ":-999999)" * 60)
    assert heavy.spans[0].weight == MAX_WEIGHT
    assert "cut" in heavy.warnings[0]


@given(SYNTAX)
def test_any_text_has_spans_with_finite_weights(text: str) -> None:
    spans = parse_attention(text)
    assert spans
    assert all(math.isfinite(span.weight) for span in spans)
    assert all(a.is_break or b.is_break or a.weight != b.weight for a, b in itertools.pairwise(spans))


@given(BRACKET_FREE)
def test_text_without_brackets_is_one_plain_span(text: str) -> None:
    assert parse_attention(text) == [Span(text=text, weight=1.0)]


@given(BRACKET_FREE)
def test_escaped_brackets_are_text(text: str) -> None:
    assert parse_attention(rf"\({text}\)\[\]\\") == [Span(text=f"({text})[]\\", weight=1.0)]
