"""Text to pictures, from noise or from a picture that is given."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from hayate.engines.base import Engine
from hayate.engines.reuse import FeatureReuse
from hayate.errors import Cancelled, HayateError
from hayate.pipeline.decode import Batch, Decoder, Sampled, StoppedAt, decode_half_made, decode_latents
from hayate.pipeline.denoise import (
    Conditions,
    LatentNoise,
    Relay,
    StepCallback,
    Turn,
    denoise,
    project_conditions,
)
from hayate.pipeline.enlarge import Enlarger
from hayate.pipeline.guards import Guard, guarded
from hayate.pipeline.guidance import Guidance, build_guidance
from hayate.pipeline.job import Job, Seeds
from hayate.pipeline.noise import BatchNoise, NoiseRequest, noise_for
from hayate.pipeline.pictures import to_pixels
from hayate.pipeline.stops import HalfCancelled, HalfSkipped
from hayate.pipeline.tiles import PX_PER_LAT

LATENT_MODES = MappingProxyType(
    {
        "Latent": ("bilinear", False),
        "Latent (antialiased)": ("bilinear", True),
        "Latent (bicubic)": ("bicubic", False),
        "Latent (bicubic antialiased)": ("bicubic", True),
        "Latent (nearest)": ("nearest", False),
        "Latent (nearest-exact)": ("nearest-exact", False),
    }
)
"""What A1111's names mean to PyTorch: the mode, and whether it is antialiased."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Told:
    """The prompts as the U-Net is told them."""

    guidance: Guidance
    """What the text encoders made of them."""
    conditions: Conditions
    """What the U-Net's own projections made of that."""
    refined: Told | None = None
    """The same for the refiner, once it has been told."""


def text2image(engine: Engine, job: Job, on_row: StepCallback, *, keeps_half_made: bool = False) -> Iterator[Batch]:
    """The pictures of `job`, batch by batch, as they are ready; what was sampled survives what ends the next batch.

    `on_row` may raise Skipped, which gives up the batch, and Cancelled, which ends the job; with `keeps_half_made` the
    batch comes all the same, as far as it was made.
    Raises: EngineError when a result is not finite in any type, or memory does not suffice for any plan.
    """
    guard = guarded(engine)
    decoder = Decoder(guard)
    guard.is_overlapping &= not job.changes_models  # the next batch's model would take the VAE away
    started = time.perf_counter()
    told, told_again = tell(guard, job), None
    image, beside = encode_start(guard, job), show_around(guard, job)
    encoded = time.perf_counter()
    try:
        for seeds in job.batches():
            rows_before = 0
            try:
                told, latents = sample(guard, job, told, seeds, on_row, image=image, beside=beside)
                if job.second is not None:
                    rows_before = job.table.rows
                    told_again, latents = enlarge(guard, job.second, told_again, seeds, on_row, latents=latents)
            except (HalfSkipped, HalfCancelled) as stopped:
                if keeps_half_made:
                    yield from (finish(job, batch) for batch in decoder.rest())
                    at = StoppedAt(row=rows_before + stopped.half.row, rows=job.rows)
                    half = replace(_sampled(seeds, stopped.half.latents, told, started, encoded), stopped_at=at)
                    yield from (finish(job, batch) for batch in decode_half_made(guard, half))
                    started = encoded = time.perf_counter()
                if isinstance(stopped, Cancelled):
                    raise
                lost_s = time.perf_counter() - encoded
                started, encoded = started + lost_s, encoded + lost_s
                continue
            sampled = _sampled(seeds, latents, told, started, encoded)
            yield from (finish(job, batch) for batch in decoder.put(sampled))
            started = encoded = time.perf_counter()
    except (KeyboardInterrupt, HayateError):
        yield from (finish(job, batch) for batch in decoder.rest())
        raise
    yield from (finish(job, batch) for batch in decoder.rest())


def tell(guard: Guard, job: Job, guidance: Guidance | None = None) -> Told:
    """Encodes the prompts, unless `guidance` has them encoded, and projects them for the whole schedule."""
    if guidance is None:
        guidance = build_guidance(guard, (job.prompt, job.negative), job.style, job.guidance, job.table.rows)
        guidance = guidance.limited(job.table.sigma, job.approximate)
    return Told(guidance=guidance, conditions=project_conditions(guard, job.table, guidance))


def enlarge(
    guard: Guard, job: Job, told: Told | None, seeds: Seeds, on_row: StepCallback, *, latents: Tensor
) -> tuple[Told, Tensor]:
    """Hires fix: the latents enlarged to the size of `job`, and made anew there as far as it says.

    `told` is the second pass' prompts, once they are encoded.
    Raises: EngineError.
    """
    guard.enter(job.role)
    told = told or tell(guard, job)
    hires = job.hires
    assert hires is not None
    size_lat = (job.height_px // PX_PER_LAT, job.width_px // PX_PER_LAT)
    large = upscale(guard, latents, job.enlarger or hires.upscaler, size_lat)
    if not hires.denoising:
        return told, large
    return sample(guard, job, told, seeds, on_row, image=large, beside=show_around(guard, job))


def upscale(guard: Guard, latents: Tensor, upscaler: str | Enlarger, size_lat: tuple[int, int]) -> Tensor:
    """Latents of another size: interpolated, or those of the enlarged picture. Shapes: [B, 4, …] → [B, 4, *size_lat].

    Raises: EngineError.
    """
    if isinstance(upscaler, str) and upscaler in LATENT_MODES:
        mode, is_antialiased = LATENT_MODES[upscaler]
        return functional.interpolate(latents, size=size_lat, mode=mode, antialias=is_antialiased)
    size = (size_lat[1] * PX_PER_LAT, size_lat[0] * PX_PER_LAT)
    enlarger = Enlarger(name=upscaler) if isinstance(upscaler, str) else upscaler
    small = map(Image.fromarray, decode_latents(guard, latents))
    pictures = [enlarger.enlarge(picture, size, guard.device) for picture in small]
    return torch.cat([guard.encode(to_pixels(picture).to(guard.device)) for picture in pictures])


def encode_start(guard: Guard, job: Job) -> Tensor | None:
    """The latents of the picture that the job starts from, if there is one. Shapes: → [1, 4, h, w].

    Raises: EngineError.
    """
    if job.start is None:
        return None
    latents = guard.encode(job.start.pixels().to(guard.device))
    if not job.start.is_latent_resize:
        return latents
    size = (job.height_px // PX_PER_LAT, job.width_px // PX_PER_LAT)
    return functional.interpolate(latents, size=size, mode="bilinear")


def show_around(guard: Guard, job: Job) -> Tensor | None:
    """What an inpainting model is shown beside the latents: where it paints, and the picture without that part.

    Without a picture everything is painted, on grey. Shapes: → [1, 5, h, w], or None for other models.
    Source: A1111 behaviour, docs/compat.md.
    Raises: EngineError.
    """
    if not guard.config.is_inpainting:
        return None
    size = (job.height_px // PX_PER_LAT, job.width_px // PX_PER_LAT)
    if job.start is None:
        pixels, mask = torch.zeros((1, 3, job.height_px, job.width_px)), torch.ones((1, 1, job.height_px, job.width_px))
    else:
        pixels, mask = job.start.pixels(), job.start.pixel_mask()
    around = guard.encode((pixels * (1 - mask)).to(guard.device))
    if around.shape[2:] != size:
        around = functional.interpolate(around, size=size, mode="bilinear")
    return torch.cat([functional.interpolate(mask, size=size).to(around.device), around], dim=1)


def finish(job: Job, batch: Batch) -> Batch:
    """The batch with each picture put back into what was given: outside of a mask that is what it is."""
    if job.start is None or job.start.mask is None:
        return batch
    pictures = [np.asarray(job.start.finished(Image.fromarray(picture))) for picture in batch.pictures]
    return replace(batch, pictures=np.stack(pictures))


def sample(
    guard: Guard,
    job: Job,
    told: Told,
    seeds: Seeds,
    on_row: StepCallback,
    *,
    image: Tensor | None = None,
    beside: Tensor | None = None,
) -> tuple[Told, Tensor]:
    """The latents of one batch; the stage that made them not finite, and it alone, is done again in a wider type.

    The latents alone are looked at, after the loop. If they are not finite, neither is the prompt where the text
    encoders are at fault, and it is finite where the U-Net is.
    Raises: EngineError.
    """
    request = job.noise_request(seeds, guard.device)
    while True:
        guard.enter(job.role)
        noise = latent_noise(job, request, image)  # anew, so that every attempt is given the same numbers
        noise = replace(noise, beside=beside)
        if job.hooked.of("before_sampling"):
            noise = replace(noise, first=job.hooked.before_sampling(noise.first, job, seeds))
        takeover = Takeover(guard, job, told, noise)
        latents = denoise(
            guard,
            job.table,
            told.guidance,
            told.conditions,
            noise,
            on_row=on_row,
            reuse=FeatureReuse(job.approximate.deepcache) if job.approximate.deepcache > 1 else None,
            acted=guard.acted,
            on_denoised=guard.on_denoised,
            relay=takeover.relay(),
        )
        if guard.is_good(latents):
            if job.hooked.of("after_sampling"):
                latents = job.hooked.after_sampling(latents, job, seeds)
            _await(latents)
            return takeover.told, latents
        told = takeover.mended()


class Takeover:
    """The change of models in one attempt at a batch: the refiner takes over, and is told the prompts if need be."""

    def __init__(self, guard: Guard, job: Job, told: Told, noise: LatentNoise) -> None:
        self.told = told
        """What the models of the pass are told."""
        self._guard = guard
        self._job = job
        self._noise = noise
        self._has_happened = False

    def relay(self) -> Relay | None:
        """Where it happens, if it does."""
        return None if self._job.refined is None else Relay(row=self._job.refined.row, take_over=self._take_over)

    def mended(self) -> Told:
        """Lets the model at work compute in a wider type, and what all are told then.

        Raises: EngineError.
        """
        guard, job = self._guard, self._refining() if self._has_happened else self._job
        told = self.told.refined if self._has_happened else self.told
        assert told is not None
        is_text_good = guard.is_good(*_tensors_of(told.guidance))
        guard.mend("unet" if is_text_good else "text")
        again = tell(guard, job, told.guidance if is_text_good else None)
        return replace(self.told, refined=again) if self._has_happened else replace(again, refined=self.told.refined)

    def _take_over(self, latents: Tensor) -> Turn | None:
        """None where the latents are not finite, so that the model that made them is mended while it is here."""
        if not self._guard.is_good(latents):
            return None
        self._guard.enter("refiner")
        self._has_happened = True
        told = self.told.refined or tell(self._guard, self._refining())
        self.told = replace(self.told, refined=told)
        noise = replace(self._noise, beside=show_around(self._guard, self._job))
        return Turn(guidance=told.guidance, conditions=told.conditions, noise=noise)

    def _refining(self) -> Job:
        """The pass as the refiner knows its timesteps and its words."""
        job = self._job
        assert job.refined is not None
        return replace(job, table=job.refined.table, style=replace(job.style, inverted=job.refiner_inverted))


def latent_noise(job: Job, request: NoiseRequest, image: Tensor | None = None) -> LatentNoise:
    """What a batch starts from, and the draws that the job's table asks for after it."""
    stream = BatchNoise(request)
    first = stream.first()
    draw = noise_for(job.table, request, stream)
    asked = job.request.start
    if image is None or job.start is None or asked is None:
        return LatentNoise(first=first, draw=draw, image=image)
    mask = job.start.latent_mask()
    mask = None if mask is None else mask.to(first.device)
    image = image.expand_as(first)
    if mask is not None and asked.fill.startswith("latent"):
        image = image * (1 - mask)
        if asked.fill == "latent noise":
            image = image + BatchNoise(replace(request, subseed_strength=0.0, ensd=0)).first() * mask
    return LatentNoise(first=first * asked.noise_multiplier, draw=draw, image=image, mask=mask)


def _sampled(seeds: Seeds, latents: Tensor, told: Told, started: float, encoded: float) -> Sampled:
    """A batch that leaves the sampler now; its work began at `started`, its sampling at `encoded`."""
    return Sampled(
        seeds=seeds,
        latents=latents,
        guidance=told.guidance,
        encode_s=encoded - started,
        sample_s=time.perf_counter() - encoded,
    )


def _await(latents: Tensor) -> None:
    """Waits for the sampling, so that its seconds are its own even where nobody looked at the result."""
    if latents.device.type == "cuda":
        torch.cuda.current_stream(latents.device).synchronize()


def _tensors_of(guidance: Guidance) -> list[Tensor]:
    return [part.flatten() for each in guidance.variants for part in (each.context, each.vector) if part is not None]
