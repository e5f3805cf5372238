"""One request from names to files: find, resolve, load, sample, save."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from hayate.engines.base import Part
from hayate.engines.torch import load_engine
from hayate.models.config import ModelConfig
from hayate.pipeline.decode import Batch
from hayate.pipeline.denoise import StepCallback
from hayate.pipeline.guards import Guard
from hayate.pipeline.infotext import format_infotext
from hayate.pipeline.noise import resolve_source
from hayate.pipeline.overlap import Worker
from hayate.pipeline.parameters import Speed, describe, record, schedule_label
from hayate.pipeline.png import PictureTexts, Target, check_writable, resolve_target, save_png
from hayate.pipeline.resolve import Job, check_names, resolve
from hayate.pipeline.safe_types import FILE_NAME, SafeTypes
from hayate.pipeline.text2image import text2image
from hayate.pipeline.tiles import check_tile
from hayate.request import TextToImage, validate
from hayate.runtime.device import Device, resolve_device
from hayate.runtime.precision import Precision, dtype_name, resolve_precision
from hayate.runtime.probe import peak_memory_bytes, reset_peak_memory
from hayate.settings import Settings
from hayate.weights.builtin import builtin_model
from hayate.weights.detect import detect_checkpoint
from hayate.weights.hashes import start_hash
from hayate.weights.library import find_model
from hayate.weights.read import open_checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The model files of a job, found, and the hashes that are still being computed."""

    model: Path
    vae: Path | None
    hashes: Mapping[str, Future[str]]

    def keys(self) -> dict[str, str]:
        """The infotext's keys for the files; waits for the hashes."""
        keys = {"Model hash": self.hashes["model"].result(), "Model": self.model.stem}
        if self.vae is not None:
            keys |= {"VAE hash": self.hashes["vae"].result(), "VAE": self.vae.name}
        return keys


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


def make_pictures(
    request: TextToImage,
    settings: Settings,
    output: Path | None,
    on_row: StepCallback,
    *,
    checks_nan: bool = True,
    vae_tile_px: int | None = None,
) -> Report:
    """Makes and saves the pictures of `request`; whatever can be wrong is found before the model is loaded.

    Without `checks_nan` nothing is looked at: a model that fails makes black pictures.
    Raises: HayateError; pictures that were sampled by then are saved.
    """
    validate(request)
    check_names(request, settings)
    device = resolve_device(request.device or settings.device)
    target = resolve_target(output or settings.outputs_dir)
    files = find_files(request, settings)
    job = resolve(request, settings, read_config(files.model))
    source, why = resolve_source(job.noise_source, device.torch)
    job = job.with_noise_source(source, why if request.noise_source else "")
    precision = resolve_precision(request.dtype or settings.dtype, device.torch)
    check_writable(target)
    if vae_tile_px is not None:
        check_tile(vae_tile_px)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    reset_peak_memory(device.torch)
    started = time.perf_counter()
    guard = load_guard(files, device, precision, settings.cache_dir if checks_nan else None)
    guard.tile_px = vae_tile_px
    making = Making(guard=guard, job=job, device=device, files=files, target=target)
    making.plan["noise_source_reason"] = why or "asked for"
    making.seconds["load"] = time.perf_counter() - started
    return making.run(on_row)


def load_guard(files: Files, device: Device, precision: Precision, cache_dir: Path | None) -> Guard:
    """The engine of the files behind its guard, in types that are known or found to be safe.

    Without `cache_dir` nothing is known, nothing tried and nothing looked at.
    Raises: ModelFileError, EngineError.
    """
    if cache_dir is None:
        return Guard(engine=load_engine(files.model, device.torch, precision, vae_path=files.vae), checks_nan=False)
    parts: dict[Part, Path] = {"unet": files.model, "text": files.model, "vae": files.vae or files.model}
    safe = SafeTypes(path=cache_dir / FILE_NAME, files=parts)
    precision, notes = safe.applied_to(precision)
    engine = load_engine(files.model, device.torch, precision, vae_path=files.vae)
    guard = Guard(engine=engine, on_widened=safe.keep, notes=notes)
    guard.probe_vae()
    return guard


def find_files(request: TextToImage, settings: Settings) -> Files:
    """The files that the request's names mean; their hashes begin to be computed.

    Raises: UnknownName, UsageError.
    """
    built_in = builtin_model()
    model = built_in if request.model is None else find_model(request.model, settings.models_dir, built_in)
    vae = None if request.vae is None else find_model(request.vae, settings.vae_dir)
    found = {"model": model} | ({} if vae is None else {"vae": vae})
    hashes = {part: start_hash(path, settings.cache_dir) for part, path in found.items()}
    return Files(model=model, vae=vae, hashes=hashes)


def read_config(path: Path) -> ModelConfig:
    """What the checkpoint is, from its header. Cost: milliseconds."""
    with open_checkpoint(path) as checkpoint:
        return detect_checkpoint(checkpoint)


def plan_of(job: Job, device: Device, precision: Precision) -> dict[str, Any]:
    """What will be done, and why, as JSON can hold it."""
    return {
        "device": device.title,
        "device_reason": device.reason,
        "dtype": {part: dtype_name(getattr(precision, part)) for part in ("unet", "text", "vae")},
        "dtype_reason": precision.reason,
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
    job: Job
    device: Device
    files: Files
    target: Target
    plan: dict[str, Any] = field(default_factory=dict)
    """What the plan holds beside `plan_of`."""
    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("load", "encode", "sample", "decode", "save"), 0.0)
    )
    rows: int = 0

    def run(self, on_row: StepCallback) -> Report:
        """Makes all pictures; encoding and writing their files goes on beside the next batch, always in order."""
        with Worker[SavedPicture]() as worker:
            for batch in text2image(self.guard, self.job, on_row):
                self._count(batch)
                about = record(self.job, self._plan(), self._speed(), self._notes())
                for index in range(len(batch.pictures)):
                    worker.put(partial(self._save, batch, index, about))
        config = self.guard.config
        return Report(
            pictures=worker.results,
            model={**self.files.keys(), "family": config.family.value, "path": str(self.files.model)},
            plan=self._plan(),
            notes=self._notes(),
            seconds={phase: round(value, 3) for phase, value in self.seconds.items()},
            rows=self.rows,
            speed=self._speed().as_object(),
        )

    def _count(self, batch: Batch) -> None:
        self.rows += self.job.table.rows
        self.seconds["encode"] += batch.phases.encode_s
        self.seconds["sample"] += batch.phases.sample_s
        self.seconds["decode"] += batch.phases.decode_s

    def _plan(self) -> dict[str, Any]:
        """The plan with the types as they are now: the guard may have widened one."""
        return plan_of(self.job, self.device, self.guard.precision) | self.plan

    def _notes(self) -> tuple[str, ...]:
        return (*self.job.notes, *self.guard.notes)

    def _speed(self) -> Speed:
        return Speed(
            seconds=dict(self.seconds),
            rows=self.rows,
            peak_memory_bytes=peak_memory_bytes(self.device.torch),
            evidence=tuple(self.guard.evidence()),
        )

    def _save(self, batch: Batch, index: int, about: Mapping[str, Any]) -> SavedPicture:
        """One picture as a file; the worker's, which alone counts the seconds of saving."""
        started = time.perf_counter()
        infotext = format_infotext(describe(self.job, batch.guidance, batch.seeds.index + index, self.files.keys()))
        texts = PictureTexts(parameters=infotext, record=about)
        seed = batch.seeds.seeds[index]
        path = save_png(batch.pictures[index], self.target, seed=seed, texts=texts)
        self.seconds["save"] += time.perf_counter() - started
        return SavedPicture(path=path, seed=seed, infotext=infotext)
