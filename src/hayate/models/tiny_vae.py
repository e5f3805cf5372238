"""The decoder of TAESD: latents to pixels by few and narrow convolutions; approximate, and many times as fast."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hayate.models.layers import conv3x3

LATENT_CHANNELS, WIDTH = 4, 64
BLOCKS = (3, 3, 3, 1)
"""Residual blocks at each resolution, from the latents' to the pixels'."""


class TinyDecoder(nn.Module):
    """The tiny decoder; `layers` has the numbers that its files have.

    Source: Bollin 2023 (TAESD), github.com/madebyollin/taesd, by its published layout.
    """

    def __init__(self, *, is_numbered_from_one: bool) -> None:
        """The original files count the clamp as number 0; diffusers' begin with the convolution after it."""
        super().__init__()
        self.layers = nn.Sequential(*([nn.Identity()] if is_numbered_from_one else []), *_layers())

    def forward(self, latents: Tensor) -> Tensor:
        """Pixels from latents as they leave the sampler.

        Shapes: [B, 4, h, w] → [B, 3, 8h, 8w], about −1…1.
        """
        return 2 * self.layers(3 * torch.tanh(latents / 3)) - 1


class TinyBlock(nn.Module):
    """Three convolutions around a skip, each with ReLU after it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            conv3x3(width, width), nn.ReLU(), conv3x3(width, width), nn.ReLU(), conv3x3(width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x) + x)


def _layers() -> Iterator[nn.Module]:
    yield conv3x3(LATENT_CHANNELS, WIDTH)
    yield nn.ReLU()
    for level, count in enumerate(BLOCKS):
        if level:
            yield nn.Upsample(scale_factor=2)
            yield conv3x3(WIDTH, WIDTH, bias=False)
        for _ in range(count):
            yield TinyBlock(WIDTH)
    yield conv3x3(WIDTH, 3)
