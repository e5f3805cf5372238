"""Charts of measurements as SVG text: bars with their spread, stacked phases, curves.

Each returns an `<svg>` that fills the width of the page it stands in; `hayate.bench.svg.standalone` makes a file of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from hayate.bench import svg

PHASES = ("load", "encode", "sample", "decode", "save")
ROW_PX = 42
BAR_PX = 13
NAME_COLUMNS = (27, 45)
"""How long a name may be on a chart under 560 px and on a wider one."""
WHISKER_ROOM = 1.01
"""The width over the longest whisker, so that its upright is not cut in half."""
CURVE_PX = 260
IDENTICAL_PX = 52
"""The band above the curves for pictures without any difference, which have no finite PSNR."""
STYLES = 5
"""Colours of curves in the style; further curves begin again with dashes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One measured figure with its spread, where that is known."""

    label: str
    value: float | None
    """None: not measured; the row stays, and says so."""
    low: float | None = None
    high: float | None = None
    detail: str = ""
    """What the bar says when it is pointed at, beside its figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """The phases of one picture.

    Units: seconds.
    """

    label: str
    phases: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A line through measured places; a height of None is "identical", above every number."""

    label: str
    places: Sequence[tuple[float, float | None]]


def bars_chart(bars: Sequence[Bar], *, title: str, unit: str) -> str:
    """Horizontal bars from zero to the median, each with a whisker from the lowest to the highest run."""
    known = [size for each in bars for size in (each.value, each.low, each.high) if size is not None]
    places = svg.decimals([each.value for each in bars if each.value is not None])
    most = max([*known, 0.0]) * WHISKER_ROOM or 1.0
    rows = [_bar_row(each, index * ROW_PX, most, (places, unit)) for index, each in enumerate(bars)]
    return svg.frame(title, ROW_PX * len(bars) + 4, rows)


def phases_chart(stacks: Sequence[Stack], *, title: str) -> str:
    """Horizontal bars of seconds, divided into the phases of a picture."""
    totals = [sum(each.phases.values()) for each in stacks]
    places, most = svg.decimals(totals), max([*totals, 0.0]) or 1.0
    parts = [_legend()]
    for index, (each, total) in enumerate(zip(stacks, totals, strict=True)):
        top = 30 + index * ROW_PX
        figure = svg.words("100%", top + 15, f"{total:.{places}f} s", css="b", anchor="end")
        parts += [_row_name(each.label, top), figure, _stack(each, top + 22, most)]
    return svg.frame(title, 30 + ROW_PX * len(stacks) + 4, parts)


def curves_chart(curves: Sequence[Curve], *, title: str, x_name: str, y_name: str) -> str:
    """Lines over a common pair of axes, with their names below; an identical picture lies in a band at the top."""
    marked = [place for curve in curves for place in curve.places]
    xs = svg.ticks(*_ends([x for x, _ in marked]))
    ys = svg.ticks(*_ends([y for _, y in marked if y is not None]))
    has_identical = any(y is None for _, y in marked)
    top = 28 + (IDENTICAL_PX if has_identical else 0)

    def place(x: float, y: float | None) -> tuple[float, float]:
        """A share of the width, and pixels."""
        across = 0.1 + 0.87 * (x - xs[0]) / (xs[-1] - xs[0])
        return across, top - IDENTICAL_PX / 2 if y is None else top + CURVE_PX * (ys[-1] - y) / (ys[-1] - ys[0])

    parts = [svg.words("0", 12, f"{y_name} ↑", css="m"), *_grid(ys, top, CURVE_PX)]
    if has_identical:
        parts += [svg.words("0", top - IDENTICAL_PX / 2 + 4, "identical", css="m s")]
    parts += [
        svg.words(svg.percent(place(x, None)[0]), top + CURVE_PX + 18, label, css="m s", anchor="middle")
        for x, label in zip(xs, svg.tick_names(xs), strict=True)
    ]
    parts.append(svg.words("100%", top + CURVE_PX + 38, f"{x_name} →", css="m", anchor="end"))
    for index, curve in enumerate(curves):
        parts.append(_curve(curve, [place(x, y) for x, y in curve.places], index, (x_name, y_name)))
        parts.append(_curve_name(curve, index, top + CURVE_PX + 48 + index * 22))
    return svg.frame(title, top + CURVE_PX + 54 + 22 * len(curves), parts)


def _bar_row(each: Bar, top: float, most: float, style: tuple[int, str]) -> str:
    places, unit = style
    if each.value is None:
        return _row_name(each.label, top) + svg.words("100%", top + 15, "not measured", css="m", anchor="end")
    figure = f"{each.value:.{places}f} {unit}"
    spread = "" if each.low is None or each.high is None else f"{each.low:.{places}f}–{each.high:.{places}f}"
    spread_part = f'<tspan class="m s wide">{spread}\N{EN SPACE}</tspan>' if spread else ""
    value = (
        f'<text x="100%" y="{top + 15}" text-anchor="end">{spread_part}'
        f'<tspan class="b">{svg.escape(figure)}</tspan></text>'
    )
    shape = svg.bar(0, 1, top + 22, BAR_PX, css="rail") + svg.bar(0, each.value / most, top + 22, BAR_PX, css="bar")
    if each.low is not None and each.high is not None:
        shape += _whisker(each.low / most, each.high / most, top + 22)
    said = svg.tip(f"{each.label}: {'; '.join(part for part in (figure, spread, each.detail) if part)}")
    return f"{_row_name(each.label, top)}{value}<g>{said}{shape}</g>"


def _row_name(label: str, top: float) -> str:
    return svg.name("0", top + 15, label, width="64%", columns=NAME_COLUMNS)


def _whisker(low: float, high: float, top: float) -> str:
    """From the lowest to the highest run, with a short upright at both ends."""
    middle = top + BAR_PX / 2
    ends = [svg.line((x, top + 2), (x, top + BAR_PX - 2), css="whisker") for x in (low, high)]
    return "".join([svg.line((low, middle), (high, middle), css="whisker"), *ends])


def _stack(each: Stack, top: float, most: float) -> str:
    """One row's phases, one after the other; those without a known name come last, in grey."""
    parts, start = [], 0.0
    named = [phase for phase in PHASES if phase in each.phases]
    for phase in [*named, *(phase for phase in each.phases if phase not in PHASES)]:
        seconds = each.phases[phase]
        css = f"seg {phase}" if phase in PHASES else "seg"
        said = svg.tip(f"{each.label}: {phase} {seconds:.3g} s")
        parts.append(f"<g>{said}{svg.bar(start / most, (start + seconds) / most, top, BAR_PX, css=css)}</g>")
        start += seconds
    return svg.bar(0, 1, top, BAR_PX, css="rail") + "".join(parts)


def _legend() -> str:
    """The phases' colours, above the first row."""
    swatch = '<rect y="4" width="10" height="10" rx="2" class="{}"/>'
    return "".join(
        svg.pinned(index / 5, 0, swatch.format(phase) + svg.words("15", 13, phase, css="m s"))
        for index, phase in enumerate(PHASES)
    )


def _ends(values: Sequence[float]) -> tuple[float, float]:
    return (min(values), max(values)) if values else (0.0, 1.0)


def _grid(values: Sequence[float], top: float, height: float) -> list[str]:
    """A hair line for each tick, with its number above its left end."""
    parts = []
    for value, label in zip(values, svg.tick_names(values), strict=True):
        y = top + height * (values[-1] - value) / (values[-1] - values[0])
        parts += [svg.line((0, y), (1, y), css="hair"), svg.words("0", y - 3, label, css="m s")]
    return parts


def _curve(curve: Curve, places: Sequence[tuple[float, float]], index: int, names: tuple[str, str]) -> str:
    """The line in its own colour, and a dot that can be pointed at for every measured place."""
    css = _curve_css(index)
    parts = [svg.line(here, there, css=f"curve {css}") for here, there in pairwise(places)]
    for (x, y), (across, down) in zip(curve.places, places, strict=True):
        height = "identical" if y is None else f"{names[1]} {y:.4g}"
        said = svg.tip(f"{curve.label}: {names[0]} {x:g}, {height}")
        parts.append(svg.pinned(across, down, f'<circle r="4" class="dot {css}">{said}</circle>'))
    return "".join(parts)


def _curve_name(curve: Curve, index: int, top: float) -> str:
    sample = f'<line y1="10" x2="22" y2="10" class="curve {_curve_css(index)}"/>'
    return svg.pinned(0, top, sample) + svg.name("30", top + 15, curve.label, width="85%", columns=(38, 76))


def _curve_css(index: int) -> str:
    return f"c{index % STYLES}" + (f" d{index // STYLES % 3}" if index >= STYLES else "")
