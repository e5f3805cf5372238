"""Latents to pictures, on a GPU beside the sampling of the next ones."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from hayate.engines.base import Engine
from hayate.errors import EngineError
from hayate.pipeline.guards import Guard, guarded
from hayate.pipeline.guidance import Guidance
from hayate.pipeline.job import Seeds


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sampled:
    """A batch that has left the sampler."""

    seeds: Seeds
    latents: Tensor
    guidance: Guidance
    encode_s: float
    sample_s: float
    stopped_at: StoppedAt | None = None
    """Of a batch that was interrupted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoppedAt:
    """How far a batch came before somebody ended its job: rows of all passes."""

    row: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Phases:
    """Seconds that a batch spent in each phase; the prompt is encoded once, for the first batch.

    Decoding beside the sampling of the next batch counts only with the time that it is waited for.
    """

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
    stopped_at: StoppedAt | None = None
    """Of pictures that are half-made."""


@torch.inference_mode()
def decode_latents(engine: Engine, latents: Tensor) -> np.ndarray:
    """Pictures of `latents`, one at a time, so that the VAE's peak memory is that of one picture.

    Shapes: [B, 4, h, w] → [B, 8h, 8w, 3] uint8, rounded (A1111 truncates, docs/compat.md).
    Raises: EngineError when a picture is not finite in any type, rather than a black picture.
    """
    guard = guarded(engine)
    return np.stack([_picture(guard, one, guard.decode(one)) for one in latents.split(1)])


def decode_half_made(guard: Guard, sampled: Sampled) -> Iterator[Batch]:
    """The batch as far as it was made; none, and a note, where that can't be decoded: it was given up anyway."""
    started = time.perf_counter()
    try:
        if not guard.is_good(sampled.latents):
            raise EngineError("its latents are not finite")
        pictures = decode_latents(guard, sampled.latents)
    except EngineError as error:
        guard.notes.append(f"the half-made picture is left out: {error.message}")
        return
    yield _finished(sampled, pictures, time.perf_counter() - started)


class Stream(Protocol):
    """A place beside the sampling where work is begun and later waited for."""

    def begin(self, guard: Guard, latents: Tensor) -> list[Tensor]:
        """The pixels of each of `latents`, being computed."""
        ...

    def wait(self, pixels: list[Tensor]) -> None:
        """Returns when `pixels` may be read."""
        ...


class SideStream:
    """A CUDA stream of its own: the sampling's small kernels leave room that a decode fills."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)

    @torch.inference_mode()
    def begin(self, guard: Guard, latents: Tensor) -> list[Tensor]:
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            pixels = [guard.decode(one) for one in latents.split(1)]
        latents.record_stream(self.stream)
        return pixels

    def wait(self, pixels: list[Tensor]) -> None:
        here = torch.cuda.current_stream(self.device)
        here.wait_stream(self.stream)
        for each in pixels:
            each.record_stream(here)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Begun:
    """A batch that is being decoded."""

    pixels: list[Tensor]
    dtype: torch.dtype
    """What the VAE computed in when it was begun."""
    seconds: float


class Decoder:
    """Takes sampled batches and gives finished ones, in their order.

    On a GPU a batch is decoded while the next one is sampled, and comes out after that; else it comes out at once, for
    on a CPU both would only fight for the same cores.
    """

    def __init__(self, guard: Guard, stream: Stream | None = None) -> None:
        self._guard = guard
        self._stream = SideStream(guard.device) if stream is None and guard.device.type == "cuda" else stream
        self._pending: tuple[Sampled, Begun] | None = None
        guard.is_overlapping = self._stream is not None

    def put(self, sampled: Sampled) -> Iterator[Batch]:
        """The batches that are finished now that `sampled` is."""
        if self._stream is None or not self._guard.is_overlapping:
            yield from self.rest()
            started = time.perf_counter()
            pictures = decode_latents(self._guard, sampled.latents)
            yield _finished(sampled, pictures, time.perf_counter() - started)
            return
        begun = self._begin(self._stream, sampled)
        before, self._pending = self._pending, (sampled, begun)
        if before is not None:
            self._guard.overlapped += 1
            yield self._collected(self._stream, *before)

    def rest(self) -> Iterator[Batch]:
        """The batch that is still being decoded, if there is one."""
        before, self._pending = self._pending, None
        if before is not None and self._stream is not None:
            yield self._collected(self._stream, *before)

    def _begin(self, stream: Stream, sampled: Sampled) -> Begun:
        started = time.perf_counter()
        dtype = self._guard.precision.vae
        pixels = stream.begin(self._guard, sampled.latents)
        return Begun(pixels=pixels, dtype=dtype, seconds=time.perf_counter() - started)

    @torch.inference_mode()
    def _collected(self, stream: Stream, sampled: Sampled, begun: Begun) -> Batch:
        started = time.perf_counter()
        stream.wait(begun.pixels)
        pictures = []
        for latents, pixels in zip(sampled.latents.split(1), begun.pixels, strict=True):
            # What was begun in a type that has failed since is decoded in the one that would have been used by now.
            is_current = self._guard.precision.vae is begun.dtype
            pictures.append(_picture(self._guard, latents, pixels if is_current else self._guard.decode(latents)))
        return _finished(sampled, np.stack(pictures), begun.seconds + time.perf_counter() - started)


def _picture(guard: Guard, latents: Tensor, pixels: Tensor) -> np.ndarray:
    """One picture in 8 bits; its pixels are computed again in a wider type while they are not finite."""
    while not guard.is_good(pixels):
        guard.mend("vae")
        pixels = guard.decode(latents)
    levels = ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return levels[0].permute(1, 2, 0).cpu().numpy()


def _finished(sampled: Sampled, pictures: np.ndarray, decode_s: float) -> Batch:
    phases = Phases(encode_s=sampled.encode_s, sample_s=sampled.sample_s, decode_s=decode_s)
    return Batch(
        seeds=sampled.seeds,
        pictures=pictures,
        phases=phases,
        guidance=sampled.guidance,
        stopped_at=sampled.stopped_at,
    )
