"""Drawing in SVG text: escaping, clipping, numbers and ticks; no library and no script.

Every horizontal place is a share of the width and every vertical one is in pixels, so that a chart fills whatever width
it gets while its text keeps its size. A mark that needs pixels in both directions stands in a nested `<svg>`, whose
corner lies at a share of the width (`pinned`).
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from html import escape as escape_markup
from importlib.resources import files

NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What an XML document may not hold, not even escaped (XML 1.0, section 2.2); half a surrogate pair is among it."""


def escape(value: object) -> str:
    """`value` as text that is safe between tags and inside quoted attributes, whatever it holds."""
    return escape_markup(printable(str(value)), quote=True)


def printable(text: str) -> str:
    """`text` with a replacement character for each that no page may hold."""
    return NOT_XML.sub("\ufffd", text)


def shorten(text: str, columns: int) -> str:
    """`text` on one line of at most `columns` columns, with its middle left out: settings differ at both ends."""
    line = " ".join(text.split())
    if sum(map(_columns, line)) <= columns:
        return line
    head = _fitting(line, (columns - 1) * 2 // 3)
    tail = _fitting(line[::-1], columns - 1 - sum(map(_columns, head)))[::-1]
    return f"{head.rstrip()}…{tail.lstrip()}"


def words(x: str, y: float, text: object, *, css: str = "", anchor: str = "start") -> str:
    """One line of text that begins, is centred or ends at `x`."""
    return f'<text x="{x}" y="{y:.1f}" class="{css}" text-anchor="{anchor}">{escape(text)}</text>'


def name(x: str, y: float, text: str, *, width: str, columns: tuple[int, int], css: str = "") -> str:
    """A name that somebody chose, held inside `width`: shorter on a narrow chart, and whole in its tip."""
    narrow, wide = (shorten(text, limit) for limit in columns)
    if narrow == wide:
        lines = words("0", 15, wide, css=css)
    else:
        lines = words("0", 15, narrow, css=f"{css} narrow") + words("0", 15, wide, css=f"{css} wide")
    box = f'<svg x="{x}" y="{y - 15:.1f}" width="{width}" height="20" class="held">'
    return f"{box}<g>{tip(text)}{lines}</g></svg>"


def tip(text: object) -> str:
    """What a mark says when it is pointed at."""
    return f"<title>{escape(text)}</title>"


def bar(start: float, end: float, y: float, height: float, *, css: str) -> str:
    """A rectangle between two shares of the width."""
    return (
        f'<rect x="{percent(start)}" y="{y:.1f}" width="{percent(max(end - start, 0))}" height="{height:.1f}" '
        f'class="{css}"/>'
    )


def line(start: tuple[float, float], end: tuple[float, float], *, css: str) -> str:
    """A straight line between two places, each a share of the width and a height in pixels."""
    return (
        f'<line x1="{percent(start[0])}" y1="{start[1]:.1f}" x2="{percent(end[0])}" y2="{end[1]:.1f}" class="{css}"/>'
    )


def pinned(x: float, y: float, parts: str) -> str:
    """`parts`, drawn in pixels around a place that is a share of the width."""
    return f'<svg x="{percent(x)}" y="{y:.1f}" overflow="visible">{parts}</svg>'


def frame(title: str, height: float, parts: Iterable[str]) -> str:
    """The chart around its parts, ready to stand in a page that has `style()`."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" role="img" aria-label="{escape(title)}" '
        f'width="100%" height="{height:.0f}">{"".join(parts)}</svg>'
    )


def standalone(chart: str, width_px: int = 760) -> str:
    """A chart as a file of its own, with its own style, margin and background."""
    height = int(re.findall(r' height="(\d+)">', chart)[0]) + 40
    box = f'width="{width_px}" height="{height}"'
    inner = chart.replace('width="100%"', 'x="3%" y="20" width="94%"', 1)
    paper = '<rect width="100%" height="100%" class="paper"/>'
    style_part = f"<style>{style()}svg .wide{{display:inline}}svg .narrow{{display:none}}</style>"
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box}>{style_part}{paper}{inner}</svg>\n'


def style() -> str:
    """The colours and the type of every chart, for light and dark."""
    return files("hayate.bench").joinpath("templates/charts.css").read_text(encoding="utf-8")


def percent(share: float) -> str:
    return f"{100 * share:.2f}%"


def decimals(values: Iterable[float]) -> int:
    """How many decimals a column of numbers gets: three digits for the largest, two for the smallest, at most six."""
    sizes = [abs(value) for value in values if value]
    if not sizes:
        return 0
    wanted = max(2 - math.floor(math.log10(max(sizes))), 1 - math.floor(math.log10(min(sizes))))
    return min(max(wanted, 0), 6)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers, whose first is not above `low` and whose last is not below `high`."""
    if high <= low:
        spare = abs(low) * 0.1 or 1.0
        low, high = low - spare, high + spare
    raw = (high - low) / count
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def tick_names(values: Sequence[float]) -> list[str]:
    """The ticks as text, all with as many decimals as their distance needs."""
    places = max(0, -math.floor(math.log10(values[1] - values[0]) + 1e-9))
    return [f"{value:.{places}f}" for value in values]


def _fitting(text: str, columns: int) -> str:
    """The longest beginning of `text` that fits."""
    used = 0
    for index, character in enumerate(text):
        used += _columns(character)
        if used > columns:
            return text[:index]
    return text


def _columns(character: str) -> int:
    """The columns that a character takes: two for wide scripts and the widest letters, none for what joins another."""
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" or character in "WM@%" else 1
