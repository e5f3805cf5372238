"""`hayate upscale`: finished pictures made larger, and redrawn in tiles where a prompt is given."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hayate.cli.computing import DEFAULTS, Own
from hayate.cli.generate import begin_with, format_of, progress
from hayate.cli.options import given_of, takes_groups
from hayate.cli.requested import ANY, Drawn
from hayate.errors import UsageError, clip
from hayate.request import StartImage, validate
from hayate.settings import Settings, load_settings

if TYPE_CHECKING:
    from hayate.pipeline.png import Target
    from hayate.pipeline.upscale import Larger, Upscaled
    from hayate.pipeline.workspace import Workspace

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
@takes_groups
def upscale(  # noqa: PLR0917 - Typer makes a flag of each
    files: Annotated[list[Path], typer.Argument(help="Pictures: PNG, JPEG, WebP or AVIF.")],
    scale: Annotated[float, typer.Option(help="How many times as large, 1 to 8.")] = 2.0,
    upscaler: Annotated[
        str, typer.Option(help="None, Lanczos, Nearest, or the name of a file in upscalers_dir.")
    ] = "Lanczos",
    prompt: Annotated[str | None, typer.Option(help="Then make it anew in tiles, from this text (SD upscale).")] = None,
    redo: Annotated[
        bool, typer.Option("--redo", help="The same with the prompt and the settings that the picture itself has.")
    ] = False,
    denoising: Annotated[float | None, typer.Option(help="How much of the tiles is made anew; else 0.35.")] = None,
    overlap: Annotated[int | None, typer.Option(help="What the tiles have in common, in pixels; else 64.")] = None,
    drawn: Drawn = ANY,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A folder, or a file with a picture's ending.")
    ] = None,
    picture_format: Annotated[
        str | None, typer.Option("--format", help="png, jpeg, webp or avif; by default -o's ending, else png.")
    ] = None,
    quality: Annotated[int | None, typer.Option(help="Of JPEG, WebP and AVIF, 1 to 100.")] = None,
    own: Own = DEFAULTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Make finished pictures larger. With --prompt or --redo they are made anew in tiles of --size as well."""
    changes = {**({} if prompt is None else {"prompt": prompt}), **drawn.changes()}
    is_drawn = prompt is not None or redo
    idle = given_of(**changes, denoising=denoising, overlap=overlap, own=None if own == DEFAULTS else own)
    _check(scale, overlap, upscaler, idle, is_drawn=is_drawn)
    settings = load_settings({"format": format_of(picture_format, output), "quality": quality})
    task = _Task(
        settings=settings,
        own=own,
        changes=changes,
        denoising=denoising,
        is_redone=redo,
        is_silent=as_json,
        is_drawn=is_drawn,
    )
    done: list[dict[str, Any]] = []
    with _opened(task, files, upscaler, (scale, 64 if overlap is None else overlap), output) as (
        workspace,
        larger,
        target,
    ):
        for path in files:
            started = time.perf_counter()
            made = task.make(path, larger, workspace)
            saved = _save(made, path, larger, target)
            seconds = round(time.perf_counter() - started, 3)
            done.append({"source": str(path), "path": str(saved), "seconds": seconds, "notes": list(made.notes)})
            if not as_json:
                _show(made, saved, seconds)
    if as_json:
        typer.echo(json.dumps({"images": done}))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """What is done to each of the files."""

    settings: Settings
    own: Own
    changes: dict[str, Any]
    denoising: float | None
    is_redone: bool
    is_drawn: bool
    is_silent: bool

    def make(self, path: Path, larger: Larger, workspace: Workspace) -> Upscaled:
        from hayate.pipeline.picture_info import read_picture_info
        from hayate.pipeline.upscale import redraw_picture, upscale_picture
        from hayate.runtime.device import resolve_device

        if not self.is_drawn:
            device = resolve_device(self.changes.get("device") or self.settings.device).torch
            return upscale_picture(path, read_picture_info(path), larger, device)
        source = path if self.is_redone else None
        base, asked, _ = begin_with(source, self.settings, {*self.changes, "start", "hires"}, self.own.asked())
        request = replace(base, **{"hires": None, **self.changes}, start=self._start(path))
        if self.is_redone and not {"width_px", "height_px"} & set(self.changes):
            request = replace(request, width_px=None, height_px=None)  # the picture's size is not the tiles'
        validate(request)
        with progress(self.is_silent) as on_row:
            return redraw_picture(path, request, larger, self.settings, on_row, asked=asked, workspace=workspace)

    def _start(self, path: Path) -> StartImage:
        from hayate.pipeline.upscale import DENOISING

        return StartImage(path=str(path), denoising=DENOISING if self.denoising is None else self.denoising)


_ONLY_DRAWN = MappingProxyType({"width_px": "--size", "height_px": "--size", "own": "what says how to compute"})


def _check(scale: float, overlap: int | None, upscaler: str, given: Mapping[str, Any], *, is_drawn: bool) -> None:
    """Looks at the options that need no file; `given` are those that say how a picture is made.

    Raises: UsageError.
    """
    if not 1 <= scale <= 8:
        raise UsageError(f"scale {scale} is out of range", hint="--scale takes 1 to 8")
    if overlap is not None and not 0 <= overlap <= 1024:
        raise UsageError(f"overlap {overlap} is out of range", hint="--overlap takes 0 to 1024")
    if is_drawn:
        if several := {"batch_size", "batch_count"} & set(given):
            flag = sorted(several)[0].replace("_", "-")
            raise UsageError(f"--{flag} is not for tiles", hint="one picture is made of each file")
        return
    for name in given:
        if name != "device":
            flag = _ONLY_DRAWN.get(name, f"--{name.replace('_', '-')}")
            raise UsageError(f"{flag} acts only where the picture is made anew", hint="--prompt TEXT, or --redo")
    if upscaler == "None":
        raise UsageError("the upscaler None leaves pictures as they are", hint="--upscaler Lanczos")


@contextmanager
def _opened(
    task: _Task, files: list[Path], upscaler: str, amounts: tuple[float, int], output: Path | None
) -> Iterator[tuple[Workspace, Larger, Target]]:
    """What all files share, once it is sure that each of them can be read and the results be written.

    Raises: HayateError.
    """
    from hayate.pipeline.enlarge import open_enlarger
    from hayate.pipeline.formats import Format, check_format, is_too_large
    from hayate.pipeline.opened import opened_picture
    from hayate.pipeline.png import check_writable, resolve_target
    from hayate.pipeline.upscale import Larger
    from hayate.pipeline.workspace import Workspace

    settings = task.settings
    larger = Larger(enlarger=open_enlarger(upscaler, settings), scale=amounts[0], overlap_px=amounts[1])
    target = resolve_target(output or settings.outputs_dir, Format(name=settings.format, quality=settings.quality))
    check_format(target.format)
    for path in files:
        with opened_picture(path) as picture:
            width, height = larger.size(picture.size)
        if is_too_large(target.format, width, height):
            kind = target.format.name.upper()
            raise UsageError(f"{width}x{height} is more than a {kind} file should be", hint="--scale")
    check_writable(target)
    with Workspace(settings, is_lasting=len(files) > 1) as workspace:
        yield workspace, larger, target


def _save(made: Upscaled, path: Path, larger: Larger, target: Target) -> Path:
    from hayate.pipeline.names import safe_name
    from hayate.pipeline.png import save_picture

    stem = safe_name(f"{clip(path.stem, 80)}-{larger.scale:g}x")
    return save_picture(made.pixels, target, stem=stem, texts=made.texts)


def _show(made: Upscaled, saved: Path, seconds: float) -> None:
    for note in made.notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(f"{saved}")
    height, width, _ = made.pixels.shape
    typer.echo(f"{width}x{height} in {seconds:.1f} s", err=True)
