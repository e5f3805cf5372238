"""One request from names to files: find, resolve, load, sample, save."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hayate.errors import Cancelled
from hayate.pipeline.cast import Cast
from hayate.pipeline.decode import Batch
from hayate.pipeline.denoise import StepCallback
from hayate.pipeline.formats import Format, check_fits, check_format
from hayate.pipeline.guards import Guard
from hayate.pipeline.hooked import Hooked
from hayate.pipeline.job import Job
from hayate.pipeline.overlap import Worker
from hayate.pipeline.painting import Brush
from hayate.pipeline.parameters import Speed, record
from hayate.pipeline.pictures import InMemory
from hayate.pipeline.png import resolve_target
from hayate.pipeline.prepared import Files, Prepared, prepare_request
from hayate.pipeline.previews import Previewer
from hayate.pipeline.report import Report, SavedPicture, plan_of
from hayate.pipeline.retouching import Made, retouch
from hayate.pipeline.saving import Saver, writable_places
from hayate.pipeline.text2image import text2image
from hayate.pipeline.workspace import Workspace
from hayate.request import TextToImage
from hayate.runtime.asked import Asked
from hayate.runtime.attention.evidence import evidence as attention_evidence
from hayate.runtime.plan import Plan
from hayate.runtime.probe import peak_memory_bytes, reset_peak_memory
from hayate.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Maker:
    """How pictures are made and where they go: what one request after the other has in common."""

    settings: Settings
    workspace: Workspace
    """Keeps what the next request can use."""
    on_row: StepCallback
    """May raise Skipped or Cancelled; the pictures that are finished count."""
    output: Path | None = None
    """A folder or a file; None is the settings' folder."""
    spare: Path | None = None
    """A folder for pictures that can't be written to `output`; without one that is an error."""
    has_grid: bool = False
    """Whether all pictures are saved in one as well."""
    grid_output: Path | None = None
    """A folder for that; None puts it beside the pictures."""
    previewer: Previewer | None = None
    """Is shown each picture while it is made."""
    hooked: Hooked | None = None
    """The extensions that act, in place of those that each request asks for; NOBODY where pictures are measured."""
    half_made: str = "dropped"
    """One of `stops.HALF_MADE`: what becomes of a batch that is stopped. Shown only, it goes to `spare`."""
    on_loaded: Callable[[Job], None] = lambda job: None
    """Told what will be made, when the model is there; may raise Cancelled too."""

    def make(
        self,
        request: TextToImage,
        asked: Asked | None = None,
        *,
        instead: InMemory | None = None,
        keeps_pixels: bool = False,
    ) -> Report:
        """The pictures of `request`; whatever can be wrong is found before the model is loaded.

        `instead` is a picture to start from in place of the request's; with `keeps_pixels` the report has the pictures
        themselves.
        Raises: HayateError; pictures that were sampled by then are saved.
        """
        settings, workspace = self.settings, self.workspace
        format_ = Format(name=settings.format, quality=settings.quality)
        target = resolve_target(self.output or settings.outputs_dir, format_)
        check_format(target.format)
        prepared = prepare_request(request, settings, asked, workspace, instead=instead, hooked=self.hooked)
        check_fits(target.format, prepared.job.prompt_text, prepared.job.negative_text)
        places, problem = writable_places(target, spare=self.spare, grid=self.grid_output)
        reset_peak_memory(prepared.plan.device.torch)
        started = time.perf_counter()
        cast = Cast(prepared, settings, workspace)
        guard = cast.open()
        guard.notes.extend(problem)
        saver = Saver(
            places=places,
            job=prepared.job,
            files=prepared.files,
            pattern=settings.filename_pattern,
            half_made=self.half_made,
            notes=guard.notes,
        )
        making = Making(guard=guard, prepared=prepared, saver=saver, workspace=workspace)
        making.has_grid, making.keeps_pixels, making.previewer = self.has_grid, keeps_pixels, self.previewer
        if prepared.job.hooked.of("pictures"):
            making.brush = Brush(
                job=prepared.job,
                settings=settings,
                asked=asked,
                workspace=workspace,
                on_row=self.on_row,
                resume=lambda: cast.resume(guard),
            )
        making.seconds["load"] = time.perf_counter() - started
        if self.previewer is None:
            return making.run(self)
        with self.previewer.watching(prepared, guard):
            return making.run(self)


def make_pictures(
    request: TextToImage,
    settings: Settings,
    output: Path | None,
    on_row: StepCallback,
    asked: Asked | None = None,
    *,
    workspace: Workspace | None = None,
    has_grid: bool = False,
    instead: InMemory | None = None,
    keeps_pixels: bool = False,
    previewer: Previewer | None = None,
    hooked: Hooked | None = None,
) -> Report:
    """Makes and saves the pictures of one request, as a `Maker` does; without a workspace nothing outlives it.

    Raises: HayateError; pictures that were sampled by then are saved.
    """
    has_several = request.refiner is not None or (request.hires is not None and request.hires.model is not None)
    with ExitStack() as stack:
        if workspace is None:  # the models of a job come back with every batch
            workspace = stack.enter_context(Workspace(settings, is_lasting=has_several))
        maker = Maker(
            settings=settings,
            workspace=workspace,
            on_row=on_row,
            output=output,
            has_grid=has_grid,
            previewer=previewer,
            hooked=hooked,
        )
        return maker.make(request, asked, instead=instead, keeps_pixels=keeps_pixels)


@dataclass(slots=True, kw_only=True, eq=False)
class Making:
    """A job under way."""

    guard: Guard
    prepared: Prepared
    saver: Saver
    workspace: Workspace
    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("load", "encode", "sample", "decode", "save"), 0.0)
    )
    rows: int = 0
    has_grid: bool = False
    pixels: list[np.ndarray] = field(default_factory=list)
    """The pictures of the grid, or those to be kept."""
    keeps_pixels: bool = False
    previewer: Previewer | None = None
    brush: Brush | None = None
    """For extensions that change finished pictures."""

    @property
    def job(self) -> Job:
        return self.prepared.job

    @property
    def plan(self) -> Plan:
        return self.prepared.plan

    @property
    def files(self) -> Files:
        return self.prepared.files

    def run(self, maker: Maker) -> Report:
        """Makes all pictures; encoding and writing their files goes on beside the next batch, always in order."""
        is_stopped = False
        worker = Worker[SavedPicture]()
        try:
            with worker:
                maker.on_loaded(self.job)
                keeps = self.saver.half_made != "dropped"
                for batch in text2image(self.guard, self.job, maker.on_row, keeps_half_made=keeps):
                    self._count(batch)
                    made = retouch(batch, self.job, self.brush if batch.stopped_at is None else None)
                    about = record(self.job, self._plan(), self._speed(), self._notes())
                    for index, picture in enumerate(made.pictures):
                        worker.put(partial(self._save, batch, index, picture, about))
                    self.pixels.extend(picture.pixels for picture in made.pictures if self._keeps_all(batch))
                    if made.stopped is not None:
                        raise made.stopped
        except Cancelled as error:  # what is finished counts
            is_stopped = True
            self.guard.notes.extend(getattr(error, "__notes__", ()))  # what could not be saved
        if self.previewer is not None:
            self.guard.notes.extend(self.previewer.end())
        grid = self.saver.grid(self.pixels, worker.results) if self.has_grid else None
        config = self.prepared.config
        return Report(
            pictures=worker.results,
            model={**self.files.keys(), "family": config.family.value, "path": str(self.files.model)},
            plan=self._plan(),
            notes=self._notes(),
            seconds={phase: round(value, 3) for phase, value in self.seconds.items()},
            rows=self.rows,
            speed=self._speed().as_object(),
            grid=grid,
            pixels=tuple(self.pixels) if self.keeps_pixels else (),
            is_stopped=is_stopped,
        )

    def _count(self, batch: Batch) -> None:
        self.rows += self.job.rows if batch.stopped_at is None else batch.stopped_at.row
        self.seconds["encode"] += batch.phases.encode_s
        self.seconds["sample"] += batch.phases.sample_s
        self.seconds["decode"] += batch.phases.decode_s

    def _plan(self) -> dict[str, Any]:
        """The plan with the types as they are now: the guard may have widened one."""
        planned = plan_of(self.job, self.plan, self.guard.precision)
        return {**planned, "noise_source_reason": self.prepared.noise_reason or "asked for"}

    def _notes(self) -> tuple[str, ...]:
        return (*self.plan.notes, *self.job.notes, *self.guard.notes, *self.job.hooked.told())

    def _keeps_all(self, batch: Batch) -> bool:
        return batch.stopped_at is None and (self.has_grid or self.keeps_pixels)

    def _speed(self) -> Speed:
        return Speed(
            seconds=dict(self.seconds),
            rows=self.rows,
            peak_memory_bytes=peak_memory_bytes(self.plan.device.torch),
            evidence=(
                *self.guard.evidence(),
                *self.guard.acted.evidence(self.plan.approximate),
                attention_evidence(self.plan.attention),
                *self.workspace.evidence(),
                *self.job.hooked.evidence(),
                *(() if self.previewer is None else (self.previewer.evidence(),)),
            ),
        )

    def _save(self, batch: Batch, index: int, made: Made, about: Mapping[str, Any]) -> SavedPicture:
        """One picture as a file; the worker's, which alone counts the seconds of saving."""
        started = time.perf_counter()
        saved = self.saver.picture(batch, index, made, about)
        self.seconds["save"] += time.perf_counter() - started
        return saved
