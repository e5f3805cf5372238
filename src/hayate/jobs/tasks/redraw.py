"""SD upscale: a picture made larger and then anew in tiles, as one job's request and script say."""

from __future__ import annotations

import time
from pathlib import Path

from hayate.errors import OutputError
from hayate.jobs.scripts import SDUpscale
from hayate.jobs.tasks.generate import Making
from hayate.pipeline.enlarge import open_enlarger
from hayate.pipeline.formats import Format
from hayate.pipeline.png import Target, resolve_target, save_picture
from hayate.pipeline.report import Report, SavedPicture
from hayate.pipeline.upscale import Larger, Upscaled, redraw_picture


def redraw(script: SDUpscale, making: Making) -> Report:
    """Makes and saves it. Raises: HayateError, Cancelled: a picture with tiles missing is none."""
    start = making.body.request.start
    assert start is not None
    started, settings = time.perf_counter(), making.settings
    larger = Larger(enlarger=open_enlarger(script.upscaler, settings), scale=script.scale, overlap_px=script.overlap_px)

    def on_row(done: int, rows: int) -> None:
        if done == 1:
            making.meter.loaded((rows,), 1)
        making.meter.row(done, rows)

    made = redraw_picture(
        Path(start.path),
        making.body.request,
        larger,
        settings,
        on_row,
        asked=making.asked,
        workspace=making.station.workspace,
    )
    sampled_s = time.perf_counter() - started
    return _report(made, _saved(made, making), sampled_s)


def save_made(made: Upscaled, target: Target, spare: Path | None, stem: str) -> tuple[Path, bool, tuple[str, ...]]:
    """Saves a picture, if need be in the spare folder: its file, whether that is there, and what to say of it.

    Raises: OutputError.
    """
    try:
        return save_picture(made.pixels, target, stem=stem, texts=made.texts), False, ()
    except OutputError as error:
        if spare is None:
            raise
        place = Target(folder=spare, format=target.format)
        path = save_picture(made.pixels, place, stem=stem, texts=made.texts)
        return path, True, (f"pictures are not where they should be: {error}",)


def _saved(made: Upscaled, making: Making) -> tuple[SavedPicture, tuple[str, ...]]:
    settings, maker, drawn = making.settings, making.maker, made.drawn
    assert drawn is not None
    format_ = Format(name=settings.format, quality=settings.quality)
    target = resolve_target(maker.output or settings.outputs_dir, format_)
    path, is_spare, notes = save_made(made, target, maker.spare, str(drawn.seed))
    height_px, width_px, _ = made.pixels.shape
    picture = SavedPicture(
        path=path,
        seed=drawn.seed,
        subseed=-1,
        infotext=made.texts.parameters,
        width_px=width_px,
        height_px=height_px,
        is_spare=is_spare,
    )
    return picture, notes


def _report(made: Upscaled, saved: tuple[SavedPicture, tuple[str, ...]], seconds: float) -> Report:
    drawn = made.drawn
    assert drawn is not None
    phases = {"load": 0.0, "encode": 0.0, "sample": round(seconds, 3), "decode": 0.0, "save": 0.0}
    return Report(
        pictures=(saved[0],),
        model=drawn.model,
        plan=drawn.plan,
        notes=(*made.notes, *saved[1]),
        seconds=phases,
        rows=drawn.rows,
        speed={"seconds": phases, "it_per_s": round(drawn.rows / max(seconds, 1e-9), 3)},
    )
