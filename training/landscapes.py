"""Draws flat-illustration landscapes of 128×128 pixels, deterministic from their attributes and a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import palette
from objects import OBJECT_PAINTERS, conifer_line
from shapes import SIZE_PX, Canvas, Colour, X, Y, below, capsule, coverage, disc, ellipse, glow, gradient, mix
from world import Landscape

COLUMNS = np.arange(SIZE_PX, dtype=np.float32) + 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What the parts of one picture share."""

    landscape: Landscape
    horizon: float
    """Row where the ground begins."""
    light_x: float
    """Column of the sun or moon."""
    has_snow: bool
    """Whether the mountains have white caps."""


def draw(landscape: Landscape, seed: int) -> np.ndarray:
    """The picture of a landscape.

    Shapes: [128, 128, 3] uint8. Cost: about 9 ms.
    """
    rng = np.random.default_rng(seed)
    horizon = rng.uniform(76, 86)
    peaks = mountain_peaks(rng, horizon)
    light_x, radius = rng.uniform(22, 106), rng.uniform(9.5, 14.5)
    ridge_y = min(top + slope * abs(light_x - x) for x, top, slope in peaks)
    light_y = min(rng.uniform(17, 46), ridge_y + 0.1 * radius)
    canvas = Canvas(np.empty((3, SIZE_PX, SIZE_PX), dtype=np.float32))
    paint_sky(canvas, landscape.time, horizon)
    if landscape.time == "night":
        paint_stars(canvas, rng, (light_x, light_y))
    paint_clouds(canvas, landscape.time, rng)
    paint_light(canvas, landscape, (light_x, light_y, radius), is_crescent=rng.random() < 0.4)
    scene = Scene(landscape=landscape, horizon=horizon, light_x=light_x, has_snow=rng.random() < 0.35)
    paint_mountains(canvas, scene, peaks)
    GROUND_PAINTERS[landscape.foreground](canvas, scene, rng)
    if landscape.object != "none":
        OBJECT_PAINTERS[landscape.object](canvas, landscape, horizon, rng)
    return np.clip(canvas.pixels + 0.5, 0, 255).astype(np.uint8).transpose(1, 2, 0)


def mountain_peaks(rng: np.random.Generator, horizon: float) -> list[tuple[float, float, float]]:
    """Two to four tents of (x of the top, y of the top, slope), back to front."""
    count = int(rng.integers(2, 5))
    centres = (np.arange(count) + rng.uniform(0.2, 0.8, count)) * SIZE_PX / count
    tops = horizon - rng.uniform(20, 44, count)
    slopes = rng.uniform(0.62, 0.95, count)
    order = np.argsort(tops)
    return [(float(centres[i]), float(tops[i]), float(slopes[i])) for i in order]


def paint_sky(canvas: Canvas, time: str, horizon: float) -> None:
    top, middle, low = palette.SKY[time]
    canvas.pixels[:] = gradient([(0, top), (0.55 * horizon, middle), (horizon, low)])[:, :, None]


def paint_stars(canvas: Canvas, rng: np.random.Generator, light: tuple[float, float]) -> None:
    for _ in range(int(rng.integers(5, 11))):
        x, y, size = rng.uniform(4, 124), rng.uniform(4, 46), rng.uniform(0.9, 1.3)
        if np.hypot(x - light[0], y - light[1]) > 22:
            canvas.paint(glow(x, y, size), (255, 248, 220), 0.95)


def paint_light(canvas: Canvas, landscape: Landscape, place: tuple[float, float, float], *, is_crescent: bool) -> None:
    """The sun, or the moon (full or crescent), and its halo."""
    x, y, radius = place
    colour = palette.LIGHT[landscape.light_colour]
    canvas.paint(glow(x, y, 1.7 * radius), colour, 0.5 if landscape.time != "day" else 0.45)
    shape = disc(x, y, radius)
    if landscape.light == "moon" and is_crescent:
        shape = shape * (1.0 - disc(x + 0.5 * radius, y - 0.22 * radius, 0.82 * radius))
    canvas.paint(shape, colour)


def paint_clouds(canvas: Canvas, time: str, rng: np.random.Generator) -> None:
    """Up to three flat bands, each of two round-ended bars."""
    for _ in range(int(rng.integers(0, 4))):
        x, y, length = rng.uniform(6, 122), rng.uniform(10, 38), rng.uniform(8, 17)
        shift = rng.uniform(-6, 6)
        shape = np.maximum(
            capsule((x - length, y), (x + length, y), 2.7),
            capsule((x + shift - 0.5 * length, y - 4), (x + shift + 0.5 * length, y - 4), 2.9),
        )
        canvas.paint(shape, palette.CLOUD[time], 0.8)


def paint_mountains(canvas: Canvas, scene: Scene, peaks: list[tuple[float, float, float]]) -> None:
    """A hazy far range, then the tents with a lit and a shaded face."""
    time = scene.landscape.time
    colour, haze = palette.MOUNTAINS[time][scene.landscape.mountains], palette.HAZE[time]
    phase = peaks[0][0]
    far = scene.horizon - 17 + 4.5 * np.sin((COLUMNS + phase) / 11) + 3 * np.sin((COLUMNS - 2 * phase) / 6.5)
    canvas.paint(below(far.astype(np.float32)), mix(colour, haze, 0.38))
    for x, top, slope in peaks:
        depth = 0.18 * (1.0 - (top - peaks[0][1]) / (peaks[-1][1] - peaks[0][1] + 1e-6))
        paint_tent(canvas, scene, (x, top, slope), mix(colour, haze, depth))


def paint_tent(canvas: Canvas, scene: Scene, tent: tuple[float, float, float], colour: Colour) -> None:
    """One mountain: its face away from the light darker, the border between the faces a zigzag."""
    x, top, slope = tent
    inside = coverage((Y - top - slope * np.abs(X - x)) / np.hypot(1.0, slope))
    zigzag = 2.2 * (np.abs((Y - top) / 9.0 % 2 - 1) - 0.5) * np.clip((Y - top) / 6, 0, 1)
    edge = (X - x - zigzag) if scene.light_x < x else (x - zigzag - X)
    shaded = inside * coverage(edge - 0.18 * (Y - top))
    canvas.paint(inside, colour)
    canvas.paint(shaded, mix(colour, (12, 12, 48), 0.24))
    if scene.has_snow:
        cap = inside * coverage(top + 10 + 2.4 * np.abs((X - x) / 4.0 % 2 - 1) - Y)
        white = palette.SHADE[scene.landscape.time]
        canvas.paint(cap, white)
        canvas.paint(cap * shaded, mix(white, colour, 0.3))


def paint_sea(canvas: Canvas, scene: Scene, rng: np.random.Generator) -> None:
    """Water, a few long waves and the light's path on it."""
    far, near = palette.GROUND[scene.landscape.time]["sea"]
    canvas.paint(
        below(np.full(SIZE_PX, scene.horizon, dtype=np.float32)), gradient([(scene.horizon, far), (SIZE_PX, near)])
    )
    for y in (scene.horizon + 14, scene.horizon + 28, scene.horizon + 41):
        x, length = rng.uniform(12, 116), rng.uniform(12, 24)
        canvas.paint(ellipse(x, y + rng.uniform(-3, 3), length, 1.5), mix(far, (255, 255, 255), 0.25), 0.6)
    colour = palette.LIGHT[scene.landscape.light_colour]
    for step in range(5):
        y = scene.horizon + 3 + 6.5 * step
        half = (11 - 1.4 * step) * rng.uniform(0.75, 1.15)
        canvas.paint(ellipse(scene.light_x + rng.uniform(-1.5, 1.5), y, half, 1.7), colour, 0.85 - 0.1 * step)


def paint_dunes(canvas: Canvas, scene: Scene, rng: np.random.Generator) -> None:
    """Three rolling layers, each with a shaded side behind its crest (desert and snow)."""
    light, shade = palette.GROUND[scene.landscape.time][scene.landscape.foreground]
    for step in range(3):
        base = scene.horizon + 2 + 15 * step
        crest_x, amplitude, width = rng.uniform(14, 114), rng.uniform(5, 10), rng.uniform(20, 34)
        line = base - amplitude * np.exp(-(((COLUMNS - crest_x) / width) ** 2)) + 1.5 * np.sin(COLUMNS / 17 + step)
        body = below(line.astype(np.float32))
        canvas.paint(body, mix(light, shade, 0.28 * (2 - step) / 2))
        away = X - crest_x if scene.light_x < crest_x else crest_x - X
        curve = 0.9 * (Y - base + amplitude) + 4 * np.sin((Y - base) / 9)
        canvas.paint(body * coverage((away - curve) / 1.4), mix(shade, light, 0.1))


def paint_meadow(canvas: Canvas, scene: Scene, rng: np.random.Generator) -> None:
    """Three soft hills and a few flowers."""
    light, shade = palette.GROUND[scene.landscape.time]["meadow"]
    for step in range(3):
        phase, length = rng.uniform(0, 6.3), rng.uniform(17, 27)
        line = scene.horizon + 2 + 14 * step + 4 * np.sin(COLUMNS / length + phase)
        tone = mix(light, shade, 0.5 * step)
        toward = gradient(
            [(0, tone), (scene.horizon + 14 * step, tone), (scene.horizon + 14 * step + 40, mix(tone, shade, 0.6))]
        )
        canvas.paint(below(line.astype(np.float32)), toward)
    flower = ((255, 236, 120), (255, 255, 255), (250, 130, 150))[int(rng.integers(3))]
    for _ in range(int(rng.integers(4, 9))):
        place = rng.uniform(4, 124), rng.uniform(scene.horizon + 22, 125)
        canvas.paint(disc(*place, 1.7), palette.lit(flower, scene.landscape.time), 0.9)


def paint_forest(canvas: Canvas, scene: Scene, rng: np.random.Generator) -> None:
    """A back and a front row of conifers."""
    back, front = palette.GROUND[scene.landscape.time]["forest"]
    for step, colour in enumerate((back, mix(back, front, 0.5), front)):
        base = scene.horizon + 8 + 14 * step
        line = conifer_line(rng, base, spacing=12 + 2.5 * step, height=13 + 3 * step)
        canvas.paint(below(line), colour)


GROUND_PAINTERS = {
    "sea": paint_sea,
    "desert": paint_dunes,
    "snow": paint_dunes,
    "meadow": paint_meadow,
    "forest": paint_forest,
}
