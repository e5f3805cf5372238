"""The networks as other runtimes take them: Hayate's own in plain PyTorch, whole, with the file's weights in fp32."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.competitors.base import Job, inputs

UNET_INPUTS = ("x", "timesteps", "context")
DECODER_INPUTS = ("latents",)


class Decoder(nn.Module):
    """A VAE of which the decoder is called."""

    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latents: Tensor) -> Tensor:
        return self.vae.decode(latents)


def parts(job: Job) -> dict[str, tuple[nn.Module, tuple[Tensor, ...], tuple[str, ...]]]:
    """By name: a network, example inputs and the inputs' names."""
    from hayate.engines.networks import load_networks, load_vae
    from hayate.runtime.precision import Precision

    device, kind = torch.device("cpu"), torch.float32
    precision = Precision(unet=kind, text=torch.float16, vae=kind, reason="exported in fp32")
    networks = load_networks(Path(job.checkpoint), device, precision)
    vae = load_vae(Path(job.checkpoint), networks.config, kind, device)
    given = {name: torch.from_numpy(array) for name, array in inputs(job).items()}
    return {
        "unet": (networks.unet, tuple(given[name] for name in UNET_INPUTS), UNET_INPUTS),
        "decoder": (Decoder(vae), tuple(given[name] for name in DECODER_INPUTS), DECODER_INPUTS),
    }
