"""`hayate plot`: an X/Y/Z plot, with the time of every cell."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from hayate.cli.computing import DEFAULTS, Own
from hayate.cli.generate import progress
from hayate.cli.options import takes_groups
from hayate.cli.requested import ANY, AT_ONCE, FROM_NOISE, Drawn, Enlarged, Started
from hayate.errors import UsageError
from hayate.request import TextToImage, validate
from hayate.settings import load_settings

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
    from hayate.pipeline.plots import make_cells, plot_sheet, save_sheet
    from hayate.pipeline.png import check_writable, resolve_target
    from hayate.pipeline.session import Maker
    from hayate.pipeline.workspace import Workspace

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
    settings = load_settings()
    with Workspace(settings) as workspace, progress(as_json) as on_row:
        made = list(make_cells(wanted, Maker(settings=settings, workspace=workspace, on_row=on_row)))
    sheet = plot_sheet(made, (axes[0].labels(), axes[1].labels(), axes[2].labels()))
    save_sheet(sheet, made[0].report.pictures[0].infotext, output)
    rows = [
        {"place": list(each.place), "path": str(each.report.pictures[0].path), "speed": each.report.speed}
        for each in made
    ]
    typer.echo(json.dumps({"sheet": str(output), "cells": rows}) if as_json else f"{output}")
