"""Charts: marks are as long and as high as their figures, and no name breaks one."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hayate.bench import svg
from hayate.bench.charts import PHASES, Bar, Curve, Stack, bars_chart, curves_chart, phases_chart
from tests.bench.records import NASTY

SPACE = "{http://www.w3.org/2000/svg}"
SIZES = st.floats(1e-3, 1e4)
NAMES = st.one_of(st.text(), st.just(NASTY), st.text(min_size=80))


def marks(chart: str | Element, css: str) -> list[Element]:
    """The elements of a class, in their order."""
    root = ElementTree.fromstring(chart) if isinstance(chart, str) else chart
    return [each for each in root.iter() if css in each.get("class", "").split()]


def share(element: Element, name: str) -> float:
    return float(element.get(name, "").removesuffix("%"))


def titles(chart: str) -> list[str]:
    return [each.text or "" for each in ElementTree.fromstring(chart).iter(f"{SPACE}title")]


@given(values=st.lists(SIZES, min_size=1, max_size=30))
def test_bars_are_proportional_to_their_values(values: list[float]) -> None:
    bars = marks(bars_chart([Bar(label="x", value=each) for each in values], title="t", unit="it/s"), "bar")
    widths = [share(bar, "width") for bar in bars]
    assert max(widths) == pytest.approx(100 / 1.01, abs=0.01)
    for width, value in zip(widths, values, strict=True):
        assert width == pytest.approx(max(widths) * value / max(values), abs=0.02)


def test_whiskers_go_from_the_slowest_run_to_the_fastest() -> None:
    chart = bars_chart([Bar(label="x", value=20, low=10, high=40)], title="t", unit="it/s")
    across, slowest, fastest = marks(chart, "whisker")
    (bar,) = marks(chart, "bar")
    assert share(slowest, "x1") == share(across, "x1") == pytest.approx(share(bar, "width") / 2, abs=0.02)
    assert share(fastest, "x1") == share(across, "x2") == pytest.approx(share(bar, "width") * 2, abs=0.02)
    assert "10.0–40.0" in "".join(ElementTree.fromstring(chart).itertext())


def test_a_row_without_a_figure_says_so_and_has_no_bar() -> None:
    chart = bars_chart([Bar(label="x", value=None), Bar(label="y", value=1)], title="t", unit="GiB")
    assert len(marks(chart, "bar")) == 1
    assert "not measured" in chart


@given(parts=st.lists(st.dictionaries(st.sampled_from(PHASES), SIZES), min_size=1, max_size=6))
def test_phases_stand_end_to_end_and_end_at_the_total(parts: list[dict[str, float]]) -> None:
    chart = phases_chart([Stack(label=str(index), phases=each) for index, each in enumerate(parts)], title="t")
    segments = marks(chart, "seg")
    longest = max(sum(each.values()) for each in parts) or 1.0
    for each in parts:
        end = 0.0
        for phase in sorted(each, key=PHASES.index):
            segment = segments.pop(0)
            assert phase in segment.get("class", "").split()
            assert share(segment, "x") == pytest.approx(end, abs=0.02)
            end = share(segment, "x") + share(segment, "width")
        assert end == pytest.approx(100 * sum(each.values()) / longest, abs=0.02)
    assert segments == []


def test_curves_rise_with_their_values_and_identical_lies_above_all() -> None:
    places: Sequence[tuple[float, float | None]] = [(5, 20.0), (10, 30.0), (20, 60.0), (40, None)]
    dots = dots_of(curves_chart([Curve(label="x", places=places)], title="t", x_name="steps", y_name="PSNR"))
    xs, ys = [share(dot, "x") for dot in dots], [float(dot.get("y", "")) for dot in dots]
    assert (xs[2] - xs[1]) / (xs[1] - xs[0]) == pytest.approx(2, abs=0.01)
    assert (ys[1] - ys[2]) / (ys[0] - ys[1]) == pytest.approx(3, abs=0.02)
    assert ys[3] < ys[2]


def test_a_dot_lies_on_the_line_of_its_tick() -> None:
    chart = curves_chart(
        [Curve(label="x", places=[(1, 20.0), (2, 40.0), (3, None)])], title="t", x_name="a", y_name="b"
    )
    lines = {float(line.get("y1", "")) for line in marks(chart, "hair")}
    low, high, _ = (float(dot.get("y", "")) for dot in dots_of(chart))
    assert {low, high} == {max(lines), min(lines)}


def test_curves_of_one_colour_differ_in_their_dashes() -> None:
    curves = [Curve(label=str(index), places=[(1, index), (2, index)]) for index in range(20)]
    lines = marks(curves_chart(curves, title="t", x_name="steps", y_name="SSIM"), "curve")
    assert len({line.get("class") for line in lines}) == 20


@given(names=st.lists(NAMES, min_size=1, max_size=4))
def test_any_name_leaves_charts_well_formed_and_is_whole_in_a_tip(names: list[str]) -> None:
    charts = [
        bars_chart([Bar(label=name, value=2.0, low=1.0, high=3.0, detail=name) for name in names], title="t", unit="s"),
        phases_chart([Stack(label=name, phases={"load": 1.0}) for name in names], title=names[0]),
        curves_chart([Curve(label=name, places=[(1, 2)]) for name in names], title="t", x_name="a", y_name="b"),
    ]
    for chart in charts:
        said = titles(svg.standalone(chart))
        for name in names:
            assert svg.printable(name).replace("\r\n", "\n").replace("\r", "\n") in said


@pytest.mark.parametrize("values", [[0.0], [0.0, 0.0], [1e-9, 1e9]])
def test_figures_without_a_scale_are_drawn_all_the_same(values: list[float]) -> None:
    bars = bars_chart([Bar(label="x", value=each) for each in values], title="t", unit="s")
    stacks = phases_chart([Stack(label="x", phases={"load": each}) for each in values], title="t")
    curves = curves_chart(
        [Curve(label="x", places=[(each, each)]) for each in values], title="t", x_name="a", y_name="b"
    )
    assert all("nan" not in chart and "inf" not in chart.replace("infotext", "") for chart in (bars, stacks, curves))


def test_a_chart_of_nothing_is_a_chart() -> None:
    for chart in (
        bars_chart([], title="t", unit="s"),
        phases_chart([], title="t"),
        curves_chart([], title="t", x_name="a", y_name="b"),
    ):
        assert ElementTree.fromstring(svg.standalone(chart)).tag == f"{SPACE}svg"


def dots_of(chart: str) -> list[Element]:
    """The nested pictures that hold a curve's dots."""
    return [
        each for each in ElementTree.fromstring(chart).iter(f"{SPACE}svg") if each.find(f"{SPACE}circle") is not None
    ]
