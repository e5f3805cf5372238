"""The things that may stand in a landscape: a boat, a house, a cactus, pines."""

from __future__ import annotations

import numpy as np
import palette
from shapes import SIZE_PX, Canvas, Colour, Y, box, capsule, coverage, ellipse, mix, polygon
from world import Landscape

COLUMNS = np.arange(SIZE_PX, dtype=np.float32) + 0.5


def conifer_line(rng: np.random.Generator, base: float, *, spacing: float, height: float) -> np.ndarray:
    """The upper outline of a row of conifers. Shapes: [128] float32."""
    centres = np.arange(-spacing, SIZE_PX + spacing, spacing) + rng.uniform(0, spacing)
    centres = centres + rng.uniform(-0.18, 0.18, centres.size) * spacing
    tops = base - height * rng.uniform(0.75, 1.15, centres.size)
    tents = tops[:, None] + 2.3 * np.abs(COLUMNS[None] - centres[:, None])
    return np.minimum(tents.min(axis=0), base).astype(np.float32)


def paint_boat(canvas: Canvas, landscape: Landscape, horizon: float, rng: np.random.Generator) -> None:
    """A sailing boat."""
    x, y, s = rng.uniform(26, 102), rng.uniform(horizon + 18, 114), rng.uniform(0.9, 1.25)
    sail = palette.lit(palette.SAILS[int(rng.integers(len(palette.SAILS)))], landscape.time)
    d = s if rng.random() < 0.5 else -s
    hull = palette.lit(palette.HULL, landscape.time)
    canvas.paint(ellipse(x, y + 6.5 * s, 15 * s, 2.2), palette.GROUND[landscape.time]["sea"][1], 0.6)
    canvas.paint(box(x - 0.9, y - 25 * s, x + 0.9, y + s), hull)
    canvas.paint(polygon([(x + 2 * d, y - 24 * s), (x + 2 * d, y - 3 * s), (x + 15 * d, y - 3 * s)]), sail)
    canvas.paint(
        polygon([(x - 2 * d, y - 20 * s), (x - 2 * d, y - 3 * s), (x - 10 * d, y - 3 * s)]), mix(sail, hull, 0.22)
    )
    canvas.paint(
        polygon([(x - 15 * s, y), (x + 15 * s, y), (x + 10 * s, y + 6.5 * s), (x - 10 * s, y + 6.5 * s)]), hull
    )


def paint_house(canvas: Canvas, landscape: Landscape, horizon: float, rng: np.random.Generator) -> None:
    """A house with a door and a window, lit from sunset on; by the sea it stands on an island."""
    x, y, s = rng.uniform(26, 102), rng.uniform(horizon + 20, 112), rng.uniform(0.95, 1.25)
    if landscape.foreground == "sea":
        y -= 4
        paint_island(canvas, landscape.time, x, y, 27 * s)
    wall = palette.lit(palette.WALLS[int(rng.integers(len(palette.WALLS)))], landscape.time)
    roof = palette.lit(palette.ROOFS[int(rng.integers(len(palette.ROOFS)))], landscape.time)
    canvas.paint(box(x + 5 * s, y - 25 * s, x + 9 * s, y - 14 * s), mix(roof, wall, 0.3))
    canvas.paint(box(x - 12 * s, y - 14 * s, x + 12 * s, y + 2), wall)
    canvas.paint(polygon([(x - 15 * s, y - 13 * s), (x, y - 25 * s), (x + 15 * s, y - 13 * s)]), roof)
    canvas.paint(box(x - 8 * s, y - 9 * s, x - 2.5 * s, y + 2), mix(roof, (40, 24, 24), 0.45))
    canvas.paint(box(x + 2.5 * s, y - 9.5 * s, x + 8.5 * s, y - 3.5 * s), palette.WINDOW[landscape.time])


def paint_cactus(canvas: Canvas, landscape: Landscape, horizon: float, rng: np.random.Generator) -> None:
    """A saguaro with two arms."""
    x, y, s = rng.uniform(24, 104), rng.uniform(horizon + 22, 118), rng.uniform(0.95, 1.3)
    colour = palette.lit(palette.CACTUS, landscape.time)
    d = s if rng.random() < 0.5 else -s
    shape = capsule((x, y), (x, y - 31 * s), 4.2 * s)
    for side, low, high in ((-d, 11, 23), (d, 15, 27)):
        elbow = (x + 10 * side, y - low * s)
        shape = np.maximum(shape, capsule((x, y - low * s), elbow, 2.8 * s))
        shape = np.maximum(shape, capsule(elbow, (x + 10 * side, y - high * s), 2.8 * s))
    shape = shape * coverage(y - Y)
    canvas.paint(
        ellipse(x, y, 12 * s, 2.2), mix(palette.GROUND[landscape.time][landscape.foreground][1], (20, 20, 40), 0.25)
    )
    canvas.paint(shape, colour)
    stripe = capsule((x + 1.6 * d, y - 3), (x + 1.6 * d, y - 30 * s), 1.2) * coverage(y - Y)
    canvas.paint(stripe, mix(colour, palette.SHADE[landscape.time], 0.3))


def paint_pines(canvas: Canvas, landscape: Landscape, horizon: float, rng: np.random.Generator) -> None:
    """Two or three tall pines in a group; by the sea they stand on an island."""
    count = int(rng.integers(2, 4))
    x, y = rng.uniform(30, 98), rng.uniform(horizon + 22, 116)
    if landscape.foreground == "sea":
        y -= 6
        paint_island(canvas, landscape.time, x, y, 32)
    colour = palette.lit(palette.PINE, landscape.time)
    offsets = (np.arange(count) - (count - 1) / 2) * rng.uniform(15, 18)
    for offset, s in zip(offsets, rng.uniform(0.8, 1.2, count), strict=True):
        paint_pine(canvas, landscape.time, (x + offset, y + rng.uniform(-2, 3), s), colour)


def paint_pine(canvas: Canvas, time: str, place: tuple[float, float, float], colour: Colour) -> None:
    """One pine of three stacked crowns, its right side lighter."""
    x, y, s = place
    canvas.paint(box(x - 1.8 * s, y - 8 * s, x + 1.8 * s, y + 1), palette.lit(palette.TRUNK, time))
    bright = mix(colour, palette.SHADE[time], 0.16)
    for low, high, half in ((6, 21, 10), (15, 31, 8), (25, 41, 6)):
        corners = [(x - half * s, y - low * s), (x, y - high * s), (x + half * s, y - low * s)]
        canvas.paint(polygon(corners), colour)
        canvas.paint(polygon([(x, y - low * s), corners[1], corners[2]]), bright)


def paint_island(canvas: Canvas, time: str, x: float, y: float, half_width: float) -> None:
    """A flat hump of sand in the water."""
    sand = palette.lit(palette.ISLAND, time)
    canvas.paint(ellipse(x, y + 3, half_width, 7) * coverage(y + 5 - Y), sand)
    canvas.paint(ellipse(x, y + 5, half_width, 1.6), mix(sand, (255, 255, 255), 0.35), 0.8)


OBJECT_PAINTERS = {"boat": paint_boat, "house": paint_house, "cactus": paint_cactus, "pines": paint_pines}
