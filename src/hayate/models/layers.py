"""What the networks share: the attention call, layers that a runtime may replace, the sinusoidal embedding."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Attention = Callable[..., Tensor]
"""`attention(q, k, v, is_causal=False)`: softmax(q·kᵀ / √d)·v over [B, heads, length, d] tensors."""


def scaled_dot_product(q: Tensor, k: Tensor, v: Tensor, is_causal: bool = False) -> Tensor:
    """Attention by PyTorch's own dispatcher, for callers that choose no backend.

    Shapes: q [B, heads, N, d], k and v [B, heads, M, d] → [B, heads, N, d].
    """
    return F.scaled_dot_product_attention(q, k, v, is_causal=is_causal)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Shapes: [B, N, heads·d] → [B, heads, N, d]."""
    batch, length, width = x.shape
    return x.view(batch, length, heads, width // heads).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """Shapes: [B, heads, N, d] → [B, N, heads·d]."""
    batch, heads, length, width = x.shape
    return x.transpose(1, 2).reshape(batch, length, heads * width)


def sinusoidal_embedding(positions: Tensor, width: int) -> Tensor:
    """Cosines, then sines, of `positions` at `width // 2` frequencies from 1 down to nearly 1/10000.

    Shapes: positions [B] → [B, width] float32. `width` is even.
    Source: Vaswani et al. 2017, section 3.5, in the order that latent diffusion uses.
    """
    half = width // 2
    exponents = torch.arange(half, dtype=torch.float32, device=positions.device) / half
    angles = positions.float()[:, None] * torch.exp(-math.log(10000) * exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class Linear(nn.Linear):
    """A linear layer that can end in the sum with a residual stream."""

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        y = F.linear(x, self.weight, self.bias)
        return y if residual is None else residual + y


class Conv2d(nn.Conv2d):
    """A convolution that can end in the sum with a residual stream."""

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        y = super().forward(x)
        return y if residual is None else residual + y


class GroupNorm(nn.GroupNorm):
    """A group norm that can begin with the addition of a number per channel and end in SiLU."""

    def __init__(self, groups: int, channels: int, *, eps: float, is_activated: bool) -> None:
        super().__init__(groups, channels, eps=eps)
        self.is_activated = is_activated

    def forward(self, x: Tensor, shift: Tensor | None = None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Shapes: x [B, C, h, w], shift [B or 1, C]."""
        y = super().forward(x if shift is None else x + shift[:, :, None, None])
        return F.silu(y) if self.is_activated else y

    def extra_repr(self) -> str:
        return super().extra_repr() + (", SiLU" if self.is_activated else "")


class Upsample(nn.Module):
    """Doubles the size by nearest neighbour, then convolves."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv3x3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def group_norm(channels: int, groups: int, *, eps: float, is_activated: bool = False) -> GroupNorm:
    """A GroupNorm; latent diffusion uses eps 1e-5 in residual blocks of the U-Net and 1e-6 elsewhere."""
    return GroupNorm(groups, channels, eps=eps, is_activated=is_activated)


def conv3x3(in_channels: int, out_channels: int, *, stride: int = 1, padding: int = 1) -> Conv2d:
    """A 3×3 convolution."""
    return Conv2d(in_channels, out_channels, 3, stride=stride, padding=padding)


def conv1x1(in_channels: int, out_channels: int) -> Conv2d:
    """A 1×1 convolution."""
    return Conv2d(in_channels, out_channels, 1)
