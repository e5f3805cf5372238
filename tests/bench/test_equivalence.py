"""Measures of difference, against SciPy's filters and the formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from hayate.bench.equivalence import compare, psnr, ssim


def picture(seed: int, shape: tuple[int, ...] = (24, 31, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def reference_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """Wang et al. 2004 by SciPy's Gaussian filter of 11×11, over the windows that lie inside."""
    values = []
    for channel in range(3):
        a, b = x[..., channel].astype(float), y[..., channel].astype(float)

        def mean(of: np.ndarray) -> np.ndarray:
            return gaussian_filter(of, 1.5, radius=5)[5:-5, 5:-5]

        ma, mb = mean(a), mean(b)
        va, vb, cov = mean(a * a) - ma * ma, mean(b * b) - mb * mb, mean(a * b) - ma * mb
        c1, c2 = 6.5025, 58.5225
        values.append((((2 * ma * mb + c1) * (2 * cov + c2)) / ((ma**2 + mb**2 + c1) * (va + vb + c2))).mean())
    return float(np.mean(values))


@pytest.mark.parametrize("seed", range(4))
def test_ssim_is_that_of_the_paper(seed: int) -> None:
    x = picture(seed)
    near = np.clip(x.astype(int) + np.random.default_rng(9).integers(-20, 21, x.shape), 0, 255).astype(np.uint8)
    assert ssim(x, near) == pytest.approx(reference_ssim(x, near), abs=1e-12)
    assert ssim(x, picture(seed + 50)) == pytest.approx(reference_ssim(x, picture(seed + 50)), abs=1e-12)


@given(levels=st.integers(1, 100))
def test_psnr_of_a_constant_shift_is_known(levels: int) -> None:
    x = np.full((4, 5, 3), 100, np.uint8)
    assert psnr(x + np.uint8(levels), x) == pytest.approx(20 * math.log10(255 / levels))


def test_the_worst_picture_counts() -> None:
    expected = np.stack([picture(0), picture(1)])
    actual = expected.copy()
    actual[1, 3, 4, 0] ^= 128
    found = compare(actual, expected)
    assert found.max_levels == 128
    assert found.psnr_db == pytest.approx(psnr(actual[1], expected[1]))
    assert found.ssim < 1
    assert not found.at_least_db(found.psnr_db + 0.1)
    same = compare(expected, expected)
    assert (same.psnr_db, same.ssim, same.max_levels) == (None, 1.0, 0)
    assert same.at_least_db(200)
