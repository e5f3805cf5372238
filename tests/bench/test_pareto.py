"""The front is what a sweep finds, and every dot and number has a place of its own."""

from __future__ import annotations

import math
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hayate.bench.pareto import WIDTHS_PX, Point, front, pareto_chart, pareto_svg
from tests.bench.records import NASTY

SPACE = "{http://www.w3.org/2000/svg}"
POINTS = st.builds(
    Point,
    label=st.text(max_size=30),
    # Few values, so that equal ones are common.
    speed=st.integers(1, 60).map(lambda number: number / 4),
    psnr_db=st.one_of(st.none(), st.integers(20, 70).map(float)),
)


def swept(points: list[Point]) -> set[int]:
    """The front by a sweep from the fastest: whoever has a better picture than all faster ones is on it."""
    worth = [(point.speed, math.inf if point.psnr_db is None else point.psnr_db) for point in points]
    best, found = -math.inf, set()
    for speed in sorted({speed for speed, _ in worth}, reverse=True):
        top = max(psnr for other, psnr in worth if other == speed)
        if top > best:
            found |= {index for index, each in enumerate(worth) if each == (speed, top)}
            best = top
    return found


def dots(chart: str, css: str) -> list[tuple[float, float]]:
    """Where the plot's dots of a class are: a percentage, and pixels from the top of the chart."""
    root = ElementTree.fromstring(chart)
    nested = [each for each in root.iter(f"{SPACE}svg") if each.find(f"{SPACE}circle[@class='{css}']") is not None]
    return [
        (float(each.get("x", "").removesuffix("%")), float(each.get("y", "")))
        for each in nested
        if each.find(f"{SPACE}circle/{SPACE}title") is not None
    ]


@given(points=st.lists(POINTS, max_size=30))
def test_the_front_is_what_a_sweep_finds(points: list[Point]) -> None:
    assert set(front(points)) == swept(points)


@given(points=st.lists(POINTS, min_size=1, max_size=30))
def test_every_point_is_a_dot_and_the_front_is_a_line_through_its_own(points: list[Point]) -> None:
    chart = pareto_svg(points)
    best, other = dots(chart, "best"), dots(chart, "other")
    assert len(best) == len(front(points))
    assert len(best) + len(other) == len(points)
    lines = ElementTree.fromstring(chart).findall(f".//{SPACE}line[@class='front']")
    ends = [
        (float(line.get(f"x{end}", "").removesuffix("%")), float(line.get(f"y{end}", "")))
        for line in lines
        for end in (1, 2)
    ]
    assert set(ends) == (set(best) if len(best) > 1 else set())


def test_faster_is_higher_and_closer_is_further_right() -> None:
    points = [Point(label="a", speed=10, psnr_db=30), Point(label="b", speed=20, psnr_db=40)]
    chart = pareto_chart([*points, Point(label="c", speed=15, psnr_db=None)])
    ((left, low),) = dots(chart, "other")
    (right, high), (furthest, middle) = sorted(dots(chart, "best"))
    assert left < right < furthest
    assert high < middle < low
    assert low - middle == pytest.approx(middle - high, abs=0.11)
    assert furthest >= 78


@given(points=st.lists(POINTS, min_size=1, max_size=30))
def test_numbers_beside_dots_keep_apart_at_every_width(points: list[Point]) -> None:
    root = ElementTree.fromstring(pareto_chart(points))
    boxes = []
    for nested in root.iter(f"{SPACE}svg"):
        text = nested.find(f"{SPACE}text[@text-anchor='middle']")
        if text is None or not nested.get("x", "").endswith("%") or nested is root:
            continue
        place, shift = float(nested.get("x", "").removesuffix("%")) / 100, float(text.get("x", "0"))
        boxes.append((place, shift, float(nested.get("y", "")) + float(text.get("y", "0")), len(text.text or "")))
    assert boxes
    for width in WIDTHS_PX:
        spots = [(place * width + shift, y, 3.2 * length) for place, shift, y, length in boxes]
        for index, (x, y, half) in enumerate(spots):
            assert all(abs(x - there) >= half + reach or abs(y - down) >= 11 for there, down, reach in spots[:index])


def test_equally_fast_identical_settings_stand_side_by_side() -> None:
    chart = pareto_chart([Point(label=str(index), speed=20, psnr_db=None) for index in range(7)])
    xs = sorted(x for x, _ in dots(chart, "best"))
    assert all(later - earlier > 3 for earlier, later in pairwise(xs))
    assert 78 <= xs[0] < xs[-1] <= 100
    assert "no picture differs" in chart


@given(name=st.one_of(st.text(), st.just(NASTY)))
def test_any_name_leaves_the_file_well_formed(name: str) -> None:
    points = [Point(label=name, speed=1.0, psnr_db=40.0, mark=name[:4]), Point(label=name, speed=2.0, psnr_db=None)]
    assert ElementTree.fromstring(pareto_svg(points, unit=name).encode()).tag == f"{SPACE}svg"


def test_the_key_lists_every_setting_the_fastest_first() -> None:
    points = [Point(label=f"setting {speed}", speed=speed, psnr_db=None) for speed in (3, 9, 6)]
    text = "\n".join(ElementTree.fromstring(pareto_chart(points, unit="images/min")).itertext())
    key = text[text.rindex("images/min") :]
    assert key.index("setting 9") < key.index("setting 6") < key.index("setting 3")
