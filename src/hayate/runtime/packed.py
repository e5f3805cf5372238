"""Layers for CPUs whose weights are laid out once, at load, in the order in which oneDNN's kernels read them.

PyTorch's own layers lay a bf16 or fp32 weight out anew in every call; for the deep convolutions of a U-Net, with few
positions and 1280 channels, that is half of their time. Packed layers also add the residual inside the kernel, and
expect and return feature maps in channels-last order.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hayate.models.layers import Conv2d, GroupNorm, Linear, Upsample
from hayate.models.unet import GEGLU, FeedForward
from hayate.runtime.native.kernels import Kernels

_mkldnn = torch.ops.mkldnn


def pack(network: nn.Module, kernels: Kernels | None) -> int:
    """Replaces the layers of `network` by their packed forms, norms and gates by `kernels`; how many were replaced.

    The layers' own weights are given up one by one, so that at no time all of them are in memory twice.
    """
    count = 0
    for name, child in list(network.named_children()):
        if packed := _packed(child, kernels):
            setattr(network, name, packed)
            count += 1
        else:
            count += pack(child, kernels)
    return count


def _packed(layer: nn.Module, kernels: Kernels | None) -> nn.Module | None:
    if isinstance(layer, Upsample):
        return PackedUpsample(layer)
    if isinstance(layer, Linear):
        return PackedLinear(layer)
    if isinstance(layer, Conv2d):
        return PackedPointwise(layer) if layer.kernel_size == (1, 1) else PackedConv2d(layer)
    if isinstance(layer, GroupNorm) and kernels:
        return FusedGroupNorm(layer, kernels)
    return PackedFeedForward(layer, kernels) if isinstance(layer, FeedForward) and kernels else None


class PackedLinear(nn.Module):
    """A `Linear` with a packed weight."""

    def __init__(self, layer: Linear | Conv2d) -> None:
        super().__init__()
        self.pack_weight(layer.weight.detach())
        self.bias = None if layer.bias is None else layer.bias.detach()

    def pack_weight(self, weight: Tensor) -> None:
        """Takes another weight; the packed one of before is let go of, not changed."""
        self.weight = _mkldnn._reorder_linear_weight(weight.flatten(1).contiguous())

    def plain_weight(self) -> Tensor:
        """A copy of the weight in plain order."""
        return self.weight.to_dense()

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        if residual is None:
            return _mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return _mkldnn._linear_pointwise.binary(x, residual, self.weight, self.bias, "add")


class PackedPointwise(PackedLinear):
    """A 1×1 convolution, which over channels-last maps is a linear layer.

    oneDNN's own kernels for it are up to ten times slower with a packed weight.
    """

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        last = None if residual is None else _channels_last(residual)
        return super().forward(_channels_last(x), last).permute(0, 3, 1, 2)


def _channels_last(x: Tensor) -> Tensor:
    """Shapes: [B, C, h, w] → [B, h, w, C], contiguous."""
    return x.permute(0, 2, 3, 1).contiguous()


class PackedConv2d(nn.Module):
    """A `Conv2d` with a packed weight."""

    def __init__(self, layer: Conv2d) -> None:
        super().__init__()
        self.how = (list(layer.padding), list(layer.stride), [1, 1], 1)
        self.pack_weight(layer.weight.detach())
        self.bias = None if layer.bias is None else layer.bias.detach()

    def pack_weight(self, weight: Tensor) -> None:
        """Takes another weight; the packed one of before is let go of, not changed."""
        self.weight = _mkldnn._reorder_convolution_weight(weight.contiguous(), *self.how, None)

    def plain_weight(self) -> Tensor:
        """A copy of the weight in plain order."""
        return self.weight.to_dense()

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        if residual is None:
            return _mkldnn._convolution_pointwise(x, self.weight, self.bias, *self.how, "none", [], "")
        residual = residual.contiguous(memory_format=torch.channels_last)
        return _mkldnn._convolution_pointwise.binary(
            x, residual, self.weight, self.bias, *self.how, "add", 1.0, None, [], None
        )


class PackedUpsample(nn.Module):
    """Doubling by nearest neighbour and a 3×3 convolution, as four 2×2 convolutions of the small map.

    Of the nine positions that a 3×3 kernel meets on the doubled map, those that fall on one pixel of the small map are
    multiplied with the same number: their weights are added beforehand. 4/9 of the work, the same mathematics.
    """

    def __init__(self, layer: Upsample) -> None:
        super().__init__()
        self.bias = None if layer.conv.bias is None else layer.conv.bias.detach()
        self.pack_weight(layer.conv.weight.detach())

    def pack_weight(self, weight: Tensor) -> None:
        """Takes another 3×3 weight; the packed ones of before are let go of, not changed."""
        self.weight = tuple(
            _mkldnn._reorder_convolution_weight(phase.contiguous(), [1, 1], [1, 1], [1, 1], 1, None)
            for phase in phases(weight)
        )

    def plain_weight(self) -> Tensor:
        """The 3×3 weight that `phases` was given, to within the rounding of its sums."""
        return from_phases([phase.to_dense() for phase in self.weight])

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        batch, _, height, width = x.shape
        y = None
        for index, weight in enumerate(self.weight):
            row, column = divmod(index, 2)
            part = _mkldnn._convolution_pointwise(x, weight, self.bias, [1, 1], [1, 1], [1, 1], 1, "none", [], "")
            if y is None:
                shape = (batch, part.shape[1], 2 * height, 2 * width)
                y = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
            y[:, :, row::2, column::2] = part[:, :, row : row + height, column : column + width]
        assert y is not None
        return y


def phases(weight: Tensor) -> list[Tensor]:
    """The four 2×2 kernels for even and odd rows and columns of the doubled map, rows first.

    Shapes: [out, in, 3, 3] → four of [out, in, 2, 2], in the dtype of `weight`, added in float32.
    """
    wide = weight.float()
    rows = [_halves(wide, 2, is_odd) for is_odd in (False, True)]
    return [_halves(part, 3, is_odd).to(weight.dtype) for part in rows for is_odd in (False, True)]


def _halves(weight: Tensor, dim: int, is_odd: bool) -> Tensor:
    """Three weights along `dim` as two: an even position meets its second pixel twice, an odd one its first."""
    first, second, third = weight.unbind(dim)
    return torch.stack([first + second, third] if is_odd else [first, second + third], dim=dim)


def from_phases(parts: Sequence[Tensor]) -> Tensor:
    """The 3×3 kernel of which `parts` are the phases.

    Shapes: four of [out, in, 2, 2] → [out, in, 3, 3].
    """
    wide = [part.float() for part in parts]
    upper, lower = (_whole(wide[row], wide[row + 1], 3) for row in (0, 2))
    return _whole(upper, lower, 2).to(parts[0].dtype)


def _whole(even: Tensor, odd: Tensor, dim: int) -> Tensor:
    """The three weights along `dim` whose sums `_halves` has made: [a, b + c] and [a + b, c]."""
    (first, both), (_, third) = even.unbind(dim), odd.unbind(dim)
    return torch.stack([first, both - third, third], dim=dim)


class FusedGroupNorm(nn.Module):
    """A `GroupNorm` that reads its map twice and writes it once, activation and shift included."""

    def __init__(self, layer: GroupNorm, kernels: Kernels) -> None:
        super().__init__()
        self.kernels = kernels
        self.groups, self.eps, self.is_activated = layer.num_groups, layer.eps, layer.is_activated
        self.affine = (layer.weight.detach(), layer.bias.detach())

    def forward(self, x: Tensor, shift: Tensor | None = None) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        return self.kernels.group_norm(
            x, self.groups, self.affine, eps=self.eps, is_activated=self.is_activated, shift=shift
        )


class PackedFeedForward(nn.Module):
    """A `FeedForward` that takes a few rows at a time, so that what lies between its layers stays in the cache."""

    def __init__(self, layer: FeedForward, kernels: Kernels) -> None:
        super().__init__()
        self.kernels = kernels
        gate, narrow = layer.net[0], layer.net[2]
        assert isinstance(gate, GEGLU)
        assert isinstance(narrow, Linear)
        self.widen, self.narrow = PackedLinear(gate.proj), PackedLinear(narrow)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        rows, kept = x.flatten(0, -2), residual.flatten(0, -2)
        parts = [
            self.narrow(self.kernels.geglu(self.widen(part)), part_kept)
            for part, part_kept in zip(rows.split(ROWS), kept.split(ROWS), strict=True)
        ]
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).view(residual.shape)


Packed = PackedLinear | PackedConv2d | PackedUpsample
"""Layers that hold a packed weight."""

ROWS = 1024
"""Rows that a feed-forward takes at a time: 5 MB between its layers at the widest map of SD1."""
