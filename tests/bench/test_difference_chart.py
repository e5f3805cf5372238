"""The chart of two models' difference: valid SVG, the right heights, and names that can't break out."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import numpy as np
import pytest

from hayate.bench.difference_chart import HEIGHT_PX, WIDTH_PX, chart_picture, chart_svg
from hayate.models.config import Family
from hayate.weights.differences import Apart, Differences
from hayate.weights.merge_blocks import BASE, blocks_of


def found(family: Family, values: dict[str, float]) -> Differences:
    def apart(relative: float) -> Apart:
        return Apart(tensors=1, changed=int(relative > 0), relative=relative)

    blocks = {block: apart(values.get(block, 0.0)) for block in blocks_of(family) if block != BASE}
    return Differences(family=family, blocks=blocks, parts={"unet": apart(0.1)}, only_a=(), only_b=(), other_shape=())


def bars(svg: str) -> list[float]:
    """The heights of the coloured bars, from left to right."""
    root = ElementTree.fromstring(svg)
    boxes = [each for each in root if each.tag.endswith("rect") and each.get("fill") not in ("#ffffff", "#d9dde4")]
    return [float(each.get("height", "nan")) for each in sorted(boxes, key=lambda each: float(each.get("x", "nan")))]


@pytest.mark.parametrize("family", [Family.SD1, Family.SDXL])
def test_bars_are_as_high_as_their_blocks_are_apart(family: Family) -> None:
    heights = bars(chart_svg(found(family, {"IN01": 0.1, "M00": 0.2, "OUT02": 0.05}), ("a", "b")))
    assert len(heights) == 3
    assert heights[1] / heights[0] == pytest.approx(2, rel=1e-2)
    assert heights[0] / heights[2] == pytest.approx(2, rel=1e-2)


def test_names_stay_text_and_odd_numbers_stay_on_the_chart() -> None:
    svg = chart_svg(found(Family.SD1, {"IN01": math.inf, "IN02": 0.1}), ('<script>"&', "b" * 500))
    assert "<script" not in svg
    assert all(0 <= height <= HEIGHT_PX for height in bars(svg))
    nothing = chart_svg(found(Family.SD1, {}), ("a", "a"))
    assert bars(nothing) == []


def test_the_picture_has_a_column_of_colour_for_each_block_that_differs() -> None:
    picture = np.asarray(chart_picture(found(Family.SD1, {"IN01": 0.1, "OUT11": 0.1}), ("a", "b")))
    assert picture.shape == (HEIGHT_PX, WIDTH_PX, 3)
    row = picture[HEIGHT_PX // 2].astype(int)
    coloured = np.ptp(row, axis=1) > 60
    assert np.count_nonzero(np.diff(coloured.astype(int)) == 1) == 2
