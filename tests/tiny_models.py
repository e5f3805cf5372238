"""Models of every family with few channels and random weights, in the layout of the original files.

Their tensors have the real names, the VAE the real factor of 8, and the text encoders the real vocabulary, so that
whole pipelines run on them in moments.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from hayate.models import config as models
from hayate.models.clip import text_encoder
from hayate.models.config import Family, ModelConfig, Prediction, TextConfig, UNetConfig, VAEConfig
from hayate.models.layers import skeleton
from hayate.models.unet import UNet
from hayate.models.vae import AutoencoderKL
from hayate.weights.detect import PUBLISHED, UNET_PREFIX, VAE_PREFIX

_VAE = VAEConfig(channels=32, multipliers=(1, 1, 2, 2), res_blocks=1)
_UNETS: Mapping[Family, UNetConfig] = {
    Family.SD1: replace(
        models.SD1_UNET,
        channels=32,
        multipliers=(1, 2, 2),
        res_blocks=1,
        transformer_depths=(1, 1, 0),
        context_width=64,
    ),
    Family.SD2: replace(
        models.SD2_UNET,
        channels=64,
        multipliers=(1, 2, 2),
        res_blocks=1,
        transformer_depths=(1, 1, 0),
        context_width=64,
    ),
    Family.SDXL: replace(
        models.SDXL_UNET,
        channels=64,
        multipliers=(1, 2),
        res_blocks=1,
        transformer_depths=(0, 2),
        middle_depth=2,
        context_width=64 + 128,
        vector_width=128 + 6 * 256,
    ),
    Family.SDXL_REFINER: replace(
        models.SDXL_REFINER_UNET,
        channels=64,
        multipliers=(1, 2, 2),
        res_blocks=1,
        transformer_depths=(0, 1, 0),
        middle_depth=1,
        context_width=64,
        vector_width=64 + 5 * 256,
    ),
}
_TEXT_WIDTHS: Mapping[Family, tuple[int, ...]] = {
    Family.SD1: (64,),
    Family.SD2: (64,),
    Family.SDXL: (64, 128),
    Family.SDXL_REFINER: (64,),
}


def tiny_config(family: Family) -> ModelConfig:
    """A model of this family with 32 or 64 channels; everything else is as in the published one."""
    published = PUBLISHED[family]
    widths = _TEXT_WIDTHS[family]
    return replace(
        published,
        unet=_UNETS[family],
        vae=replace(_VAE, scale=published.vae.scale),
        text=tuple(_tiny_text(text, width) for text, width in zip(published.text, widths, strict=True)),
    )


def _tiny_text(text: TextConfig, width: int) -> TextConfig:
    return replace(
        text,
        width=width,
        depth=3,
        heads=width // 64,
        mlp_width=2 * width,
        projection_width=width if text.projection_width else 0,
    )


def write_tiny(
    path: Path,
    family: Family,
    *,
    seed: int = 0,
    prediction: Prediction = Prediction.EPSILON,
    dtype: torch.dtype = torch.float32,
) -> ModelConfig:
    """Writes a tiny model of this family to `path` and returns what it is."""
    config = replace(tiny_config(family), prediction=prediction)
    if family is Family.SD2 and prediction is Prediction.V:
        config = replace(config, native_size_px=768)
    tensors = {name: tensor.to(dtype) for name, tensor in random_tensors(config, seed)}
    if prediction is Prediction.V:
        tensors["v_pred"] = torch.tensor([])
    write(path, tensors)
    return config


def write(path: Path, tensors: Mapping[str, Tensor], declared: Mapping[str, object] | None = None) -> None:
    """Writes a safetensors file, with `declared` under `hayate.config` in its header."""
    save_file(dict(tensors), path, metadata={"hayate.config": json.dumps(declared)} if declared else None)


def random_tensors(config: ModelConfig, seed: int) -> Iterator[tuple[str, Tensor]]:
    """Name and float32 value of every tensor of a checkpoint, scaled so that activations keep their size."""
    generator = torch.Generator().manual_seed(seed)
    for prefix, network in networks(config).items():
        for name, like in network.state_dict().items():
            yield prefix + name, _random(name, like, generator)


def networks(config: ModelConfig) -> dict[str, nn.Module]:
    """Every network of a model, without memory, by the prefix of its tensors."""
    with skeleton():
        return {
            UNET_PREFIX: UNet(config.unet),
            VAE_PREFIX: AutoencoderKL(config.vae),
            **{text.prefix: text_encoder(text) for text in config.text},
        }


def _random(name: str, like: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(like.shape, generator=generator)
    if like.dim() == 1:
        is_gain = name.endswith("weight")
        return 1 + 0.1 * noise if is_gain else 0.05 * noise
    is_embedding = "embedding" in name
    return 0.1 * noise if is_embedding else noise / math.sqrt(like[0].numel())
