"""Shapes as coverage: how much of every pixel a shape covers, from its signed distance, so that edges are smooth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SIZE_PX = 128
Y, X = np.mgrid[0:SIZE_PX, 0:SIZE_PX].astype(np.float32) + 0.5
"""Pixel centres."""

Colour = tuple[float, float, float]
Point = tuple[float, float]


class Canvas:
    """A picture that is painted back to front.

    Shapes: pixels [3, 128, 128] float32. Units: 0…255.
    """

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels

    def paint(self, coverage: np.ndarray, colour: Colour | np.ndarray, opacity: float = 1.0) -> None:
        """Lay `colour` over the picture where `coverage` is above 0."""
        rows = np.flatnonzero(coverage.max(axis=1))
        if rows.size == 0:
            return
        part = slice(rows[0], rows[-1] + 1)
        paint = np.asarray(colour, dtype=np.float32).reshape(3, -1, 1)
        paint = paint if paint.shape[1] == 1 else paint[:, part]
        target = self.pixels[:, part]
        target += (coverage[part] * np.float32(opacity)) * (paint - target)


def coverage(distance: np.ndarray) -> np.ndarray:
    """Coverage of pixels at a signed `distance` inside an edge. Units: pixels, positive inside."""
    return np.clip(distance + 0.5, 0.0, 1.0)


def below(line: np.ndarray) -> np.ndarray:
    """All below the curve y = `line`(x). Shapes: line [128] → [128, 128]."""
    slope = np.gradient(line)
    return coverage((Y - line[None]) / np.sqrt(1.0 + slope * slope)[None])


def disc(x: float, y: float, radius: float) -> np.ndarray:
    """A filled circle."""
    return coverage(radius - np.hypot(X - x, Y - y))


def glow(x: float, y: float, radius: float) -> np.ndarray:
    """A soft Gaussian spot."""
    return np.exp(-((X - x) ** 2 + (Y - y) ** 2) / (2.0 * radius * radius))


def ellipse(x: float, y: float, half_width: float, half_height: float) -> np.ndarray:
    """A filled ellipse (its distance is exact only to first order)."""
    u, v = (X - x) / half_width, (Y - y) / half_height
    norm = np.sqrt(u * u + v * v) + 1e-6
    gradient = np.sqrt((u / half_width) ** 2 + (v / half_height) ** 2) / norm + 1e-6
    return coverage((1.0 - norm) / gradient)


def capsule(start: Point, end: Point, radius: float) -> np.ndarray:
    """A thick line with round ends."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    along = np.clip(((X - start[0]) * dx + (Y - start[1]) * dy) / (dx * dx + dy * dy), 0.0, 1.0)
    return coverage(radius - np.hypot(X - start[0] - along * dx, Y - start[1] - along * dy))


def polygon(points: Sequence[Point]) -> np.ndarray:
    """A convex polygon, in either winding."""
    pairs = list(zip(points, [*points[1:], points[0]], strict=True))
    area = sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairs)
    inside = np.full_like(X, np.inf)
    for (x0, y0), (x1, y1) in pairs:
        dx, dy = x1 - x0, y1 - y0
        side = ((X - x0) * -dy + (Y - y0) * dx) / np.hypot(dx, dy)
        inside = np.minimum(inside, side if area > 0 else -side)
    return coverage(inside)


def box(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    """An upright rectangle."""
    return np.outer(coverage_1d(y0, y1), coverage_1d(x0, x1))


def coverage_1d(start: float, end: float) -> np.ndarray:
    """Coverage of 128 unit cells by an interval."""
    edges = np.arange(SIZE_PX, dtype=np.float32)
    return np.clip(np.minimum(edges + 1, end) - np.maximum(edges, start), 0.0, 1.0)


def gradient(stops: Sequence[tuple[float, Colour]]) -> np.ndarray:
    """Colours of the 128 rows, linear between `stops` of (row, colour). Shapes: [3, 128]."""
    rows = np.arange(SIZE_PX, dtype=np.float32) + 0.5
    at = [row for row, _ in stops]
    return np.stack([np.interp(rows, at, [c[i] for _, c in stops]) for i in range(3)]).astype(np.float32)


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """`a` with a `share` of `b`."""
    return (a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share)
