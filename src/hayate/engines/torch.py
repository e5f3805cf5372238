"""The reference engine: the three networks in eager PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from hayate.engines.base import Part
from hayate.engines.loras import LoraEditor, LoraUse
from hayate.engines.networks import Loaders, Networks
from hayate.engines.reuse import DeepFeatures
from hayate.engines.tiny import TinyVAE
from hayate.models.clip import CLIPText, Inserted, OpenCLIPText, TextEncoding
from hayate.models.config import ModelConfig
from hayate.models.layers import Attention
from hayate.models.unet import UNet
from hayate.models.vae import AutoencoderKL
from hayate.runtime.evidence import Evidence
from hayate.runtime.graphs import CudaRecorder, GraphedStep
from hayate.runtime.merging import TokenMerging, set_merging
from hayate.runtime.offload import Offloader, Stage
from hayate.runtime.precision import Precision
from hayate.runtime.prepare import set_attention
from hayate.weights.merged import ModelSource


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFiles:
    """Where an engine's networks came from, and how."""

    model: ModelSource
    vae: ModelSource
    loaders: Loaders


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TorchEngine:
    """Implements `engines.base.Engine`."""

    config: ModelConfig
    device: torch.device
    precision: Precision
    unet: UNet
    vae: AutoencoderKL
    text: tuple[CLIPText | OpenCLIPText, ...]
    files: EngineFiles
    prepared: tuple[Evidence, ...] = ()
    """What was made of the networks when they were loaded."""
    attention: Attention | None = None
    """Every attention's function; None keeps PyTorch's own choice."""
    offloader: Offloader | None = None
    """Brings networks to the device when they compute, where they don't all fit there."""
    graphed: GraphedStep | None = None
    """The U-Net's step as recorded CUDA graphs."""
    merging: TokenMerging | None = None
    """Gives the largest self-attentions fewer tokens."""
    tiny: TinyVAE | None = None
    """Decodes in place of the VAE."""
    loras: tuple[LoraUse, ...] = ()
    """What is in the weights beside the files' own; whoever loads them anew puts it there again."""

    def widen(self, part: Part, dtype: torch.dtype) -> TorchEngine:
        precision = replace(self.precision, **{part: dtype})
        files = self.files
        home = self.device if self.offloader is None else torch.device("cpu")
        if part == "vae":
            wide = replace(self, vae=files.loaders.vae(files.vae, self.config, dtype, home))
            wide = wide if wide.tiny is None else replace(wide, tiny=wide.tiny.widen(dtype))
        else:
            networks = files.loaders.networks(files.model, home, precision)
            anew = {0: networks.unet} if part == "unet" else dict(enumerate(networks.text, start=1))
            LoraEditor(self.config, anew).apply(self.loras)
            wide = replace(self, unet=networks.unet) if part == "unet" else replace(self, text=networks.text)
        if self.attention is not None:
            wide = wide.attending_by(self.attention)
        wide = wide.merging_by(self.merging)
        if self.offloader is not None:
            self.offloader.send_home()
            wide = wide.offloaded(self.device, is_streamed=self.offloader.is_streamed)
        if self.graphed is not None:
            wide = wide.recorded()
        return replace(wide, precision=precision)

    def attending_by(self, attention: Attention) -> TorchEngine:
        """This engine with another attention function; engines that share its networks attend by it too."""
        for network in (self.unet, self.vae, *self.text):
            set_attention(network, attention)
        return replace(self, attention=attention)

    def merging_by(self, merging: TokenMerging | None) -> TorchEngine:
        """This engine with its largest self-attentions over fewer tokens; engines that share its U-Net do so too."""
        set_merging(self.unet, merging)
        return replace(self, merging=merging)

    def offloaded(self, device: torch.device, *, is_streamed: bool) -> TorchEngine:
        """This engine, whose networks are in the host's memory, computing on `device` by bringing them there."""
        offloader = Offloader(self.unet, self.text, self.vae, device, is_streamed=is_streamed)
        return replace(self, device=device, offloader=offloader)

    def recorded(self) -> TorchEngine:
        """This engine with its U-Net's steps recorded as CUDA graphs, once for each shape, and replayed."""
        return replace(self, graphed=GraphedStep(self.unet.step, CudaRecorder(self.device)))

    def evidence(self) -> tuple[Evidence, ...]:
        acting = (
            part.evidence() for part in (self.offloader, self.graphed, self.merging, self.tiny) if part is not None
        )
        return (*self.prepared, *acting)

    @torch.inference_mode()
    def encode_text(
        self, encoder: int, ids: Tensor, skip: int | None, inserted: Inserted | None = None
    ) -> TextEncoding:
        self._bring("text")
        encoding = self.text[encoder](ids.to(self.device), skip, inserted)
        pooled = None if encoding.pooled is None else encoding.pooled.float()
        return TextEncoding(encoding.context.float(), pooled)

    @torch.inference_mode()
    def project_times(self, timesteps: Tensor, vector: Tensor | None) -> Tensor:
        self._bring("projections")
        rows, prompts = len(timesteps), 1 if vector is None else len(vector)
        every = None if vector is None else vector.repeat(rows, 1)
        times = self.unet.project_times(timesteps.repeat_interleave(prompts), every, self.precision.unet)
        return times.view(rows, prompts, -1)

    @torch.inference_mode()
    def project_context(self, context: Tensor) -> Sequence[Tensor]:
        self._bring("projections")
        return self.unet.project_context(context.to(self.precision.unet))

    @torch.inference_mode()
    def predict(
        self, x: Tensor, times: Tensor, contexts: Sequence[Tensor], features: DeepFeatures | None = None
    ) -> Tensor:
        self._bring("unet")
        x = x.to(self.precision.unet)
        if features is None:
            return (self.graphed or self.unet.step)(x, times, contexts).float()
        if features.deep is None:
            output, features.deep = self.unet.step_whole(x, times, contexts)
            return output.float()
        return self.unet.step_shallow(x, times, contexts, features.deep.to(x.dtype)).float()

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        self._bring("vae")
        mean, _ = self.vae.encode_moments(pixels.to(self.device, self.precision.vae))
        return mean.float() * self.vae.config.scale

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        if self.tiny is not None:
            return self.tiny.decode(latents)
        self._bring("vae")
        return self.vae.decode((latents / self.vae.config.scale).to(self.precision.vae)).float()

    def _bring(self, stage: Stage) -> None:
        if self.offloader is not None:
            self.offloader.bring(stage)


def load_engine(
    path: ModelSource,
    device: torch.device,
    precision: Precision,
    *,
    vae_path: Path | None = None,
    loaders: Loaders | None = None,
) -> TorchEngine:
    """The engine of a checkpoint, with its own VAE or that of another file.

    Raises: ModelFileError when a file is broken, is no checkpoint, or lacks a tensor.
    """
    files = EngineFiles(model=path, vae=vae_path or path, loaders=loaders or Loaders())
    networks = files.loaders.networks(path, device, precision)
    vae = files.loaders.vae(files.vae, networks.config, precision.vae, device)
    return assemble(networks, vae, files, device, precision)


def assemble(
    networks: Networks, vae: AutoencoderKL, files: EngineFiles, device: torch.device, precision: Precision
) -> TorchEngine:
    """An engine of loaded parts."""
    return TorchEngine(
        config=networks.config,
        device=device,
        precision=precision,
        unet=networks.unet,
        vae=vae,
        text=networks.text,
        files=files,
        prepared=networks.evidence,
    )
