"""Finished pictures made larger."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from hayate.errors import Cancelled
from hayate.jobs.bodies import Upscale
from hayate.jobs.records import Picture, Result
from hayate.jobs.tasks.redraw import save_made
from hayate.jobs.tasks.station import Outcome, Station
from hayate.pipeline.enlarge import open_enlarger
from hayate.pipeline.extras import Extras, apply_extras
from hayate.pipeline.formats import Format
from hayate.pipeline.png import Target, resolve_target
from hayate.runtime.device import resolve_device
from hayate.settings import Settings, changed_settings


def upscale(body: Upscale, station: Station) -> Outcome:
    """Makes one picture of each; those that are finished when somebody cancels count. Raises: HayateError."""
    settings = changed_settings(station.settings, body.settings, allows_paths=False)
    meter, started = station.meter(), time.perf_counter()
    meter.phase("loading")
    extras, device = extras_of(body, settings), resolve_device(settings.device).torch
    target, spare = places_of(body, settings, station)
    pictures: list[Picture] = []
    notes: list[str] = []
    is_stopped = False
    for number, path in enumerate(body.images):
        try:
            meter.share(number / len(body.images), "upscaling")
        except Cancelled:
            is_stopped = True
            break
        made = apply_extras(Path(path), extras, device)
        saved, is_spare, said = save_made(made, target, spare, "upscaled")
        notes.extend((*made.notes, *said))
        height_px, width_px, _ = made.pixels.shape
        pictures.append(
            Picture(
                path=str(saved.resolve()),
                seed=-1,
                subseed=-1,
                infotext=made.texts.parameters,
                width_px=width_px,
                height_px=height_px,
                is_saved=body.saves_pictures and not is_spare,
            )
        )
    facts: dict[str, Any] = {"seconds": {"total": round(time.perf_counter() - started, 3)}, "extras": extras.keys()}
    result = Result(pictures=tuple(pictures), notes=tuple(dict.fromkeys(notes)), facts=facts)
    return Outcome(result=result, is_stopped=is_stopped)


def extras_of(body: Upscale, settings: Settings) -> Extras:
    """Raises: UnknownName, ModelFileError, MissingDependency."""
    has_size = body.width_px is not None and body.height_px is not None
    return Extras(
        first=open_enlarger(body.upscaler_1, settings),
        second=open_enlarger(body.upscaler_2, settings),
        visibility=body.visibility_2,
        scale=body.scale,
        size_px=(body.width_px or 0, body.height_px or 0) if has_size else None,
        is_cropped=body.is_cropped,
    )


def places_of(body: Upscale, settings: Settings, station: Station) -> tuple[Target, Path | None]:
    """Where the pictures go, and where else. Raises: OutputError."""
    format_ = Format(name=settings.format, quality=settings.quality)
    if not body.saves_pictures:
        return Target(folder=station.results, format=format_), None
    return resolve_target(settings.outputs_dir, format_), station.results
