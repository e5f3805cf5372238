"""Whether a model can compute in fp16: tried out on the file, so that nobody learns it from a black picture."""

from __future__ import annotations

import gc
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hayate.engines.base import Engine, Part
from hayate.engines.torch import load_engine
from hayate.models.config import ModelConfig
from hayate.runtime.precision import Precision, dtype_name
from hayate.runtime.probe import overflows
from hayate.weights.learnt_types import SAFE_TYPES

VISIBLE = 0.05
"""A result that is this far from fp32's, relative to its size, would be seen in the picture. fp16 alone makes 0.001."""
_SIZE_LAT = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Halved:
    """What the probe found of a file's networks in fp16."""

    safe: dict[Part, str]
    """The type that a part must compute in, for those that can't in fp16."""
    differences: dict[Part, float]
    """Of finite results, the distance to fp32's, relative to their size."""
    broken: tuple[Part, ...]
    """Parts that are not finite in fp32 either: what they hold is infinite already."""

    @property
    def metadata(self) -> dict[str, str]:
        """What a file says of it: the types that `pipeline.safe_types` takes at its load."""
        return {SAFE_TYPES: json.dumps(self.safe)}


def probe_halved(path: Path) -> Halved:
    """Encodes and decodes a picture, encodes a text and takes one step, all in fp16, and compares them with fp32.

    Raises: ModelFileError for a file that is no checkpoint.
    Cost: loads the model twice, one after the other; seconds to a minute.
    """
    half = _results(path, torch.float16)
    whole = _results(path, torch.float32)
    safe: dict[Part, str] = {}
    differences: dict[Part, float] = {}
    broken: tuple[Part, ...] = tuple(part for part, result in whole.items() if not bool(torch.isfinite(result).all()))
    for part, result in half.items():
        if part in broken:
            continue
        if not bool(torch.isfinite(result).all()):
            safe[part] = dtype_name(torch.float32 if part == "vae" else torch.bfloat16)
            continue
        differences[part] = float((result - whole[part]).norm() / whole[part].norm().clamp_min(1e-12))
        if differences[part] > VISIBLE:
            safe[part] = dtype_name(torch.float32)
    return Halved(safe=safe, differences=differences, broken=broken)


def _results(path: Path, dtype: torch.dtype) -> dict[Part, Tensor]:
    """One result of each part, from fixed inputs that are the same in every type."""
    device = torch.device("cpu")
    precision = Precision(unet=dtype, text=dtype, vae=dtype, reason="probed")
    engine = load_engine(path, device, precision)
    noise = _noise(engine.config)
    results: dict[Part, Tensor] = {"text": _text(engine), "unet": _step(engine, noise), "vae": _vae(engine, noise)}
    del engine
    gc.collect()
    return results


def _vae(engine: Engine, noise: Tensor) -> Tensor:
    """A picture and its latents; where extreme latents overflow, a result that is not finite."""
    latents = noise[:, : engine.config.vae.latent_channels]
    pixels = engine.decode(latents)
    again = engine.encode(pixels.clamp(-1, 1).nan_to_num())
    is_overflowing = engine.precision.vae is torch.float16 and overflows(
        engine.decode, engine.config.vae.latent_channels, engine.device
    )
    both = torch.cat([pixels.flatten(), again.flatten()])
    return both * torch.inf if is_overflowing else both


def _step(engine: Engine, noise: Tensor) -> Tensor:
    """The U-Net's output in the middle of a schedule, for a context of plain numbers."""
    unet = engine.config.unet
    generator = torch.Generator().manual_seed(1)
    context = torch.randn((1, 77, unet.context_width), generator=generator)
    vector = torch.randn((1, unet.vector_width), generator=generator) if unet.vector_width else None
    times = engine.project_times(torch.tensor([500.0]), vector)[0]
    return engine.predict(noise, times, engine.project_context(context))


def _text(engine: Engine) -> Tensor:
    """The contexts of a short text."""
    encoders = engine.config.text
    ids = torch.full((1, 77), 49407, dtype=torch.int64)
    ids[0, :3] = torch.tensor([49406, 320, 2368])
    contexts = [engine.encode_text(index, ids, text.skip).context for index, text in enumerate(encoders)]
    return torch.cat([context.flatten() for context in contexts])


def _noise(config: ModelConfig) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn((1, config.unet.in_channels, _SIZE_LAT, _SIZE_LAT), generator=generator)
