"""Latents to pictures."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hayate.engines.base import Engine
from hayate.errors import EngineError


@torch.inference_mode()
def decode_latents(engine: Engine, latents: Tensor) -> np.ndarray:
    """Pictures of `latents`, one at a time, so that the VAE's peak memory is that of one picture.

    Shapes: [B, 4, h, w] → [B, 8h, 8w, 3] uint8, rounded (A1111 truncates, docs/compat.md).
    Raises: EngineError when a picture is not finite, rather than a black picture.
    """
    return np.stack([_picture(engine, latents[index : index + 1]) for index in range(len(latents))])


def _picture(engine: Engine, latents: Tensor) -> np.ndarray:
    pixels = engine.decode(latents)
    if not bool(torch.isfinite(pixels).all()):
        raise EngineError("the VAE produced values that are not finite", hint="try --dtype fp32 or another --vae")
    levels = ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return levels[0].permute(1, 2, 0).cpu().numpy()
