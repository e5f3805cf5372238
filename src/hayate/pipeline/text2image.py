"""Text to pictures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from hayate.engines.base import Engine
from hayate.engines.reuse import FeatureReuse
from hayate.errors import HayateError
from hayate.pipeline.decode import Batch, Decoder, Sampled
from hayate.pipeline.denoise import Conditions, LatentNoise, StepCallback, denoise, project_conditions
from hayate.pipeline.guards import Guard, guarded
from hayate.pipeline.guidance import Guidance, build_guidance
from hayate.pipeline.noise import BatchNoise, NoiseRequest, noise_for
from hayate.pipeline.resolve import Job, Seeds
from hayate.samplers.table import StepTable


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Told:
    """The prompts as the U-Net is told them."""

    guidance: Guidance
    """What the text encoders made of them."""
    conditions: Conditions
    """What the U-Net's own projections made of that."""


def text2image(engine: Engine, job: Job, on_row: StepCallback) -> Iterator[Batch]:
    """The pictures of `job`, batch by batch, as they are ready; what was sampled survives what ends the next batch.

    Raises: EngineError when a result is not finite in any type, or memory does not suffice for any plan.
    """
    guard = guarded(engine)
    decoder = Decoder(guard)
    started = time.perf_counter()
    told = tell(guard, job)
    encoded = time.perf_counter()
    try:
        for seeds in job.batches():
            told, latents = sample(guard, job, told, seeds, on_row)
            times = {"encode_s": encoded - started, "sample_s": time.perf_counter() - encoded}
            yield from decoder.put(Sampled(seeds=seeds, latents=latents, guidance=told.guidance, **times))
            started = encoded = time.perf_counter()
    except (KeyboardInterrupt, HayateError):
        yield from decoder.rest()
        raise
    yield from decoder.rest()


def tell(guard: Guard, job: Job, guidance: Guidance | None = None) -> Told:
    """Encodes the prompts, unless `guidance` has them encoded, and projects them for the whole schedule."""
    if guidance is None:
        guidance = build_guidance(guard, (job.prompt, job.negative), job.style, job.guidance, job.table.rows)
        guidance = guidance.limited(job.table.sigma, job.approximate)
    return Told(guidance=guidance, conditions=project_conditions(guard, job.table, guidance))


def sample(guard: Guard, job: Job, told: Told, seeds: Seeds, on_row: StepCallback) -> tuple[Told, Tensor]:
    """The latents of one batch; the stage that made them not finite, and it alone, is done again in a wider type.

    The latents alone are looked at, after the loop. If they are not finite, neither is the prompt where the text
    encoders are at fault, and it is finite where the U-Net is.
    Raises: EngineError.
    """
    request = job.noise_request(seeds, guard.device)
    while True:
        noise = latent_noise(job.table, request)  # anew, so that every attempt is given the same numbers
        latents = denoise(
            guard,
            job.table,
            told.guidance,
            told.conditions,
            noise,
            on_row=on_row,
            reuse=FeatureReuse(job.approximate.deepcache) if job.approximate.deepcache > 1 else None,
            acted=guard.acted,
        )
        if guard.is_good(latents):
            _await(latents)
            return told, latents
        is_text_good = guard.is_good(*_tensors_of(told.guidance))
        guard.mend("unet" if is_text_good else "text")
        told = tell(guard, job, told.guidance if is_text_good else None)


def latent_noise(table: StepTable, request: NoiseRequest) -> LatentNoise:
    """The noise that a batch starts from, and the draws that `table` asks for after it."""
    stream = BatchNoise(request)
    first = stream.first()
    return LatentNoise(first=first, draw=noise_for(table, request, stream))


def _await(latents: Tensor) -> None:
    """Waits for the sampling, so that its seconds are its own even where nobody looked at the result."""
    if latents.device.type == "cuda":
        torch.cuda.current_stream(latents.device).synchronize()


def _tensors_of(guidance: Guidance) -> list[Tensor]:
    return [part.flatten() for each in guidance.variants for part in (each.context, each.vector) if part is not None]
