"""What the networks share: the attention call, layers that a runtime may replace, the sinusoidal embedding."""

from __future__ import annotations

import gc
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

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
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


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


class _Making(threading.local):
    """Whether this thread builds skeletons."""

    is_skeleton = False


_making = _Making()


@contextmanager
def skeleton() -> Iterator[None]:
    """Inside it, the layers of this module are made on the `meta` device: shapes without memory, nothing initialised.

    Cost: 0.02 s for the 1,500 modules of a full-size SD1 model, where PyTorch's own constructors take three times that
    on `meta`, and seconds when they initialise.
    """
    _freeze_imports()
    _making.is_skeleton = True
    try:
        yield
    finally:
        _making.is_skeleton = False


@cache
def _freeze_imports() -> None:
    """Hides what imports left from the garbage collector, once in a process.

    Making thousands of parameters sets the collector off; walking through all of torch would cost it 0.1 s every time.
    """
    gc.freeze()


def parameter(*shape: int, std: float) -> nn.Parameter:
    """A parameter of normal random numbers, or, in a `skeleton`, a shape alone."""
    return nn.Parameter(_shape_alone(shape) if _making.is_skeleton else std * torch.randn(shape))


@cache
def _shape_alone(shape: tuple[int, ...]) -> Tensor:
    with torch.inference_mode(mode=False):  # kept for networks that are made outside it, too
        return torch.empty(shape, device="meta")


def _give_parameters(layer: Layer, weight: tuple[int, ...], bias: int | None) -> None:
    """Makes the weight and bias of a layer, initialised as PyTorch's layer of the same name, unless in a `skeleton`."""
    make = _shape_alone if _making.is_skeleton else torch.empty
    layer.register_parameter("weight", nn.Parameter(make(weight)))
    layer.register_parameter("bias", None if bias is None else nn.Parameter(make((bias,))))
    if not _making.is_skeleton:
        layer.reset_parameters()


class Linear(nn.Linear):
    """A linear layer that can end in the sum with a residual stream."""

    def __init__(self, in_features: int, out_features: int, *, bias: bool = True) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(in_features=in_features, out_features=out_features)
        _give_parameters(self, (out_features, in_features), out_features if bias else None)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        y = F.linear(x, self.weight, self.bias)
        return y if residual is None else residual + y


class Conv2d(nn.Conv2d):
    """A square convolution that can end in the sum with a residual stream."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, padding: int = 0, bias: bool = True
    ) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(
            in_channels=in_channels,
            out_channels=out_channels,
            kernel_size=(kernel, kernel),
            stride=(stride, stride),
            padding=(padding, padding),
            dilation=(1, 1),
            transposed=False,
            output_padding=(0, 0),
            groups=1,
            padding_mode="zeros",
        )
        _give_parameters(self, (out_channels, in_channels, kernel, kernel), out_channels if bias else None)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        y = F.conv2d(x, self.weight, self.bias, self.stride, self.padding)
        return y if residual is None else residual + y


class GroupNorm(nn.GroupNorm):
    """A group norm that can begin with the addition of a number per channel and end in SiLU."""

    is_activated: bool

    def __init__(self, groups: int, channels: int, *, eps: float, is_activated: bool) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(num_groups=groups, num_channels=channels, eps=eps, affine=True, is_activated=is_activated)
        _give_parameters(self, (channels,), channels)

    def forward(self, x: Tensor, shift: Tensor | None = None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Shapes: x [B, C, h, w], shift [B or 1, C]."""
        y = super().forward(x if shift is None else x + shift[:, :, None, None])
        return F.silu(y) if self.is_activated else y

    def extra_repr(self) -> str:
        return super().extra_repr() + (", SiLU" if self.is_activated else "")


class LayerNorm(nn.LayerNorm):
    """A layer norm over the last dimension, with PyTorch's eps of 1e-5."""

    def __init__(self, width: int) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(normalized_shape=(width,), eps=1e-5, elementwise_affine=True)
        _give_parameters(self, (width,), width)


class Embedding(nn.Embedding):
    """A table of vectors."""

    def __init__(self, count: int, width: int) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(
            num_embeddings=count,
            embedding_dim=width,
            padding_idx=None,
            max_norm=None,
            norm_type=2.0,
            scale_grad_by_freq=False,
            sparse=False,
        )
        _give_parameters(self, (count, width), None)


Layer = Linear | Conv2d | GroupNorm | LayerNorm | Embedding


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


def conv3x3(in_channels: int, out_channels: int, *, stride: int = 1, padding: int = 1, bias: bool = True) -> Conv2d:
    """A 3×3 convolution."""
    return Conv2d(in_channels, out_channels, 3, stride=stride, padding=padding, bias=bias)


def conv1x1(in_channels: int, out_channels: int) -> Conv2d:
    """A 1×1 convolution."""
    return Conv2d(in_channels, out_channels, 1)
