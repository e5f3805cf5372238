"""Text to pictures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hayate.engines.base import Engine
from hayate.pipeline.decode import decode_latents
from hayate.pipeline.denoise import LatentNoise, StepCallback, denoise, project_conditions
from hayate.pipeline.guidance import Guidance, build_guidance
from hayate.pipeline.noise import BatchNoise, NoiseRequest, noise_for
from hayate.pipeline.resolve import Job, Seeds
from hayate.samplers.table import StepTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Phases:
    """Seconds that a batch spent in each phase; the prompt is encoded once, for the first batch."""

    encode_s: float
    sample_s: float
    decode_s: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """The pictures of one batch."""

    seeds: Seeds
    pictures: np.ndarray
    """[B, H, W, 3] uint8"""
    phases: Phases
    guidance: Guidance


def text2image(engine: Engine, job: Job, on_row: StepCallback) -> Iterator[Batch]:
    """The pictures of `job`, batch by batch, as they are ready.

    Raises: EngineError when a result is not finite.
    """
    started = time.perf_counter()
    guidance = build_guidance(engine, (job.prompt, job.negative), job.style, job.guidance, job.table.rows)
    conditions = project_conditions(engine, job.table, guidance)
    encoded = time.perf_counter()
    for seeds in job.batches():
        noise = latent_noise(job.table, job.noise_request(seeds, engine.device))
        latents = denoise(engine, job.table, guidance, conditions, noise, on_row=on_row)
        sampled = time.perf_counter()
        pictures = decode_latents(engine, latents)
        decoded = time.perf_counter()
        phases = Phases(encode_s=encoded - started, sample_s=sampled - encoded, decode_s=decoded - sampled)
        yield Batch(seeds=seeds, pictures=pictures, phases=phases, guidance=guidance)
        started = encoded = time.perf_counter()


def latent_noise(table: StepTable, request: NoiseRequest) -> LatentNoise:
    """The noise that a batch starts from, and the draws that `table` asks for after it."""
    stream = BatchNoise(request)
    first = stream.first()
    return LatentNoise(first=first, draw=noise_for(table, request, stream))
