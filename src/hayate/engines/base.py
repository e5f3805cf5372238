"""What the pipeline asks of an engine: three calls and what it is."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from hayate.models.clip import TextEncoding
from hayate.models.config import ModelConfig


class Engine(Protocol):
    """Runs the three networks of one checkpoint; every tensor that it returns is float32 on `device`."""

    @property
    def config(self) -> ModelConfig: ...

    @property
    def device(self) -> torch.device: ...

    def encode_text(self, encoder: int, ids: Tensor, skip: int | None) -> TextEncoding:
        """One encoder's view of a batch of chunks.

        Shapes: ids [B, 77] int64 → context [B, 77, width], pooled [B, projection_width] or None.
        """
        ...

    def predict(self, x: Tensor, timesteps: Tensor, context: Tensor, vector: Tensor | None) -> Tensor:
        """The U-Net's output, noise or v as `config.prediction` says.

        Shapes: x [B, in_channels, h, w], timesteps [B], context [B, length, width] → [B, 4, h, w].
        """
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Pixels of latents as they leave the sampler.

        Shapes: [B, 4, h, w] → [B, 3, 8h, 8w], about −1…1.
        """
        ...
