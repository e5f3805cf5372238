"""`hayate matrix`: every combination of a prompt's parts, and a sheet of them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hayate.cli.computing import DEFAULTS, Own
from hayate.cli.generate import as_object, progress, show
from hayate.cli.options import takes_groups
from hayate.cli.requested import ANY, AT_ONCE, FROM_NOISE, Drawn, Enlarged, Started
from hayate.errors import UsageError
from hayate.request import TextToImage
from hayate.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hayate.pipeline.report import Report

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
@takes_groups
def matrix(  # noqa: PLR0917 - Typer makes a flag of each
    prompt: Annotated[str, typer.Argument(help='Parts between |, such as "a cat|in snow|at night".')],
    put_at_start: Annotated[bool, typer.Option("--put-at-start", help="The first part comes last.")] = False,
    delimiter: Annotated[str, typer.Option(help="Between the parts: comma or space.")] = "comma",
    different_seeds: Annotated[bool, typer.Option("--different-seeds", help="Each has the next seed.")] = False,
    of_negative: Annotated[
        bool, typer.Option("--of-negative", help="The parts are those of --negative, not of the prompt.")
    ] = False,
    drawn: Drawn = ANY,
    started: Started = FROM_NOISE,
    enlarged: Enlarged = AT_ONCE,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A folder for all pictures.")] = None,
    sheet: Annotated[Path, typer.Option(help="The sheet, a PNG.")] = Path("matrix.png"),
    own: Own = DEFAULTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Make a picture for every combination of the parts of a prompt, and a sheet of them.

    The first part is in all of them.
    """
    from hayate.pipeline.plots import save_sheet, sheet_of_matrix
    from hayate.pipeline.png import check_writable, resolve_target
    from hayate.pipeline.prepared import check_request
    from hayate.pipeline.prompt_matrix import Matrix, requests_of
    from hayate.pipeline.session import make_pictures
    from hayate.pipeline.workspace import Workspace

    if sheet.suffix.lower() != ".png":
        raise UsageError(f"{sheet} is no .png file", hint="the sheet is a PNG, such as --sheet matrix.png")
    base = TextToImage(prompt=prompt, start=started.start(), **drawn.changes(), **enlarged.changes())
    wanted = Matrix(
        text=base.negative_prompt if of_negative else prompt,
        delimiter=delimiter,
        is_at_start=put_at_start,
        is_negative=of_negative,
        has_different_seeds=different_seeds,
    )
    requests = requests_of(wanted, base)
    settings, asked, reports = load_settings(), own.asked(), []
    for request in requests:
        check_request(request, settings, asked)
    check_writable(resolve_target(sheet))
    with Workspace(settings) as workspace:
        for number, request in enumerate(requests, start=1):
            begun = time.perf_counter()
            with progress(as_json, f"{number}/{len(requests)}") as on_row:
                reports.append(make_pictures(request, settings, output, on_row, asked, workspace=workspace))
            if not as_json:
                show(reports[-1], time.perf_counter() - begun)
    save_sheet(sheet_of_matrix(reports, wanted), reports[0].pictures[0].infotext, sheet)
    typer.echo(as_json_text(reports, sheet) if as_json else f"{sheet}")


def as_json_text(reports: Sequence[Report], sheet: Path) -> str:
    """The JSON object that `--json` prints."""
    jobs: list[dict[str, Any]] = [as_object(report, sum(report.seconds.values())) for report in reports]
    return json.dumps({"sheet": str(sheet), "jobs": jobs}, ensure_ascii=True)
