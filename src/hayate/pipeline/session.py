"""One request from names to files: find, resolve, load, sample, save."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hayate.engines.torch import TorchEngine, load_engine
from hayate.models.config import ModelConfig
from hayate.pipeline.denoise import StepCallback
from hayate.pipeline.infotext import format_infotext
from hayate.pipeline.noise import resolve_source
from hayate.pipeline.parameters import describe, record, schedule_label
from hayate.pipeline.png import PictureTexts, Target, check_writable, resolve_target, save_png
from hayate.pipeline.resolve import Job, check_names, resolve
from hayate.pipeline.text2image import Batch, text2image
from hayate.request import TextToImage, validate
from hayate.runtime.device import Device, resolve_device
from hayate.runtime.precision import Precision, dtype_name, resolve_precision
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
    """Per phase: load, encode, sample, decode, save."""
    rows: int
    """U-Net batches that were computed."""


def make_pictures(request: TextToImage, settings: Settings, output: Path | None, on_row: StepCallback) -> Report:
    """Makes and saves the pictures of `request`; whatever can be wrong is found before the model is loaded.

    Raises: HayateError; pictures that were already saved stay.
    """
    validate(request)
    check_names(request, settings)
    device = resolve_device(request.device or settings.device)
    target = resolve_target(output or settings.outputs_dir)
    files = find_files(request, settings)
    config = read_config(files.model)
    job = resolve(request, settings, config)
    source, why = resolve_source(job.noise_source, device.torch)
    job = job.with_noise_source(source, why if request.noise_source else "")
    precision = resolve_precision(request.dtype or settings.dtype, device.torch)
    check_writable(target)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    started = time.perf_counter()
    engine = load_engine(files.model, device.torch, precision, vae_path=files.vae)
    seconds = {"load": time.perf_counter() - started, "encode": 0.0, "sample": 0.0, "decode": 0.0, "save": 0.0}
    plan = {**plan_of(job, device, precision), "noise_source_reason": why or "asked for"}
    pictures = tuple(_made(engine, job, files, target, (on_row, seconds, plan)))
    return Report(
        pictures=pictures,
        model={**files.keys(), "family": config.family.value, "path": str(files.model)},
        plan=plan,
        notes=job.notes,
        seconds={phase: round(value, 3) for phase, value in seconds.items()},
        rows=job.table.rows * job.batch_count,
    )


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


def _made(
    engine: TorchEngine, job: Job, files: Files, target: Target, report: tuple[StepCallback, dict, dict]
) -> Iterator[SavedPicture]:
    on_row, seconds, plan = report
    for batch in text2image(engine, job, on_row):
        seconds["encode"] += batch.phases.encode_s
        seconds["sample"] += batch.phases.sample_s
        seconds["decode"] += batch.phases.decode_s
        started = time.perf_counter()
        phases = {name: round(value, 3) for name, value in seconds.items()}
        saved = [_save(batch, index, job, files, (target, phases, plan)) for index in range(len(batch.pictures))]
        seconds["save"] += time.perf_counter() - started
        yield from saved


def _save(batch: Batch, index: int, job: Job, files: Files, about: tuple[Target, dict, dict]) -> SavedPicture:
    target, seconds, plan = about
    number = batch.seeds.index + index
    infotext = format_infotext(describe(job, batch.guidance, number, files.keys()))
    texts = PictureTexts(parameters=infotext, record=record(job, seconds, plan))
    seed = batch.seeds.seeds[index]
    path = save_png(batch.pictures[index], target, seed=seed, texts=texts)
    return SavedPicture(path=path, seed=seed, infotext=infotext)
