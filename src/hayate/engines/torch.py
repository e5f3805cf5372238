"""The reference engine: the three networks in eager PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hayate.models.clip import CLIPText, OpenCLIPText, TextEncoding, text_encoder
from hayate.models.config import ModelConfig
from hayate.models.layers import skeleton
from hayate.models.unet import UNet
from hayate.models.vae import AutoencoderKL
from hayate.runtime.precision import Precision
from hayate.weights.detect import UNET_PREFIX, detect_checkpoint, detect_vae, vae_prefix
from hayate.weights.load import load_part
from hayate.weights.read import open_checkpoint


@dataclass(slots=True, kw_only=True)
class TorchEngine:
    """Implements `engines.base.Engine`."""

    config: ModelConfig
    device: torch.device
    precision: Precision
    unet: UNet
    vae: AutoencoderKL
    text: tuple[CLIPText | OpenCLIPText, ...]

    @torch.inference_mode()
    def encode_text(self, encoder: int, ids: Tensor, skip: int | None) -> TextEncoding:
        encoding = self.text[encoder](ids.to(self.device), skip)
        pooled = None if encoding.pooled is None else encoding.pooled.float()
        return TextEncoding(encoding.context.float(), pooled)

    @torch.inference_mode()
    def project_times(self, timesteps: Tensor, vector: Tensor | None) -> Tensor:
        rows, prompts = len(timesteps), 1 if vector is None else len(vector)
        every = None if vector is None else vector.repeat(rows, 1)
        times = self.unet.project_times(timesteps.repeat_interleave(prompts), every, self.precision.unet)
        return times.view(rows, prompts, -1)

    @torch.inference_mode()
    def project_context(self, context: Tensor) -> Sequence[Tensor]:
        return self.unet.project_context(context.to(self.precision.unet))

    @torch.inference_mode()
    def predict(self, x: Tensor, times: Tensor, contexts: Sequence[Tensor]) -> Tensor:
        return self.unet.step(x.to(self.precision.unet), times, contexts).float()

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        return self.vae.decode((latents / self.vae.config.scale).to(self.precision.vae)).float()


def load_engine(path: Path, device: torch.device, precision: Precision, *, vae_path: Path | None = None) -> TorchEngine:
    """Builds the networks without memory and assigns the file's tensors to them.

    Raises: ModelFileError when the file is broken, is no checkpoint, or lacks a tensor.
    Cost: no copy of a tensor whose type and device are already right.
    """
    with open_checkpoint(path) as checkpoint:
        config = detect_checkpoint(checkpoint)
        checkpoint.prefetch()
        with skeleton():
            unet = UNet(config.unet)
            encoders = tuple(text_encoder(part) for part in config.text)
        load_part(unet, checkpoint, UNET_PREFIX, dtype=precision.unet, device=device)
        for encoder in encoders:
            load_part(encoder, checkpoint, encoder.config.prefix, dtype=precision.text, device=device)
    vae = load_vae(vae_path or path, config, precision.vae, device)
    return TorchEngine(
        config=config, device=device, precision=precision, unet=unet.eval(), vae=vae.eval(), text=encoders
    )


def load_vae(path: Path, config: ModelConfig, dtype: torch.dtype, device: torch.device) -> AutoencoderKL:
    """The VAE of a checkpoint or of a file of its own, for the U-Net that `config` describes.

    Raises: ModelFileError.
    """
    with open_checkpoint(path) as checkpoint:
        found = detect_vae(checkpoint.tensors, checkpoint.metadata, source=str(path), scale=config.vae.scale)
        with skeleton():
            vae = AutoencoderKL(found)
        load_part(vae, checkpoint, vae_prefix(checkpoint.tensors), dtype=dtype, device=device)
    return vae
