"""What the pipeline asks of an engine: five calls, what it is, a wider form of itself, and proof of what acted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

from hayate.engines.reuse import DeepFeatures
from hayate.models.clip import Inserted, TextEncoding
from hayate.models.config import ModelConfig
from hayate.runtime.evidence import Evidence
from hayate.runtime.precision import Precision

Part = Literal["unet", "text", "vae"]
"""One of an engine's networks, as `Precision` names them."""


class Engine(Protocol):
    """Runs the three networks of one checkpoint; every tensor that it returns is float32 on `device`."""

    @property
    def config(self) -> ModelConfig: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def precision(self) -> Precision:
        """What each network computes in."""
        ...

    def widen(self, part: Part, dtype: torch.dtype) -> Engine:
        """An engine whose `part` computes in `dtype`, with weights from the file; the other networks are shared.

        From the file, since a weight that overflowed when it was narrowed stays infinite in any type.
        Raises: ModelFileError when the file is no longer what it was.
        """
        ...

    def evidence(self) -> Sequence[Evidence]:
        """What each optimisation of this engine was seen to do so far."""
        ...

    def encode_text(
        self, encoder: int, ids: Tensor, skip: int | None, inserted: Inserted | None = None
    ) -> TextEncoding:
        """One encoder's view of a batch of chunks, with vectors in the place of some of its tokens.

        Shapes: ids [B, 77] int64 → context [B, 77, width], pooled [B, projection_width] or None.
        """
        ...

    def project_times(self, timesteps: Tensor, vector: Tensor | None) -> Tensor:
        """What the U-Net's blocks add for each of a schedule's timesteps and each prompt's vector; once per schedule.

        Shapes: timesteps [rows], vector [prompts, vector_width] or None → [rows, prompts (1 without vector), width].
        """
        ...

    def project_context(self, context: Tensor) -> Sequence[Tensor]:
        """The prompts' keys and values for every transformer block; once per prompt.

        Shapes: [prompts, length, width] → one [prompts, length, 2·channels] for each block.
        """
        ...

    def predict(
        self, x: Tensor, times: Tensor, contexts: Sequence[Tensor], features: DeepFeatures | None = None
    ) -> Tensor:
        """The U-Net's output, noise or v as `config.prediction` says.

        With `features` its deep features are kept there, or, where there are some already, used again.
        Shapes: x [B, in_channels, h, w], times [B, width] and contexts [B, …] as projected → [B, 4, h, w].
        """
        ...

    def encode(self, pixels: Tensor) -> Tensor:
        """Latents of pixels, as a sampler takes them: the mean of what the VAE's encoder allows.

        Shapes: [B, 3, 8h, 8w], −1…1 → [B, 4, h, w].
        """
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Pixels of latents as they leave the sampler.

        Shapes: [B, 4, h, w] → [B, 3, 8h, 8w], about −1…1.
        """
        ...
