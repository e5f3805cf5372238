"""Finished pictures made larger."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

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
    work = _Work(
        body=body,
        extras=extras_of(body, settings),
        device=resolve_device(settings.device).torch,
        places=places_of(body, settings, station),
    )
    pictures: list[Picture] = []
    is_stopped = False
    try:
        for number, path in enumerate(body.images):
            meter.share(number / len(body.images), "upscaling")
            pictures.append(work.make(Path(path)))
    except Cancelled:
        is_stopped = True
    seconds = {"total": round(time.perf_counter() - started, 3)}
    facts: dict[str, Any] = {"seconds": seconds, "extras": work.extras.keys()}
    result = Result(pictures=tuple(pictures), notes=tuple(dict.fromkeys(work.notes)), facts=facts)
    return Outcome(result=result, is_stopped=is_stopped)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Work:
    """What is done to each picture."""

    body: Upscale
    extras: Extras
    device: torch.device
    places: tuple[Target, Path | None]
    notes: list[str] = field(default_factory=list)

    def make(self, path: Path) -> Picture:
        """Raises: HayateError."""
        made = apply_extras(path, self.extras, self.device)
        saved, is_spare, said = save_made(made, *self.places, "upscaled")
        self.notes.extend((*made.notes, *said))
        height_px, width_px, _ = made.pixels.shape
        return Picture(
            path=str(saved.resolve()),
            seed=-1,
            subseed=-1,
            infotext=made.texts.parameters,
            width_px=width_px,
            height_px=height_px,
            is_saved=self.body.saves_pictures and not is_spare,
        )


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
