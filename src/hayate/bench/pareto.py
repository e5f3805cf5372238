"""Speed against picture difference: settings as numbered dots, and a line through those that none beats in both."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from hayate.bench import svg

PLOT_PX = 300
TOP_PX = 30
KEY_ROW_PX = 22
LEFT, DIFFERENT_END, IDENTICAL_START = 0.14, 0.7, 0.78
"""Shares of the width: tick numbers, then pictures that differ, then the band of those that don't."""
DOT_PX = 5
WIDTHS_PX = (340, 560, 760, 1100)
"""Widths that the chart may get, for which the numbers beside the dots must keep apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One setting: how fast it is, and how far its picture is from the reference's."""

    label: str
    speed: float
    psnr_db: float | None
    """None: the picture is identical."""
    mark: str = ""
    """The number beside the dot; by default the place in the sequence, counted from 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Dot:
    """A point and where it is drawn: a share of the width, and pixels."""

    point: Point
    mark: str
    is_best: bool
    x: float
    y: float


def pareto_svg(points: Sequence[Point], *, unit: str = "it/s") -> str:
    """The chart as an SVG file of its own."""
    return svg.standalone(pareto_chart(points, unit=unit))


def pareto_chart(points: Sequence[Point], *, unit: str = "it/s") -> str:
    """The chart for a page: dots, the front as a line, and a key with every name and figure below."""
    speeds = svg.ticks(*_ends([point.speed for point in points]))
    losses = svg.ticks(*_ends([point.psnr_db for point in points if point.psnr_db is not None]), count=4)
    dots = _dots(points, speeds, losses)
    parts = [*_axes(speeds, losses, unit, has_losses=any(point.psnr_db is not None for point in points))]
    best = sorted((dot for dot in dots if dot.is_best), key=lambda dot: (dot.x, -dot.y))
    parts += [svg.line((a.x, a.y), (b.x, b.y), css="front") for a, b in pairwise(best)]
    parts += [_dot(dot, unit) for dot in sorted(dots, key=lambda dot: dot.is_best)]
    parts += _marks(dots)
    key_top = TOP_PX + PLOT_PX + 56
    parts += _key(dots, key_top, unit)
    title = f"Speed against picture difference of {len(points)} settings"
    return svg.frame(title, key_top + KEY_ROW_PX * (len(points) + 1) + 4, parts)


def front(points: Sequence[Point]) -> list[int]:
    """The places of the points that no other beats: none is at least as good in both, and better in one."""
    worth = [(point.speed, math.inf if point.psnr_db is None else point.psnr_db) for point in points]
    return [
        index
        for index, (speed, psnr) in enumerate(worth)
        if not any(other != (speed, psnr) and other[0] >= speed and other[1] >= psnr for other in worth)
    ]


def _ends(values: Sequence[float]) -> tuple[float, float]:
    return (min(values), max(values)) if values else (0.0, 1.0)


def _dots(points: Sequence[Point], speeds: Sequence[float], losses: Sequence[float]) -> list[_Dot]:
    """Where each point lies; equally fast ones with identical pictures stand side by side in their band."""
    best, taken, dots = set(front(points)), [], []
    for index, point in sorted(enumerate(points), key=lambda numbered: numbered[0] not in best):
        y = TOP_PX + PLOT_PX * (speeds[-1] - point.speed) / (speeds[-1] - speeds[0])
        if point.psnr_db is None:
            x = _free_place(y, taken)
            taken.append((x, y))
        else:
            x = LEFT + (DIFFERENT_END - LEFT) * (point.psnr_db - losses[0]) / (losses[-1] - losses[0])
        mark = point.mark or str(index + 1)
        dots.append(_Dot(point=point, mark=mark, is_best=index in best, x=x, y=y))
    return dots


def _free_place(y: float, taken: Sequence[tuple[float, float]]) -> float:
    """The place in the band of identical pictures, nearest to its middle, that has no dot at this height."""
    middle = (IDENTICAL_START + 1) / 2
    places = [middle + step * 0.031 for step in (0, 1, -1, 2, -2, 3, -3)]
    crowd = [sum(abs(x - place) < 0.01 and abs(other - y) < 2 * DOT_PX + 2 for x, other in taken) for place in places]
    return places[crowd.index(min(crowd))]


def _axes(speeds: Sequence[float], losses: Sequence[float], unit: str, *, has_losses: bool) -> Iterator[str]:
    bottom, middle = TOP_PX + PLOT_PX, svg.percent((LEFT + DIFFERENT_END) / 2)
    yield svg.bar(IDENTICAL_START, 1, TOP_PX - 8, PLOT_PX + 16, css="band")
    yield svg.words("0", 12, f"{unit} ↑", css="m")
    yield svg.words(svg.percent((IDENTICAL_START + 1) / 2), bottom + 26, "identical", css="b s", anchor="middle")
    for value, label in zip(speeds, svg.tick_names(speeds), strict=True):
        y = TOP_PX + PLOT_PX * (speeds[-1] - value) / (speeds[-1] - speeds[0])
        yield svg.line((0, y), (1, y), css="hair") + svg.words("0", y - 3, label, css="m s")
    yield svg.words(middle, bottom + 44, "picture: PSNR in dB →", css="m", anchor="middle")
    if not has_losses:
        yield svg.words(middle, bottom + 26, "no picture differs", css="m s", anchor="middle")
        return
    for value, label in zip(losses, svg.tick_names(losses), strict=True):
        x = LEFT + (DIFFERENT_END - LEFT) * (value - losses[0]) / (losses[-1] - losses[0])
        yield svg.words(svg.percent(x), bottom + 26, label, css="m s", anchor="middle")
        yield svg.line((x, bottom), (x, bottom + 8), css="hair")


def _dot(dot: _Dot, unit: str) -> str:
    said = svg.tip(f"{dot.mark}: {dot.point.label}: {dot.point.speed:.4g} {unit}, {_loss(dot.point)}")
    return svg.pinned(dot.x, dot.y, f'<circle r="{DOT_PX}" class="{_css(dot)}">{said}</circle>')


def _css(dot: _Dot) -> str:
    return "best" if dot.is_best else "other"


def _loss(point: Point) -> str:
    return "identical" if point.psnr_db is None else f"{point.psnr_db:.1f} dB"


def _marks(dots: Sequence[_Dot]) -> list[str]:
    """The numbers beside the dots, those of the front first; one that finds no free place is left to the key."""
    parts, taken = [], [_Box(x=dot.x, y=dot.y, left=-DOT_PX, right=DOT_PX, half=DOT_PX) for dot in dots]
    for dot in sorted(dots, key=lambda dot: not dot.is_best):
        for across, down in _ring():
            wide = 7.5 * len(dot.mark) + 2
            box = _Box(x=dot.x, y=dot.y + down, left=across - wide / 2, right=across + wide / 2, half=6)
            if all(box.is_inside(width) and not any(box.meets(other, width) for other in taken) for width in WIDTHS_PX):
                taken.append(box)
                parts.append(_mark(dot, across, down))
                break
    return parts


def _ring() -> Iterator[tuple[float, float]]:
    """Places around a dot, the nearest first, in pixels."""
    for far in (14, 22, 32, 44):
        for across, down in ((1, 0), (-1, 0), (0, -1), (0, 1), (0.8, -0.7), (-0.8, -0.7), (0.8, 0.7), (-0.8, 0.7)):
            yield across * far, down * far


def _mark(dot: _Dot, across: float, down: float) -> str:
    """The number, and a thread back to its dot where it had to go further."""
    reach = math.hypot(across, down)
    thread = ""
    if reach > 18:
        start, end = (DOT_PX + 1) / reach, 1 - 8 / reach
        thread = (
            f'<line x1="{across * start:.1f}" y1="{down * start:.1f}" x2="{across * end:.1f}" y2="{down * end:.1f}" '
            f'class="thread"/>'
        )
    css = "s b" if dot.is_best else "s m"
    return svg.pinned(dot.x, dot.y, thread + svg.words(f"{across:.1f}", down + 4, dot.mark, css=css, anchor="middle"))


def _key(dots: Sequence[_Dot], top: float, unit: str) -> list[str]:
    """Every number with its name and figures, the fastest first; those on the front in bold."""
    places = svg.decimals([dot.point.speed for dot in dots])
    heads = (("80%", unit), ("100%", "PSNR"))
    parts = [svg.words(x, top + 12, head, css="m s", anchor="end") for x, head in heads]
    for index, dot in enumerate(sorted(dots, key=lambda dot: -dot.point.speed)):
        y, css = top + KEY_ROW_PX * (index + 1), "b" if dot.is_best else ""
        disc = f'<circle cx="6" cy="10" r="{DOT_PX}" class="{_css(dot)}"/>'
        parts += [
            svg.pinned(0, y, disc),
            svg.words("50", y + 15, dot.mark, css=css, anchor="end"),
            svg.name("58", y + 15, dot.point.label, width="50%", columns=(16, 36)),
            svg.words("80%", y + 15, f"{dot.point.speed:.{places}f}", css=css, anchor="end"),
            svg.words("100%", y + 15, _loss(dot.point), css=css, anchor="end"),
        ]
    return parts


@dataclass(frozen=True, slots=True, kw_only=True)
class _Box:
    """A rectangle around a place that is a share of the width, with its sides in pixels from there."""

    x: float
    y: float
    left: float
    right: float
    half: float

    def is_inside(self, width: float) -> bool:
        """Whether it keeps off the chart's edges and both rows of tick numbers."""
        is_across = self.x * width + self.left > LEFT * width * 0.75 and self.x * width + self.right <= width
        return is_across and self.y - self.half >= 0 and self.y + self.half <= TOP_PX + PLOT_PX + 10

    def meets(self, other: _Box, width: float) -> bool:
        """Whether the two overlap on a chart that is so many pixels wide."""
        start, end = self.x * width + self.left, self.x * width + self.right
        is_beside = start < other.x * width + other.right and other.x * width + other.left < end
        return is_beside and abs(self.y - other.y) < self.half + other.half
