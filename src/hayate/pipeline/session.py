"""One request from names to files: find, resolve, load, sample, save."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from hayate.engines.base import Engine, Part
from hayate.engines.compiled import CompiledEngine
from hayate.engines.networks import loaders_for
from hayate.engines.torch import TorchEngine, load_engine
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
from hayate.runtime.asked import Asked
from hayate.runtime.attention.evidence import evidence as attention_evidence
from hayate.runtime.compile.compiler import Compiler
from hayate.runtime.compile.spec import Mode
from hayate.runtime.compile.workshop import CompileOptions
from hayate.runtime.device import resolve_device
from hayate.runtime.facts import gather_facts
from hayate.runtime.memory import Work
from hayate.runtime.plan import Plan, resolve_plan
from hayate.runtime.precision import Precision, dtype_name
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
    asked: Asked | None = None,
) -> Report:
    """Makes and saves the pictures of `request`; whatever can be wrong is found before the model is loaded.

    Raises: HayateError; pictures that were sampled by then are saved.
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
    plan = resolve_plan(asked_with(asked, request, settings), gather_facts(device), config, work_of(job))
    check_writable(target)
    if plan.vae_tile_px is not None:
        check_tile(plan.vae_tile_px)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    reset_peak_memory(device.torch)
    started = time.perf_counter()
    with ExitStack() as stack:
        guard = load_guard(files, plan, settings.cache_dir, stack)
        making = Making(guard=guard, job=job, plan=plan, files=files, target=target)
        making.extra["noise_source_reason"] = why or "asked for"
        making.seconds["load"] = time.perf_counter() - started
        return making.run(on_row)


def plan_request(request: TextToImage, settings: Settings, asked: Asked) -> Plan:
    """The plan that `make_pictures` would follow.

    Raises: HayateError.
    """
    device = resolve_device(request.device or settings.device)
    built_in = builtin_model()
    model = built_in if request.model is None else find_model(request.model, settings.models_dir, built_in)
    config = read_config(model)
    job = resolve(request, settings, config)
    return resolve_plan(asked_with(asked, request, settings), gather_facts(device), config, work_of(job))


def asked_with(asked: Asked | None, request: TextToImage, settings: Settings) -> Asked:
    """What was asked for, completed by the request and the settings."""
    asked = asked or Asked()
    return replace(
        asked,
        dtype=request.dtype or asked.dtype or settings.dtype,
        attention=asked.attention or (None if asked.wished_attention else settings.attention),
        compile=asked.compile or (None if settings.compile == "off" else settings.compile),
        offload=asked.offload or settings.offload,
        promise=asked.promise or (None if settings.promise == "exact" else settings.promise),
    )


def work_of(job: Job) -> Work:
    """What the U-Net and the VAE are given at once."""
    is_guided = job.cfg != 1
    return Work(
        inputs=job.batch_size * (2 if is_guided else 1),
        images=1,
        height_px=job.height_px,
        width_px=job.width_px,
    )


def load_guard(files: Files, plan: Plan, cache_dir: Path, stack: ExitStack) -> Guard:
    """The engine of the files as the plan wants it, behind its guard, in types that are known or found to be safe.

    What has to be ended with the work is left to `stack`.
    Raises: ModelFileError, EngineError.
    """
    parts: dict[Part, Path] = {"unet": files.model, "text": files.model, "vae": files.vae or files.model}
    safe = SafeTypes(path=cache_dir / FILE_NAME, files=parts)
    precision, notes = safe.applied_to(plan.precision) if plan.checks_nan else (plan.precision, [])
    engine: Engine = planned_engine(files, plan, precision)
    if plan.compile is not Mode.OFF:
        compiler = Compiler(cache_dir / "compiled", CompileOptions(mode=plan.compile))
        stack.callback(compiler.close)
        assert isinstance(engine, TorchEngine)
        engine = CompiledEngine(engine=engine, compiler=compiler, parts=plan.compile_parts)
    guard = Guard(engine=engine, checks_nan=plan.checks_nan, on_widened=safe.keep, notes=notes)
    guard.is_overlapping = plan.offload == "none"
    guard.tile_px = plan.vae_tile_px
    if plan.checks_nan:
        guard.probe_vae()
    return guard


def planned_engine(files: Files, plan: Plan, precision: Precision) -> TorchEngine:
    """The networks loaded to where the plan keeps them, prepared, offloaded and recorded as it says."""
    device = plan.device.torch
    home = device if plan.offload == "none" else torch.device("cpu")
    engine = load_engine(files.model, home, precision, vae_path=files.vae, loaders=loaders_for(plan.preparation))
    if plan.offload != "none":
        return engine.offloaded(device, is_streamed=plan.offload == "lowvram")
    return engine.recorded() if plan.is_graphed else engine


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
    job: Job
    plan: Plan
    files: Files
    target: Target
    extra: dict[str, Any] = field(default_factory=dict)
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
        return plan_of(self.job, self.plan, self.guard.precision) | self.extra

    def _notes(self) -> tuple[str, ...]:
        return (*self.plan.notes, *self.job.notes, *self.guard.notes)

    def _speed(self) -> Speed:
        return Speed(
            seconds=dict(self.seconds),
            rows=self.rows,
            peak_memory_bytes=peak_memory_bytes(self.plan.device.torch),
            evidence=(*self.guard.evidence(), attention_evidence(self.plan.attention)),
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
