"""Drawing in SVG text: what any name or number gives is well-formed, and is what was meant."""

from __future__ import annotations

import math
import re
import unicodedata
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hayate.bench import svg

ANYTHING = st.text(st.characters(codec=None, exclude_categories=()))
"""Every code point: control characters and halves of surrogate pairs among them."""
FIGURES = st.floats(1e-6, 1e6)


@given(text=ANYTHING)
def test_any_text_comes_back_from_a_parser(text: str) -> None:
    root = ElementTree.fromstring(f'<a b="{svg.escape(text)}">{svg.escape(text)}</a>'.encode())
    illegal = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
    # A parser makes every line end \n (XML 1.0, section 2.11), and every white space of an attribute a space (3.3.3).
    expected = illegal.sub("\ufffd", text).replace("\r\n", "\n").replace("\r", "\n")
    assert (root.text or "") == expected
    assert root.get("b") == re.sub(r"[\t\n]", " ", expected)


@given(text=ANYTHING, columns=st.integers(5, 60))
def test_a_short_name_stays_and_a_long_one_keeps_both_ends(text: str, columns: int) -> None:
    line, short = " ".join(text.split()), svg.shorten(text, columns)
    if short != line:
        head, _, tail = short.partition("…")
        assert line.startswith(head)
        assert line.endswith(tail.rpartition("…")[2])
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in short)
    drawn = sum(not unicodedata.combining(character) for character in short)
    assert drawn + wide <= columns


@pytest.mark.parametrize(
    ("text", "columns", "short"), [("abcdefghij", 10, "abcdefghij"), ("abcdefghijk", 10, "abcdef…ijk")]
)
def test_a_name_is_cut_in_the_middle(text: str, columns: int, short: str) -> None:
    assert svg.shorten(text, columns) == short


@given(low=st.floats(-1e6, 1e6), size=st.floats(1e-3, 1e6), count=st.integers(2, 10))
def test_ticks_are_even_round_and_around_the_data(low: float, size: float, count: int) -> None:
    found = svg.ticks(low, low + size, count)
    step = found[1] - found[0]
    assert found[0] <= low + step * 1e-6
    assert found[-1] >= low + size - step * 1e-6
    assert 2 <= len(found) <= 2 * count + 2
    assert all(later - earlier == pytest.approx(step, rel=1e-3) for earlier, later in pairwise(found))
    mantissa = step / 10 ** math.floor(math.log10(step) + 1e-4)
    assert min(abs(mantissa - round_one) for round_one in (1, 2, 5)) < 1e-2


@given(value=st.floats(-1e6, 1e6))
def test_one_value_alone_lies_inside_its_ticks(value: float) -> None:
    found = svg.ticks(value, value)
    assert found[0] <= value <= found[-1]
    assert found[0] < found[-1]


@given(low=st.floats(-1e4, 1e4), size=st.floats(1e-2, 1e4))
def test_the_names_of_ticks_tell_them_apart(low: float, size: float) -> None:
    found = svg.ticks(low, low + size)
    names = svg.tick_names(found)
    assert len(set(names)) == len(names)
    assert all(
        float(name) == pytest.approx(value, abs=(found[1] - found[0]) / 20)
        for name, value in zip(names, found, strict=True)
    )


@given(values=st.lists(FIGURES, min_size=1, max_size=8))
def test_a_column_keeps_two_digits_of_its_smallest_number(values: list[float]) -> None:
    places = svg.decimals(values)
    assert 0 <= places <= 6
    smallest = min(values)
    if smallest >= 1e-5:
        assert float(f"{smallest:.{places}f}") == pytest.approx(smallest, rel=0.051)


@pytest.mark.parametrize(
    ("values", "places"), [([21.04, 9.5], 1), ([0.0312, 0.2], 3), ([5000.0], 0), ([0.0], 0), ([], 0)]
)
def test_decimals_by_example(values: list[float], places: int) -> None:
    assert svg.decimals(values) == places


def test_viewers_without_variables_get_the_light_colours() -> None:
    light = dict(re.findall(r"--(\w+):(#\w+)", svg.style()))
    pairs = re.findall(r"(fill|stroke):(#\w+);\1:var\(--(\w+)\)", svg.style())
    first = dict(re.findall(r"--(\w+):(#\w+)", svg.style().partition("}")[0]))
    assert light.keys() == first.keys()
    assert len(pairs) == len(re.findall(r"var\(", svg.style()))
    assert all(colour == first[name] for _, colour, name in pairs)
