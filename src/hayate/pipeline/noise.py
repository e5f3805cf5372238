"""Where the noise of every image comes from: its own generator, so that a batch equals single images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from hayate.errors import UsageError
from hayate.pipeline.brownian import BrownianNoise
from hayate.pipeline.chosen import NoiseSource
from hayate.pipeline.philox import philox_randn
from hayate.samplers.table import Brownian, Noise, StepTable

SEED_LIMIT = 2**64
NEARLY_PARALLEL = 0.9995


def resolve_source(asked: NoiseSource, device: torch.device) -> tuple[NoiseSource, str]:
    """The source that can act on `device`, and why where it is not the one asked for.

    Without a CUDA device, GPU becomes NV: the seeds of a picture made on a card then mean the same picture here.
    """
    if asked is NoiseSource.GPU and device.type != "cuda":
        return NoiseSource.NV, f"noise source GPU became NV: {device.type} has no CUDA generator, NV gives its numbers"
    return asked, ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseRequest:
    """What decides every random number of a batch.

    Shapes: `shape` is [channels, height, width] of one image's latents. Units: `resize_from_lat` (height, width).
    """

    seeds: tuple[int, ...]
    shape: tuple[int, int, int]
    source: NoiseSource
    device: torch.device
    """Where the noise is wanted; GPU noise is drawn there too."""
    subseeds: tuple[int, ...] = ()
    subseed_strength: float = 0.0
    resize_from_lat: tuple[int, int] | None = None
    """The latent size whose picture this one should resemble, or None."""
    ensd: int = 0
    """Eta noise seed delta: what is added to each seed for all noise after the first; 0 carries on instead."""

    def __post_init__(self) -> None:
        deltas = (*self.seeds, *self.subseeds, *(seed + self.ensd for seed in self.seeds))
        if not self.seeds or not all(0 <= seed < SEED_LIMIT for seed in deltas):
            raise UsageError("a seed is out of range", hint="0 to 2^64 - 1, also after ENSD is added")
        if self.subseed_strength and len(self.subseeds) != len(self.seeds):
            raise UsageError("variation needs one variation seed per image")
        if not 0 <= self.subseed_strength <= 1:
            raise UsageError(f"variation strength must be from 0 to 1, not {self.subseed_strength:g}")
        if self.resize_from_lat is not None and min(self.resize_from_lat) < 1:
            raise UsageError("the size to resize the seed from must be at least 8 x 8 px")


class BatchNoise:
    """The stream of unit noise of a batch: `first()` once, `next()` for every draw after it.

    Shapes: each gives [B, channels, height, width], float32.
    Source: A1111 behaviour, docs/compat.md.
    """

    def __init__(self, request: NoiseRequest) -> None:
        self._request = request
        self._streams = [_stream(request, seed) for seed in request.seeds]

    def first(self) -> torch.Tensor:
        """The noise that each picture starts from, with variation and seed resize applied."""
        request = self._request
        noise = torch.stack([self._first_of(index) for index in range(len(request.seeds))])
        if request.ensd:
            self._streams = [_stream(request, seed + request.ensd) for seed in request.seeds]
        return noise.to(request.device)

    def next(self) -> torch.Tensor:
        """The next draw of each image's generator."""
        shape = self._request.shape
        return torch.stack([stream(shape) for stream in self._streams]).to(self._request.device)

    def _first_of(self, index: int) -> torch.Tensor:
        request = self._request
        channels, *size = request.shape
        resize_from = request.resize_from_lat
        is_resized = resize_from is not None and list(resize_from) != size
        drawn = (channels, *(resize_from or size))
        # At another size the image's own stream is kept for the frame around, so a second one draws the middle.
        stream = _stream(request, request.seeds[index]) if is_resized else self._streams[index]
        noise = stream(drawn)
        if request.subseed_strength:
            noise = slerp(request.subseed_strength, noise, _stream(request, request.subseeds[index])(drawn))
        return paste_centred(noise, self._streams[index](request.shape)) if is_resized else noise


def slerp(weight: float, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """From `low` (weight 0) to `high` (1) along the arc, for each channel and column by itself.

    Shapes: [channels, height, width], all three. Source: A1111 behaviour, docs/compat.md.
    """
    dot = (low / low.norm(dim=1, keepdim=True) * (high / high.norm(dim=1, keepdim=True))).sum(dim=1)
    if dot.mean() > NEARLY_PARALLEL:
        return low * (1 - weight) + high * weight
    angle = torch.acos(dot).unsqueeze(1)
    sine = torch.sin(angle)
    return torch.sin((1 - weight) * angle) / sine * low + torch.sin(weight * angle) / sine * high


def paste_centred(noise: torch.Tensor, frame: torch.Tensor) -> torch.Tensor:
    """`frame` with `noise` over its middle, cropped where it is larger. Shapes: [channels, height, width] each."""
    result = frame.clone()
    here, there = zip(*(_overlap(frame.shape[axis], noise.shape[axis]) for axis in (1, 2)), strict=True)
    result[:, here[0], here[1]] = noise[:, there[0], there[1]]
    return result


def brownian_noise(request: NoiseRequest, sigma_min: float, sigma_max: float) -> BrownianNoise:
    """The Brownian paths of a batch between two noise levels, from the request's source."""

    def draw(seed: int) -> torch.Tensor:
        return _stream(request, seed)(request.shape)

    return BrownianNoise(sigma_min, sigma_max, request.seeds, draw)


def noise_for(table: StepTable, request: NoiseRequest, stream: BatchNoise) -> Callable[[Noise], torch.Tensor]:
    """The function that gives each row of `table` its noise, on the request's device."""
    span = table.brownian_range
    paths = None if span is None else brownian_noise(request, *span)

    def draw(noise: Noise) -> torch.Tensor:
        if isinstance(noise, Brownian):
            assert paths is not None
            return paths(noise.sigma_from, noise.sigma_to).to(request.device)
        return stream.next()

    return draw


def _stream(request: NoiseRequest, seed: int) -> Callable[[Sequence[int]], torch.Tensor]:
    """A fresh generator for one image: each call draws the given shape and moves on."""
    if request.source is NoiseSource.NV:
        offset = 0

        def draw(shape: Sequence[int]) -> torch.Tensor:
            nonlocal offset
            offset += 1
            return torch.from_numpy(philox_randn(seed, shape, offset=offset - 1))

        return draw
    device = request.device if request.source is NoiseSource.GPU else torch.device("cpu")
    generator = torch.Generator(device).manual_seed(seed)
    return lambda shape: torch.randn(tuple(shape), generator=generator, device=device, dtype=torch.float32)


def _overlap(outer: int, inner: int) -> tuple[slice, slice]:
    """Where the middle of one length lies over the middle of another: the slices of both."""
    # Halved downwards for either sign, as A1111 does: an odd difference moves a larger inner part by one more.
    shift = (outer - inner) // 2
    length = inner if shift >= 0 else inner + 2 * shift
    return slice(max(shift, 0), max(shift, 0) + length), slice(max(-shift, 0), max(-shift, 0) + length)
