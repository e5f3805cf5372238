"""`hayate generate`: a text becomes pictures on the disk."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hayate.cli.computing import DEFAULTS, Own
from hayate.cli.options import given_of, takes_groups
from hayate.cli.requested import ANY, AT_ONCE, FROM_NOISE, UNWATCHED, Drawn, Enlarged, Started, Watched
from hayate.errors import HayateError, OutputError, UsageError, clip
from hayate.request import TextToImage, validate
from hayate.settings import Settings, load_settings

if TYPE_CHECKING:
    from hayate.pipeline.denoise import StepCallback
    from hayate.pipeline.previews import Previewer
    from hayate.pipeline.report import Report
    from hayate.runtime.asked import Asked

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
@takes_groups
def generate(  # noqa: PLR0917 - Typer makes a flag of each
    prompt: Annotated[
        str | None, typer.Argument(help="What to draw, in A1111's grammar; - reads it from standard input.")
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="Make the picture of this file again; options beside it win."),
    ] = None,
    prompts_from_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="One job for each line: a prompt, or options such as --prompt x --steps 20."),
    ] = None,
    drawn: Drawn = ANY,
    started: Started = FROM_NOISE,
    enlarged: Enlarged = AT_ONCE,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A folder, or a file with a picture's ending.")
    ] = None,
    picture_format: Annotated[
        str | None, typer.Option("--format", help="png, jpeg, webp or avif; by default -o's ending, else png.")
    ] = None,
    quality: Annotated[int | None, typer.Option(help="Of JPEG, WebP and AVIF, 1 to 100.")] = None,
    grid: Annotated[bool, typer.Option("--grid", help="Save all pictures in one as well.")] = False,
    watched: Watched = UNWATCHED,
    own: Own = DEFAULTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Make pictures from a text, or those of a file again.

    A1111's flags (--xformers, --medvram, --no-half …) are understood too.
    """
    if prompt is None and source is None and prompts_from_file is None:
        raise UsageError("missing argument: nothing says what to draw", hint="give a prompt, or see --help")
    changes = {
        **given_of(prompt=sys.stdin.read() if prompt == "-" else prompt),
        **drawn.changes(),
        **enlarged.changes(),
    }
    settings = load_settings({"format": format_of(picture_format, output), "quality": quality})
    wanted = Wanted(output=output, has_grid=grid, as_json=as_json, previewer=watched.previewer())
    names = {*changes, *(["start"] if started.image else [])}
    base, asked, start = begin_with(source, settings, names, own.asked())
    request = replace(base, **changes, start=started.start(start))
    if is_folder(request):
        if prompts_from_file is not None:
            raise UsageError("many pictures and --prompts-from-file are given", hint="leave one of them out")
        run_files(request, asked, settings, wanted)
    elif prompts_from_file is None:
        run(request, asked, settings, wanted)
    elif prompt is None:
        run_file(prompts_from_file, request, asked, settings, wanted)
    else:
        raise UsageError("a prompt and --prompts-from-file are given", hint="leave one of them out")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be written, and where."""

    output: Path | None
    has_grid: bool
    as_json: bool
    previewer: Previewer | None = None


def run(request: TextToImage, asked: Asked, settings: Settings, wanted: Wanted) -> None:
    """Checks what needs no model, then makes and saves the pictures and says where they are."""
    started = time.perf_counter()
    validate(request)
    from hayate.pipeline.session import make_pictures

    with progress(wanted.as_json) as on_row:
        report = make_pictures(
            request, settings, wanted.output, on_row, asked, has_grid=wanted.has_grid, previewer=wanted.previewer
        )
    seconds = time.perf_counter() - started
    if wanted.as_json:
        typer.echo(json.dumps(as_object(report, seconds), ensure_ascii=True))
    else:
        show(report, seconds)


def run_file(path: Path, base: TextToImage, asked: Asked, settings: Settings, wanted: Wanted) -> None:
    """Checks every line of a file of prompts, then makes one job after the other with the same models in memory."""
    from hayate.pipeline.prepared import check_request
    from hayate.pipeline.prompts_file import numbered, read_prompts_file
    from hayate.pipeline.session import make_pictures
    from hayate.pipeline.workspace import Workspace

    jobs = read_prompts_file(path, base)
    for number, request in jobs:
        with numbered(path.name, number):
            check_request(request, settings, asked)
    objects: list[dict[str, Any]] = []
    with Workspace(settings) as workspace:
        for number, request in jobs:
            started = time.perf_counter()
            with numbered(path.name, number), progress(wanted.as_json) as on_row:
                report = make_pictures(
                    request,
                    settings,
                    wanted.output,
                    on_row,
                    asked,
                    workspace=workspace,
                    has_grid=wanted.has_grid,
                    previewer=wanted.previewer,
                )
            seconds = time.perf_counter() - started
            if not wanted.as_json:
                show(report, seconds)
            objects.append({"line": number, **as_object(report, seconds)})
    if wanted.as_json:
        typer.echo(json.dumps({"jobs": objects}, ensure_ascii=True))


def is_folder(request: TextToImage) -> bool:
    """Whether the request starts from many pictures."""
    if request.start is None:
        return False
    from hayate.pipeline.start_files import is_many

    return is_many(Path(request.start.path))


def run_files(base: TextToImage, asked: Asked, settings: Settings, wanted: Wanted) -> None:
    """Makes one job of each picture, with the same models in memory; a picture that fails is reported, and passed over.

    All have one seed, as there is one request.
    Raises: HayateError for what is wrong with all of them, typer.Exit with 1 if one failed.
    """
    import secrets

    from hayate.pipeline.formats import Format
    from hayate.pipeline.prepared import check_request
    from hayate.pipeline.session import make_pictures
    from hayate.pipeline.start_files import output_for, start_files
    from hayate.pipeline.workspace import Workspace

    first = base.start
    assert first is not None
    if base.seed in (None, -1):
        base = replace(base, seed=secrets.randbelow(2**32))
    files = start_files(Path(first.path), None if first.mask is None else Path(first.mask))
    check_request(replace(base, start=None), settings, asked)
    folder, ending = wanted.output or settings.outputs_dir, Format(name=settings.format).ending
    objects: list[dict[str, Any]] = []
    with Workspace(settings) as workspace:
        for number, file in enumerate(files, start=1):
            started, place = time.perf_counter(), f"{number}/{len(files)}"
            start = replace(first, path=str(file.picture), mask=None if file.mask is None else str(file.mask))
            try:
                with progress(wanted.as_json, place) as on_row:
                    report = make_pictures(
                        replace(base, start=start),
                        settings,
                        output_for(file.picture, folder, ending),
                        on_row,
                        asked,
                        workspace=workspace,
                        has_grid=wanted.has_grid,
                        previewer=wanted.previewer,
                    )
            except OutputError:
                raise  # no other picture could be written either
            except HayateError as error:
                typer.echo(f"{place} failed: {error}", err=True)
                objects.append({"image": str(file.picture), "error": str(error)})
                continue
            seconds = time.perf_counter() - started
            if not wanted.as_json:
                typer.echo(place, err=True)
                show(report, seconds)
            objects.append({"image": str(file.picture), **as_object(report, seconds)})
    if wanted.as_json:
        typer.echo(json.dumps({"jobs": objects}, ensure_ascii=True))
    if any("error" in each for each in objects):
        raise typer.Exit(1)


def begin_with(
    source: Path | None, settings: Settings, given: Collection[str], asked: Asked
) -> tuple[TextToImage, Asked, Mapping[str, Any]]:
    """What the options of a command are added to: a request, what is asked of the machine, and a start.

    They are those of the picture `source`, or nothing; `given` names the request's fields that the options have.
    """
    if source is None:
        return TextToImage(prompt=""), asked, {}
    from hayate.pipeline.pasted import paste_picture

    own = {each.name: getattr(asked, each.name) for each in fields(asked)}
    pasted = paste_picture(source, settings, {*given, *(name for name, value in own.items() if value is not None)})
    methods = {each.name: getattr(pasted.asked, each.name) for each in fields(asked)}
    added = {name: value for name, value in methods.items() if own[name] is None and value is not None}
    return pasted.request, replace(asked, notes=(*asked.notes, *pasted.notes), **added), pasted.start


def format_of(name: str | None, output: Path | None) -> str | None:
    """The format that --format names, unless the file's ending says another one.

    Raises: UsageError.
    """
    from hayate.pipeline.formats import ENDINGS

    wanted = None if name is None else ENDINGS.get(f".{name.lower()}", name.lower())
    ending = "" if output is None or output.is_dir() else output.suffix.lower()
    if wanted and ENDINGS.get(ending, wanted) != wanted:
        raise UsageError(f"--format {clip(wanted)} and a file that ends in {ending}", hint="leave one of them out")
    return wanted


def show(report: Report, seconds: float) -> None:
    """Says where the pictures are, and beside it what there is to say."""
    for note in report.notes:
        typer.echo(f"note: {note}", err=True)
    for picture in report.pictures:
        typer.echo(f"{picture.path}")
    if report.grid is not None:
        typer.echo(f"{report.grid}")
    typer.echo(summary(report, seconds), err=True)  # apart from the paths, so that a script can read those


def as_object(report: Report, seconds: float) -> dict[str, Any]:
    """The JSON object that `--json` prints."""
    return {
        "images": [
            {"path": str(picture.path), "seed": picture.seed, "infotext": picture.infotext}
            for picture in report.pictures
        ],
        "grid": None if report.grid is None else str(report.grid),
        "model": report.model,
        "plan": report.plan,
        "notes": list(report.notes),
        "seconds": {**report.seconds, "total": round(seconds, 3)},
        "speed": report.speed,
    }


def summary(report: Report, seconds: float) -> str:
    """The last line: how many pictures, in what time."""
    count = len(report.pictures)
    speed = report.rows / report.seconds["sample"] if report.seconds["sample"] > 0 else 0.0
    noun = "picture" if count == 1 else "pictures"
    return f"{count} {noun} in {seconds:.1f} s ({speed:.2f} it/s, sampling {report.seconds['sample']:.1f} s)"


@contextmanager
def progress(is_silent: bool, place: str = "") -> Iterator[StepCallback]:
    """A bar with it/s on standard error, `place` before it; silent for `--json` and where nobody watches."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if is_silent or not console.is_terminal:
        yield lambda done, rows: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(f"{place} loading".lstrip(), total=None, speed="")

        def on_row(done: int, rows: int) -> None:
            if done == 1:
                bar.reset(task, total=rows, description=f"{place} sampling".lstrip(), completed=1)
            speed = bar.tasks[task].speed
            bar.update(task, completed=done, total=rows, speed=f"{speed:.2f} it/s" if speed else "")

        yield on_row
