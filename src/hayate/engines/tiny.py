"""A tiny decoder of the user's own, which an engine decodes with in place of the VAE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from hayate.errors import RefusedFormat
from hayate.models.layers import skeleton
from hayate.models.tiny_vae import TinyDecoder
from hayate.runtime.evidence import Evidence
from hayate.runtime.prepare import Preparation, prepare
from hayate.weights.load import load_part
from hayate.weights.read import open_checkpoint

LAYOUTS = (("decoder.layers.", 0), ("", 1), ("decoder.", 1), ("taesd_decoder.", 1))
"""Where the layers' numbers stand in the tensors' names, and which number the first convolution has.

diffusers' AutoencoderTiny, the original decoder's own file, and two prefixes under which others keep it.
"""


@dataclass(slots=True, kw_only=True, eq=False)
class TinyVAE:
    """A tiny decoder, where it came from, and how often it decoded."""

    path: Path
    decoder: TinyDecoder
    dtype: torch.dtype
    device: torch.device
    preparation: Preparation
    decodes: int = 0

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Pixels of latents as they leave the sampler, in float32."""
        self.decodes += 1
        return self.decoder(latents.to(self.dtype)).float()

    def widen(self, dtype: torch.dtype) -> TinyVAE:
        """The same in a wider type, from the file."""
        wide = load_tiny(self.path, self.device, dtype, self.preparation)
        return replace(wide, decodes=self.decodes)

    def evidence(self) -> Evidence:
        """How often it served."""
        detail = f"{self.decodes} decodes"
        return Evidence(name="tiny VAE", requested=self.path.name, active=self.decodes > 0, detail=detail)


def load_tiny(path: Path, device: torch.device, dtype: torch.dtype, preparation: Preparation) -> TinyVAE:
    """The tiny decoder of a file, prepared as the other networks are.

    Raises: RefusedFormat for a file that has none, TensorMismatch for one of another shape, BrokenFile.
    """
    with open_checkpoint(path) as checkpoint:
        prefix, first = _layout(checkpoint.tensors, path)
        with skeleton():
            decoder = TinyDecoder(is_numbered_from_one=first == 1)
        load_part(decoder.layers, checkpoint, prefix, dtype=dtype, device=device)
    prepare(decoder.eval(), preparation)
    return TinyVAE(path=path, decoder=decoder, dtype=dtype, device=device, preparation=preparation)


def check_tiny(path: Path) -> None:
    """Refuses a file that is no tiny decoder. Cost: milliseconds.

    Raises: UsageError, ModelFileError.
    """
    with open_checkpoint(path) as checkpoint:
        _layout(checkpoint.tensors, path)


def _layout(tensors: Mapping[str, object], path: Path) -> tuple[str, int]:
    for prefix, first in LAYOUTS:
        if f"{prefix}{first}.weight" in tensors and f"{prefix}{first + 2}.conv.0.weight" in tensors:
            return prefix, first
    raise RefusedFormat(
        f"{path} holds no tiny decoder", hint="the file is usually called taesd_decoder.safetensors (taesdxl for SDXL)"
    )
