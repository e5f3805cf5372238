"""The charts' colours by other people's yardsticks: WCAG's contrast, and what the colour-blind see."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from hayate.bench import svg

THEMES = [dict(re.findall(r"--(\w+):(#\w+)", block)) for block in re.findall(r":root\{(.*?)\}", svg.style())]
MARKS = ("blue", "orange", "green", "purple", "grey")
SEEN_BY = {
    "most people": np.eye(3),
    "protanopes": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopes": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopes": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
"""Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB."""
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
PLAIN_DIFFERENCE = 15
"""CIE 1976's distance in L*a*b*; about 2.3 is just noticeable."""


def linear(colour: str) -> NDArray[np.float64]:
    """Linear RGB of #fff or #1c232b."""
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    parts = np.frombuffer(bytes.fromhex(digits), dtype=np.uint8) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's ratio of relative luminances."""
    low, high = sorted(float(XYZ[1] @ linear(colour)) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIE L*a*b* of linear RGB under D65."""
    share = XYZ @ np.clip(rgb, 0, 1) / XYZ.sum(axis=1)
    root = np.where(share > 0.008856, np.cbrt(share), 7.787 * share + 16 / 116)
    return np.array([116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])])


def test_the_yardsticks_are_those_of_the_standards() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21, abs=0.01)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
    assert lab(linear("#ff0000")) == pytest.approx([53.24, 80.09, 67.20], abs=0.1)


@pytest.mark.parametrize("theme", THEMES, ids=["light", "dark"])
def test_text_and_marks_have_the_contrast_that_wcag_asks_for(theme: dict[str, str]) -> None:
    """4.5 for text (criterion 1.4.3), 3 for what a figure consists of (1.4.11)."""
    for ground in ("paper", "rail", "band"):
        assert min(contrast(theme[name], theme[ground]) for name in ("ink", "muted", "warn")) >= 4.5, ground
        assert min(contrast(theme[name], theme[ground]) for name in MARKS) >= 3, ground


@pytest.mark.parametrize("eyes", SEEN_BY)
@pytest.mark.parametrize("theme", THEMES, ids=["light", "dark"])
def test_phases_that_touch_each_other_look_different(theme: dict[str, str], eyes: str) -> None:
    in_order = ("grey", "purple", "blue", "orange", "green")
    for phase, name in zip(("load", "encode", "sample", "decode", "save"), in_order, strict=True):
        assert re.search(rf"\.{phase}\b[^}}]*var\(--{name}\)", svg.style())
    seen = [lab(np.array(SEEN_BY[eyes]) @ linear(theme[name])) for name in in_order]
    assert all(np.linalg.norm(one - other) >= PLAIN_DIFFERENCE for one, other in pairwise(seen))
