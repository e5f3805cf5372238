"""One request from names to files: find, resolve, load, sample, save."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hayate.pipeline.cast import Cast
from hayate.pipeline.decode import Batch
from hayate.pipeline.denoise import StepCallback
from hayate.pipeline.formats import Format, PictureTexts, check_fits, check_format, is_too_large
from hayate.pipeline.grid import grid_shape, make_grid
from hayate.pipeline.guards import Guard
from hayate.pipeline.infotext import format_infotext
from hayate.pipeline.job import Job
from hayate.pipeline.names import NameFacts, fill_pattern
from hayate.pipeline.overlap import Worker
from hayate.pipeline.parameters import Speed, describe, record, schedule_label
from hayate.pipeline.pictures import InMemory
from hayate.pipeline.png import Target, check_writable, resolve_target, save_grid, save_picture
from hayate.pipeline.prepared import Files, Prepared, prepare_request
from hayate.pipeline.previews import Previewer
from hayate.pipeline.text2image import text2image
from hayate.pipeline.workspace import Workspace
from hayate.request import TextToImage
from hayate.runtime.asked import Asked
from hayate.runtime.attention.evidence import evidence as attention_evidence
from hayate.runtime.plan import Plan
from hayate.runtime.precision import Precision, dtype_name
from hayate.runtime.probe import peak_memory_bytes, reset_peak_memory
from hayate.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedPicture:
    """A picture on the disk."""

    path: Path
    seed: int
    infotext: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What became of a request."""

    pictures: tuple[SavedPicture, ...]
    model: Mapping[str, str]
    plan: Mapping[str, Any]
    notes: tuple[str, ...]
    seconds: Mapping[str, float]
    """Per phase: load, encode, sample, decode, save; saving goes on beside the others."""
    rows: int
    """U-Net batches that were computed."""
    speed: Mapping[str, Any]
    """What the pictures' records call `speed`, with all pictures saved."""
    grid: Path | None = None
    """All pictures in one, if that was asked for and there are several."""
    pixels: tuple[np.ndarray, ...] = ()
    """The pictures themselves, each [H, W, 3] uint8, if they were to be kept."""


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
) -> Report:
    """Makes and saves the pictures of `request`; whatever can be wrong is found before the model is loaded.

    `workspace` keeps what the next request can use; without one nothing outlives this one. With `has_grid` all pictures
    are saved in one as well. `instead` is a picture to start from in place of the request's; with `keeps_pixels` the
    report has the pictures themselves; `previewer` is shown each picture while it is made.
    Raises: HayateError; pictures that were sampled by then are saved.
    """
    if workspace is None:
        has_several = request.refiner is not None or (request.hires is not None and request.hires.model is not None)
        with Workspace(settings, is_lasting=has_several) as own:  # the models of a job come back with every batch
            return make_pictures(
                request,
                settings,
                output,
                on_row,
                asked,
                workspace=own,
                has_grid=has_grid,
                instead=instead,
                keeps_pixels=keeps_pixels,
                previewer=previewer,
            )
    format_ = Format(name=settings.format, quality=settings.quality)
    target = resolve_target(output or settings.outputs_dir, format_)
    check_format(target.format)
    prepared = prepare_request(request, settings, asked, workspace, instead=instead)
    check_fits(target.format, prepared.job.prompt_text, prepared.job.negative_text)
    check_writable(target)
    reset_peak_memory(prepared.plan.device.torch)
    started = time.perf_counter()
    guard = Cast(prepared, settings, workspace).open()
    making = Making(guard=guard, prepared=prepared, target=target, workspace=workspace)
    making.pattern, making.has_grid, making.keeps_pixels = settings.filename_pattern, has_grid, keeps_pixels
    making.previewer = previewer
    making.seconds["load"] = time.perf_counter() - started
    if previewer is None:
        return making.run(on_row)
    with previewer.watching(prepared, guard):
        return making.run(on_row)


def plan_of(job: Job, plan: Plan, precision: Precision) -> dict[str, Any]:
    """What will be done, and why, as JSON can hold it."""
    return {
        "device": plan.device.title,
        "device_reason": plan.device.reason,
        "dtype": {part: dtype_name(getattr(precision, part)) for part in ("unet", "text", "vae")},
        "dtype_reason": plan.precision.reason,
        "choices": plan.as_object(),
        "sampler": job.sampler.name,
        "schedule": schedule_label(job),
        "steps": job.steps,
        "cfg": job.cfg,
        "size_px": [job.width_px, job.height_px],
        "batch_size": job.batch_size,
        "batch_count": job.batch_count,
        "seed": job.seed,
        "noise_source": job.noise_source.value,
        "clip_skip": job.style.clip_skip,
        "emphasis": job.style.emphasis.value,
    }


@dataclass(slots=True, kw_only=True, eq=False)
class Making:
    """A job under way."""

    guard: Guard
    prepared: Prepared
    target: Target
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
    previewer: Previewer | None = None
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

    def run(self, on_row: StepCallback) -> Report:
        """Makes all pictures; encoding and writing their files goes on beside the next batch, always in order."""
        with Worker[SavedPicture]() as worker:
            for batch in text2image(self.guard, self.job, on_row):
                self._count(batch)
                about = record(self.job, self._plan(), self._speed(), self._notes())
                for index in range(len(batch.pictures)):
                    worker.put(partial(self._save, batch, index, about))
                self.pixels.extend(batch.pictures if self.has_grid or self.keeps_pixels else ())
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
        )

    def _count(self, batch: Batch) -> None:
        second = self.job.second
        self.rows += self.job.table.rows + (second.table.rows if second is not None and second.hires_acts else 0)
        self.seconds["encode"] += batch.phases.encode_s
        self.seconds["sample"] += batch.phases.sample_s
        self.seconds["decode"] += batch.phases.decode_s

    def _plan(self) -> dict[str, Any]:
        """The plan with the types as they are now: the guard may have widened one."""
        planned = plan_of(self.job, self.plan, self.guard.precision)
        return {**planned, "noise_source_reason": self.prepared.noise_reason or "asked for"}

    def _notes(self) -> tuple[str, ...]:
        return (*self.plan.notes, *self.job.notes, *self.guard.notes)

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
                *(() if self.previewer is None else (self.previewer.evidence(),)),
            ),
        )

    def _save(self, batch: Batch, index: int, about: Mapping[str, Any]) -> SavedPicture:
        """One picture as a file; the worker's, which alone counts the seconds of saving."""
        started = time.perf_counter()
        infotext = format_infotext(describe(self.job, batch.guidance, batch.seeds.index + index, self.files.keys()))
        texts = PictureTexts(parameters=infotext, record=about)
        seed = batch.seeds.seeds[index]
        stem = fill_pattern(self.pattern, self._name_facts(batch.seeds.index + index))
        path = save_picture(batch.pictures[index], self.target, stem=stem, texts=texts)
        self.seconds["save"] += time.perf_counter() - started
        return SavedPicture(path=path, seed=seed, infotext=infotext)

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
        if is_too_large(self.target.format, columns * width_px, rows * height_px):
            self.guard.notes.append(f"no grid: it is larger than a {self.target.format.name.upper()} file should be")
            return None
        return save_grid(make_grid(self.pixels), self.target, PictureTexts(parameters=saved[0].infotext))
