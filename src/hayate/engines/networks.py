"""The two parts of a model that are loaded, kept and switched by themselves: its networks, and its VAE."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import torch
from torch import nn

from hayate.engines.blending import blend
from hayate.engines.identity import MergedId, SourceId
from hayate.models.clip import CLIPText, OpenCLIPText, text_encoder
from hayate.models.config import ModelConfig
from hayate.models.layers import skeleton
from hayate.models.unet import UNet
from hayate.models.vae import AutoencoderKL
from hayate.runtime.evidence import Evidence
from hayate.runtime.precision import Precision
from hayate.runtime.prepare import PLAIN, Preparation, prepare
from hayate.weights.detect import UNET_PREFIX, detect_checkpoint, detect_vae, vae_prefix
from hayate.weights.load import load_part
from hayate.weights.merged import ModelSource, open_source


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class Networks:
    """The U-Net and the text encoders of one checkpoint, and what the checkpoint is."""

    config: ModelConfig
    unet: UNet
    text: tuple[CLIPText | OpenCLIPText, ...]
    evidence: tuple[Evidence, ...] = ()
    """What was made of the plain networks."""

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        return (self.unet, *self.text)


def load_networks(
    path: ModelSource, device: torch.device, precision: Precision, preparation: Preparation = PLAIN
) -> Networks:
    """Builds the networks without memory, assigns the file's tensors to them, and prepares them.

    Raises: ModelFileError when the file is broken, is no checkpoint, or lacks a tensor.
    Cost: no copy of a tensor whose type and device are already right.
    """
    with open_source(path, blend) as checkpoint:
        config = detect_checkpoint(checkpoint)
        checkpoint.prefetch()
        with skeleton():
            unet = UNet(config.unet)
            encoders = tuple(text_encoder(part) for part in config.text)
        load_part(unet, checkpoint, UNET_PREFIX, dtype=precision.unet, device=device)
        for encoder in encoders:
            load_part(encoder, checkpoint, encoder.config.prefix, dtype=precision.text, device=device)
    evidence = prepare(unet.eval(), preparation)
    for encoder in encoders:
        prepare(encoder.eval(), preparation)
    return Networks(config=config, unet=unet, text=encoders, evidence=evidence)


def load_vae(
    path: ModelSource, config: ModelConfig, dtype: torch.dtype, device: torch.device, preparation: Preparation = PLAIN
) -> AutoencoderKL:
    """The VAE of a checkpoint or of a file of its own, for the U-Net that `config` describes.

    Raises: ModelFileError.
    """
    with open_source(path, blend) as checkpoint:
        found = detect_vae(checkpoint.tensors, checkpoint.metadata, source=str(path), scale=config.vae.scale)
        with skeleton():
            vae = AutoencoderKL(found)
        load_part(vae, checkpoint, vae_prefix(checkpoint.tensors), dtype=dtype, device=device)
    prepare(vae.eval(), preparation)
    return vae


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaders:
    """How the parts are made from files; whoever wants other layers or another attention binds them here."""

    networks: Callable[[ModelSource, torch.device, Precision], Networks] = load_networks
    vae: Callable[[ModelSource, ModelConfig, torch.dtype, torch.device], AutoencoderKL] = load_vae


def loaders_for(preparation: Preparation) -> Loaders:
    """Loaders that prepare every network in the same way."""
    return Loaders(
        networks=partial(load_networks, preparation=preparation), vae=partial(load_vae, preparation=preparation)
    )


@lru_cache(maxsize=64)
def config_of(file: SourceId) -> ModelConfig:
    """What a checkpoint is, from its header; a merge is what its first model is.

    Raises: ModelFileError. Cost: milliseconds, once for every state of a file.
    """
    if isinstance(file, MergedId):
        return config_of(file.inputs[0])
    with open_source(file.path) as checkpoint:
        return detect_checkpoint(checkpoint)
