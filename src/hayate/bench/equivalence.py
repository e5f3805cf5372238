"""How far pictures are from those that they should be."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

LEVELS = 255
SIGMA_PX, RADIUS_PX = 1.5, 5
"""The window of Wang et al. 2004: a Gaussian over 11×11 pixels."""
C1, C2 = (0.01 * LEVELS) ** 2, (0.03 * LEVELS) ** 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The worst of some pictures against their references."""

    psnr_db: float | None
    """None for the same bits, whose ratio is infinite."""
    ssim: float
    max_levels: int
    """The largest difference of a pixel's channel, of 255."""

    @property
    def is_none(self) -> bool:
        return self.psnr_db is None

    def at_least_db(self, bound_db: float) -> bool:
        """Whether the pictures are at least this close."""
        return self.psnr_db is None or self.psnr_db >= bound_db

    def __str__(self) -> str:
        return "the same bits" if self.psnr_db is None else f"{self.psnr_db:.1f} dB, SSIM {self.ssim:.4f}"


def compare(actual: np.ndarray, expected: np.ndarray) -> Difference:
    """The worst difference of a picture from its reference.

    Shapes: two of [B, H, W, 3] uint8.
    """
    assert actual.shape == expected.shape, "pictures of one size are compared"
    pairs = list(zip(actual, expected, strict=True))
    decibels = [psnr(*pair) for pair in pairs]
    worst = min(decibels)
    return Difference(
        psnr_db=None if worst == math.inf else worst,
        ssim=min(ssim(*pair) for pair in pairs),
        max_levels=int(np.abs(actual.astype(np.int16) - expected).max()),
    )


def psnr(actual: np.ndarray, expected: np.ndarray) -> float:
    """Peak signal-to-noise ratio of one picture in dB; infinite for the same bits."""
    error = np.mean((actual.astype(np.float64) - expected) ** 2)
    return math.inf if error == 0 else 10 * math.log10(LEVELS**2 / error)


def ssim(actual: np.ndarray, expected: np.ndarray) -> float:
    """Structural similarity of one picture, the mean over its channels; 1 for the same bits.

    Shapes: two of [H, W, 3] uint8, 11 pixels or more to a side.
    Source: Wang, Bovik, Sheikh & Simoncelli 2004, equation 13, over all windows that lie inside.
    """
    x, y = (picture.astype(np.float64).transpose(2, 0, 1) for picture in (actual, expected))
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    var_x, var_y = _window_mean(x * x) - mean_x**2, _window_mean(y * y) - mean_y**2
    covariance = _window_mean(x * y) - mean_x * mean_y
    above = (2 * mean_x * mean_y + C1) * (2 * covariance + C2)
    below = (mean_x**2 + mean_y**2 + C1) * (var_x + var_y + C2)
    return float((above / below).mean())


def _window_mean(channels: np.ndarray) -> np.ndarray:
    """Means weighted by the window, of rows and then of columns. Shapes: [C, H, W] → [C, H − 10, W − 10]."""
    offsets = np.arange(-RADIUS_PX, RADIUS_PX + 1)
    weights = np.exp(-(offsets**2) / (2 * SIGMA_PX**2))
    weights /= weights.sum()
    for axis in (1, 2):
        size = channels.shape[axis] - 2 * RADIUS_PX
        parts = (np.take(channels, range(start, start + size), axis) for start in range(len(weights)))
        channels = sum(weight * part for weight, part in zip(weights, parts, strict=True))  # pyright: ignore[reportAssignmentType]
    return channels
