"""The reference engine: the three networks in eager PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from hayate.models.clip import CLIPText, OpenCLIPText, TextEncoding, text_encoder
from hayate.models.config import ModelConfig
from hayate.models.unet import UNet
from hayate.models.vae import AutoencoderKL
from hayate.runtime.precision import Precision
from hayate.weights.detect import detect, detect_vae
from hayate.weights.load import load_part, skeleton
from hayate.weights.read import Checkpoint, open_checkpoint

UNET_PREFIX = "model.diffusion_model."
VAE_PREFIX = "first_stage_model."

Module = TypeVar("Module", bound=nn.Module)


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
    def predict(self, x: Tensor, timesteps: Tensor, context: Tensor, vector: Tensor | None) -> Tensor:
        dtype = self.precision.unet
        return self.unet(x.to(dtype), timesteps, context.to(dtype), vector).float()

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        return self.vae.decode((latents / self.vae.config.scale).to(self.precision.vae)).float()


def load_engine(path: Path, device: torch.device, precision: Precision, *, vae_path: Path | None = None) -> TorchEngine:
    """Builds the networks on the `meta` device and assigns the file's tensors to them.

    Raises: ModelFileError when the file is broken, is no checkpoint, or lacks a tensor.
    Cost: no copy of a tensor whose type and device are already right.
    """
    with open_checkpoint(path) as checkpoint:
        config = detect(checkpoint.tensors, checkpoint.metadata, peek=checkpoint.get)
        with skeleton():
            unet = UNet(config.unet)
            encoders = tuple(text_encoder(part) for part in config.text)
        _fill(unet, checkpoint, UNET_PREFIX, precision.unet, device)
        for encoder in encoders:
            _fill(encoder, checkpoint, encoder.config.prefix, precision.text, device)
        if vae_path is None:
            vae = _load_vae(checkpoint, config, precision.vae, device)
    if vae_path is not None:
        with open_checkpoint(vae_path) as checkpoint:
            vae = _load_vae(checkpoint, config, precision.vae, device)
    return TorchEngine(config=config, device=device, precision=precision, unet=unet, vae=vae, text=encoders)


def _load_vae(checkpoint: Checkpoint, config: ModelConfig, dtype: torch.dtype, device: torch.device) -> AutoencoderKL:
    is_whole = any(name.startswith(VAE_PREFIX) for name in checkpoint.tensors)
    is_own = any(name.startswith(UNET_PREFIX) for name in checkpoint.tensors)
    with skeleton():
        vae = AutoencoderKL(config.vae if is_own else detect_vae(checkpoint.tensors, scale=config.vae.scale))
    return _fill(vae, checkpoint, VAE_PREFIX if is_whole else "", dtype, device)


def _fill(module: Module, checkpoint: Checkpoint, prefix: str, dtype: torch.dtype, device: torch.device) -> Module:
    load_part(module, checkpoint, prefix, dtype=dtype, device=device)
    return module.eval()
