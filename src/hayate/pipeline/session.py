"""One request from names to files: find, resolve, load, sample, save."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hayate.errors import Cancelled, OutputError
from hayate.pipeline.cast import Cast
from hayate.pipeline.decode import Batch
from hayate.pipeline.denoise import StepCallback
from hayate.pipeline.formats import Format, PictureTexts, check_fits, check_format, is_too_large
from hayate.pipeline.grid import grid_shape, make_grid
from hayate.pipeline.guards import Guard
from hayate.pipeline.hooked import Hooked
from hayate.pipeline.infotext import INTERRUPTED_KEY, format_infotext, order_parameters
from hayate.pipeline.job import Job
from hayate.pipeline.names import NameFacts, fill_pattern
from hayate.pipeline.overlap import Worker
from hayate.pipeline.painting import Brush
from hayate.pipeline.parameters import Speed, describe, record
from hayate.pipeline.pictures import InMemory
from hayate.pipeline.png import Target, check_writable, resolve_target, save_grid, save_picture
from hayate.pipeline.prepared import Files, Prepared, prepare_request
from hayate.pipeline.previews import Previewer
from hayate.pipeline.report import Report, SavedPicture, plan_of
from hayate.pipeline.retouching import Made, retouch
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
    """One of `stops.HALF_MADE`: what becomes of the batch that a Cancelled ends. Shown only, it goes to `spare`."""
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
        places, problem = _writable(target, self)
        reset_peak_memory(prepared.plan.device.torch)
        started = time.perf_counter()
        cast = Cast(prepared, settings, workspace)
        guard = cast.open()
        guard.notes.extend(problem)
        making = Making(guard=guard, prepared=prepared, places=places, workspace=workspace)
        making.pattern, making.has_grid, making.keeps_pixels = settings.filename_pattern, self.has_grid, keeps_pixels
        making.previewer = self.previewer
        making.half_made = self.half_made
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Places:
    """Where a request's files go."""

    pictures: Target
    spare: Target | None
    grid: Target


def _writable(target: Target, maker: Maker) -> tuple[_Places, list[str]]:
    """The places, and a note where the spare one is taken at once. Raises: OutputError."""
    grid = target if maker.grid_output is None else Target(folder=maker.grid_output, format=target.format)
    spare = None if maker.spare is None else Target(folder=maker.spare, format=target.format)
    try:
        check_writable(target)
    except OutputError as error:
        if spare is None:
            raise
        check_writable(spare)
        return _Places(pictures=spare, spare=spare, grid=spare), [_not_there(error)]
    return _Places(pictures=target, spare=spare, grid=grid), []


def _not_there(error: OutputError) -> str:
    return f"pictures are not where they should be: {error}"


@dataclass(slots=True, kw_only=True, eq=False)
class Making:
    """A job under way."""

    guard: Guard
    prepared: Prepared
    places: _Places
    workspace: Workspace
    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("load", "encode", "sample", "decode", "save"), 0.0)
    )
    rows: int = 0
    pattern: str = "[seed]"
    """Of the pictures' names."""
    has_grid: bool = False
    pixels: list[np.ndarray] = field(default_factory=list)
    """The pictures of the grid, or those to be kept."""
    keeps_pixels: bool = False
    half_made: str = "dropped"
    previewer: Previewer | None = None
    brush: Brush | None = None
    """For extensions that change finished pictures."""
    started: datetime = field(default_factory=lambda: datetime.now().astimezone())

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
                keeps = self.half_made != "dropped"
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
        grid = self._save_grid(worker.results) if self.has_grid else None
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
        info = describe(self.job, batch.guidance, batch.seeds.index + index, self.files.keys())
        if batch.stopped_at is not None:
            stopped = f"{batch.stopped_at.row}/{batch.stopped_at.rows}"
            info = replace(info, parameters=order_parameters({**info.parameters, INTERRUPTED_KEY: stopped}))
        infotext = format_infotext(made.described(info))
        texts = PictureTexts(parameters=infotext, record=made.recorded(about))
        stem = fill_pattern(self.pattern, self._name_facts(batch.seeds.index + index))
        picture = made.pixels
        aside = self.places.spare if batch.stopped_at is not None and self.half_made == "shown" else None
        path, is_spare = self._put(lambda target: save_picture(picture, target, stem=stem, texts=texts), aside)
        self.seconds["save"] += time.perf_counter() - started
        return SavedPicture(
            path=path,
            seed=batch.seeds.seeds[index],
            subseed=batch.seeds.subseeds[index],
            infotext=infotext,
            width_px=picture.shape[1],
            height_px=picture.shape[0],
            is_spare=is_spare,
        )

    def _put(self, save: Callable[[Target], Path], target: Target | None = None) -> tuple[Path, bool]:
        """Saves to the pictures' place or another one, else to the spare one; the file, and whether it is there."""
        target, spare = target or self.places.pictures, self.places.spare
        try:
            return save(target), target == spare
        except OutputError as error:
            if spare is None or target == spare:
                raise
            if (note := _not_there(error)) not in self.guard.notes:
                self.guard.notes.append(note)
            return save(spare), True

    def _name_facts(self, number: int) -> NameFacts:
        keys = self.files.keys()
        return NameFacts(
            job=self.job,
            number=number,
            model_name=keys["Model"],
            model_hash=keys["Model hash"],
            vae_name=keys.get("VAE", ""),
            started=self.started,
            saved=datetime.now().astimezone(),
        )

    def _save_grid(self, saved: Sequence[SavedPicture]) -> Path | None:
        """All pictures in one, with the infotext of the first; none where a file can't be so large."""
        if len(self.pixels) < 2:
            return None
        rows, columns = grid_shape(len(self.pixels))
        height_px, width_px, _ = self.pixels[0].shape
        format_ = self.places.grid.format
        if is_too_large(format_, columns * width_px, rows * height_px):
            self.guard.notes.append(f"no grid: it is larger than a {format_.name.upper()} file should be")
            return None
        texts = PictureTexts(parameters=saved[0].infotext)
        grid = make_grid(self.pixels)
        return self._put(lambda target: save_grid(grid, target, texts), self.places.grid)[0]
