"""The difference of two models as a picture: a bar for each block, as SVG or PNG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hayate.bench.svg import escape, shorten, ticks
from hayate.weights.differences import Differences

if TYPE_CHECKING:
    from PIL.Image import Image

WIDTH_PX, HEIGHT_PX = 900, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 20, 56, 56
_INK, _PALE, _PAPER = "#1f2430", "#d9dde4", "#ffffff"
_COLOURS = {"IN": "#3867b5", "M0": "#c2571a", "OU": "#2e8a57"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Box:
    x: float
    y: float
    width: float
    height: float
    colour: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Words:
    x: float
    y: float
    text: str
    anchor: str
    size_px: int = 12


def chart_svg(found: Differences, names: tuple[str, str]) -> str:
    """The chart as an SVG file's text."""
    parts = [f'<rect width="100%" height="100%" fill="{_PAPER}"/>']
    for each in _drawn(found, names):
        if isinstance(each, _Box):
            place = f'x="{each.x:.1f}" y="{each.y:.1f}" width="{each.width:.1f}" height="{each.height:.1f}"'
            parts.append(f'<rect {place} fill="{each.colour}"/>')
        else:
            anchor = {"l": "start", "m": "middle", "r": "end"}[each.anchor]
            how = f'font-size="{each.size_px}" text-anchor="{anchor}" fill="{_INK}"'
            parts.append(f'<text x="{each.x:.1f}" y="{each.y:.1f}" {how}>{escape(each.text)}</text>')
    box = f'viewBox="0 0 {WIDTH_PX} {HEIGHT_PX}" width="{WIDTH_PX}" height="{HEIGHT_PX}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-family="sans-serif">{"".join(parts)}</svg>\n'


def chart_picture(found: Differences, names: tuple[str, str]) -> Image:
    """The chart as a picture."""
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.new("RGB", (WIDTH_PX, HEIGHT_PX), _PAPER)
    draw = ImageDraw.Draw(picture)
    for each in _drawn(found, names):
        if isinstance(each, _Box):
            draw.rectangle((each.x, each.y, each.x + each.width, each.y + each.height), fill=each.colour)
        else:
            font = ImageFont.load_default(each.size_px)
            draw.text((each.x, each.y), each.text, fill=_INK, font=font, anchor=f"{each.anchor}s")
    return picture


def _drawn(found: Differences, names: tuple[str, str]) -> Sequence[_Box | _Words]:
    """Everything on the chart, from the back to the front."""
    finite = [each.relative for each in found.blocks.values() if math.isfinite(each.relative)]
    scale = ticks(0, max(finite, default=0.0) or 1.0)
    high = HEIGHT_PX - _TOP - _BOTTOM
    drawn: list[_Box | _Words] = [_Words(x=_LEFT, y=24, text=_title(names), anchor="l", size_px=15)]
    drawn.append(_Words(x=_LEFT, y=44, text=_summary(found), anchor="l"))
    for tick in scale:
        y = HEIGHT_PX - _BOTTOM - high * tick / scale[-1]
        drawn.append(_Box(x=_LEFT, y=y, width=WIDTH_PX - _LEFT - _RIGHT, height=1, colour=_PALE))
        drawn.append(_Words(x=_LEFT - 6, y=y + 4, text=f"{100 * tick:g} %", anchor="r"))
    step = (WIDTH_PX - _LEFT - _RIGHT) / len(found.blocks)
    for place, (block, each) in enumerate(found.blocks.items()):
        share = min(each.relative / scale[-1], 1.0)
        x, height = _LEFT + place * step, high * share
        base = HEIGHT_PX - _BOTTOM
        if height >= 0.5:
            drawn.append(_Box(x=x + 3, y=base - height, width=step - 6, height=height, colour=_COLOURS[block[:2]]))
        drawn.append(_Words(x=x + step / 2, y=base + 16, text=block.removeprefix("IN").removeprefix("OUT"), anchor="m"))
    return [*drawn, *_ways(list(found.blocks), step)]


def _ways(blocks: Sequence[str], step: float) -> list[_Words]:
    """IN, M and OUT below the numbers of their blocks."""
    words = []
    for start, title in (("IN", "IN"), ("M", "middle"), ("OUT", "OUT")):
        places = [place for place, block in enumerate(blocks) if block.startswith(start)]
        x = _LEFT + step * (places[0] + places[-1] + 1) / 2
        words.append(_Words(x=x, y=HEIGHT_PX - _BOTTOM + 38, text=title, anchor="m"))
    return words


def _title(names: tuple[str, str]) -> str:
    return f"{shorten(names[1], 44)} beside {shorten(names[0], 44)}"


def _summary(found: Differences) -> str:
    shown = ", ".join(f"{part} {percent(each.relative)}" for part, each in found.parts.items())
    return f"relative difference by block of the U-Net; {shown}"


def percent(relative: float) -> str:
    """A relative difference for reading."""
    return f"{100 * relative:.3g} %" if math.isfinite(relative) else "all"
