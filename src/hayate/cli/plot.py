"""`hayate plot`: an X/Y/Z plot, with the time of every cell."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hayate.cli.computing import DEFAULTS, Own
from hayate.cli.generate import progress
from hayate.cli.options import takes_groups
from hayate.cli.requested import ANY, AT_ONCE, FROM_NOISE, Drawn, Enlarged, Started
from hayate.errors import HayateError, UsageError
from hayate.request import TextToImage, validate
from hayate.settings import load_settings

if TYPE_CHECKING:
    from hayate.pipeline.axes import Cell
    from hayate.pipeline.report import Report

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
@takes_groups
def plot(  # noqa: PLR0917 - Typer makes a flag of each
    prompt: Annotated[str, typer.Argument(help="What to draw.")],
    x: Annotated[str | None, typer.Option(help='The columns, such as "Steps=10,20,30" (docs/xyz.md).')] = None,
    y: Annotated[str | None, typer.Option(help='The rows, such as "Sampler=Euler,DPM++ 2M".')] = None,
    z: Annotated[str | None, typer.Option(help="The sheets, one below the other.")] = None,
    drawn: Drawn = ANY,
    started: Started = FROM_NOISE,
    enlarged: Enlarged = AT_ONCE,
    output: Annotated[Path, typer.Option("--output", "-o", help="The sheet, a PNG.")] = Path("plot.png"),
    own: Own = DEFAULTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Make a picture for every combination of two or three axes, and a sheet of them."""
    import secrets

    from hayate.pipeline.axes import MAX_CELLS, Cell, cells, parse_axis
    from hayate.pipeline.png import check_writable, resolve_target

    axes = (parse_axis(x), parse_axis(y), parse_axis(z))
    count = len(axes[0].values) * len(axes[1].values) * len(axes[2].values)
    if x is None and y is None and z is None:
        raise UsageError("a plot needs an axis", hint='--x "Steps=10,20,30"')
    if count > MAX_CELLS:
        raise UsageError(f"{count} pictures in one plot are too many", hint=f"at most {MAX_CELLS}")
    if output.suffix.lower() != ".png":
        raise UsageError(f"{output} is no .png file", hint="the sheet is a PNG, such as -o plot.png")
    request = TextToImage(prompt=prompt, start=started.start(), **drawn.changes(), **enlarged.changes())
    if request.seed in (None, -1):
        request = replace(request, seed=secrets.randbelow(2**32))
    check_writable(resolve_target(output))
    wanted = list(cells(Cell(request=request, asked=own.asked()), *axes))
    for _, cell in wanted:
        validate(cell.request)
    made = make_cells(wanted, is_silent=as_json)
    save_sheet(made, (axes[0].labels(), axes[1].labels(), axes[2].labels()), output)
    rows = [
        {"place": list(place), "path": str(report.pictures[0].path), "speed": report.speed} for place, report in made
    ]
    typer.echo(json.dumps({"sheet": str(output), "cells": rows}) if as_json else f"{output}")


def make_cells(
    wanted: list[tuple[tuple[int, int, int], Cell]], *, is_silent: bool
) -> list[tuple[tuple[int, int, int], Report]]:
    """The pictures, by one workspace, so that models and layers are made once for all cells that share them.

    Raises: HayateError of the first cell that fails, with what it was; the pictures before it are saved.
    """
    from hayate.pipeline.session import make_pictures
    from hayate.pipeline.workspace import Workspace

    settings, found = load_settings(), []
    with Workspace(settings) as workspace, progress(is_silent) as on_row:
        for place, cell in wanted:
            try:
                report = make_pictures(cell.request, settings, None, on_row, cell.asked, workspace=workspace)
            except HayateError as error:
                where = ", ".join(str(at + 1) for at in place)
                raise UsageError(f"cell {where}: {error.message}", hint=error.hint) from error
            found.append((place, report))
    return found


def save_sheet(
    made: list[tuple[tuple[int, int, int], Report]], labels: tuple[tuple[str, ...], ...], output: Path
) -> None:
    """The sheet as a PNG, with the first picture's parameters in it."""
    from PIL import Image, PngImagePlugin

    from hayate.pipeline.axes_sheet import axes_sheet

    pictures = {place: Image.open(report.pictures[0].path) for place, report in made}
    captions = {place: caption_of(report) for place, report in made}
    sheet = axes_sheet(pictures, captions, (labels[0], labels[1], labels[2]))
    texts = PngImagePlugin.PngInfo()
    texts.add_text("parameters", made[0][1].pictures[0].infotext)
    sheet.save(output, pnginfo=texts)


def caption_of(report: Report) -> str:
    """The time of a cell: of the picture without loading, and the speed of its steps."""
    seconds = sum(report.seconds[phase] for phase in ("encode", "sample", "decode"))
    speed = report.rows / report.seconds["sample"] if report.seconds["sample"] else 0.0
    return f"{seconds:.2f} s, {speed:.3g} it/s"
