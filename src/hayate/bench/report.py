"""One self-contained HTML page of measurements: a table, charts, and the evidence for every figure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from hayate.bench import svg
from hayate.bench.charts import PHASES, Bar, Stack, bars_chart, phases_chart
from hayate.bench.pareto import Point, pareto_chart
from hayate.bench.rows import Row, Spread, read_row

GIB, MIB = 2**30, 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """Measurements that may be compared: one machine, one model, one picture; the fastest first."""

    work: str
    verdict: str
    rows: tuple[Row, ...]
    charts: tuple[tuple[str, str], ...]
    columns: Mapping[str, Callable[[float | None], str]]
    """How the numbers of each column are written, so that they line up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One computer and its races."""

    name: str
    races: tuple[Race, ...]


def report_page(measurements: Sequence[Mapping[str, object]], title: str) -> str:
    """The page, which needs no network, no script and no other file.

    Shapes: each measurement is a record of the history, as `hayate bench export` writes it.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(_template("report.html"))
    rows = [read_row(measurement) for measurement in measurements]
    page = template.render(
        title=title,
        machines=[_machine(name, those) for name, those in _grouped(rows, lambda row: row.machine)],
        count=len(rows),
        phases=list(PHASES),
        style=svg.style() + _template("report.css"),
        size=_size,
    )
    return svg.printable(page)


def _template(name: str) -> str:
    return files("hayate.bench").joinpath("templates", name).read_text(encoding="utf-8")


def _machine(name: str, rows: Sequence[Row]) -> Machine:
    return Machine(name=name, races=tuple(_race(work, those) for work, those in _grouped(rows, lambda row: row.work)))


def _grouped(rows: Iterable[Row], key: Callable[[Row], str]) -> list[tuple[str, list[Row]]]:
    """The rows that share a key, in the order in which the keys first come."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return list(groups.items())


def _race(work: str, rows: Sequence[Row]) -> Race:
    ordered = sorted(rows, key=lambda row: -(row.speed.median if row.speed else 0.0))
    charts = [
        ("Speed", _speed(ordered)),
        ("Where the time of a picture goes", _phases(ordered)),
        ("Speed against picture difference", _trade(ordered)),
        ("Peak memory", _memory(ordered)),
    ]
    return Race(
        work=work,
        verdict=_verdict(ordered),
        rows=tuple(ordered),
        charts=tuple((title, chart) for title, chart in charts if chart),
        columns=_columns(ordered),
    )


def _verdict(rows: Sequence[Row]) -> str:
    """What the race says, in a sentence; two whose runs overlap are level, and one with an idle switch is out."""
    timed = [(row, row.speed) for row in rows if row.speed and row.speed.median > 0 and not row.has_liar]
    if len(timed) < 2:
        return ""
    (first, fastest), (last, slowest) = timed[0], timed[-1]
    level = [row for row, speed in timed[1:] if _overlap(fastest, speed)]
    if len(level) == len(timed) - 1:
        return "No clear winner: the fastest setting's runs overlap with those of every other."
    words = f"Fastest: {_named(first)}, {fastest.median / slowest.median:.2f} times as fast as {_named(last)}."
    if level:
        words += f" Level with it, since their runs overlap: {', '.join(f'#{row.id}' for row in level)}."
    return words


def _named(row: Row) -> str:
    return f"#{row.id} {svg.shorten(row.setting, 60)}"


def _overlap(one: Spread, other: Spread) -> bool:
    """Whether the slowest run of either is slower than the fastest of the other."""
    lows = [each.median if each.low is None else each.low for each in (one, other)]
    highs = [each.median if each.high is None else each.high for each in (one, other)]
    return max(lows) <= min(highs)


def _speed(rows: Sequence[Row]) -> str:
    bars = [
        Bar(
            label=_label(row),
            value=row.speed.median if row.speed else None,
            low=row.speed.low if row.speed else None,
            high=row.speed.high if row.speed else None,
            detail=f"{sum(name != 'first' for name, _ in row.runs)} runs",
        )
        for row in rows
    ]
    return bars_chart(bars, title="Speed: steps per second, median and spread", unit="it/s")


def _phases(rows: Sequence[Row]) -> str:
    stacks = [Stack(label=_label(row), phases=row.phases) for row in rows if row.phases]
    return phases_chart(stacks, title="Phases of a picture in seconds") if stacks else ""


def _trade(rows: Sequence[Row]) -> str:
    """The scatter of what was compared with the reference; an idle switch has no place among it."""
    points = [
        Point(label=row.setting, speed=row.speed.median, psnr_db=row.difference.psnr_db, mark=row.id)
        for row in rows
        if row.speed and row.difference and not row.has_liar
    ]
    return pareto_chart(points) if len(points) > 1 else ""


def _memory(rows: Sequence[Row]) -> str:
    sizes = [row.peak_bytes for row in rows if row.peak_bytes is not None]
    if not sizes:
        return ""
    unit, one = ("GiB", GIB) if max(sizes) >= GIB else ("MiB", MIB)
    bars = [
        Bar(
            label=_label(row),
            value=None if row.peak_bytes is None else row.peak_bytes / one,
            detail=", ".join(f"{name} {_size(size)}" for name, size in row.memory),
        )
        for row in rows
    ]
    return bars_chart(bars, title="Peak memory", unit=unit)


def _label(row: Row) -> str:
    return f"#{row.id} {'⚠ ' * row.has_liar}{row.setting}"


def _columns(rows: Sequence[Row]) -> dict[str, Callable[[float | None], str]]:
    """One way of writing for each column of the table."""
    speeds = [row.speed.median for row in rows if row.speed]
    images = [row.images.median for row in rows if row.images]
    seconds = [second for row in rows for second in (row.first_s, row.compile_s) if second is not None]
    return {
        "speed": _writer(svg.decimals(speeds)),
        "images": _writer(svg.decimals(images)),
        "seconds": _writer(min(svg.decimals(seconds), 3)),
        "psnr": _writer(1),
        "ssim": _writer(4),
        "levels": _writer(0),
    }


def _writer(places: int) -> Callable[[float | None], str]:
    return lambda value: "–" if value is None else f"{value:.{places}f}"


def _size(size_bytes: float | None) -> str:
    if size_bytes is None:
        return "–"
    return f"{size_bytes / GIB:.2f} GiB" if size_bytes >= GIB else f"{size_bytes / MIB:.0f} MiB"
