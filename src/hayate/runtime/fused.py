"""Queries, keys and values of a self-attention by one matrix product instead of three."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hayate.models.layers import Linear, merge_heads, skeleton, split_heads
from hayate.models.unet import SelfAttention


def fuse_projections(network: nn.Module) -> int:
    """Replaces every self-attention of `network` by a fused one; how many there were.

    The input is then read once instead of three times. Sums are added up in the same order, so results stay the same to
    the last bit wherever the matrix product does not choose another order for a wider matrix.
    """
    count = 0
    for name, child in list(network.named_children()):
        if isinstance(child, SelfAttention):
            setattr(network, name, FusedSelfAttention(child))
            count += 1
        else:
            count += fuse_projections(child)
    return count


class FusedSelfAttention(nn.Module):
    """A `SelfAttention` whose three projections stand side by side in one."""

    def __init__(self, layer: SelfAttention) -> None:
        super().__init__()
        self.attention = layer.attention
        self.heads = layer.heads
        weight = torch.cat([part.weight.detach() for part in (layer.to_q, layer.to_k, layer.to_v)])
        with skeleton():
            self.to_qkv = Linear(weight.shape[1], weight.shape[0], bias=False)
        self.to_qkv.weight = nn.Parameter(weight, requires_grad=False)
        self.to_out = layer.to_out

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        q, k, v = (split_heads(part, self.heads) for part in self.to_qkv(x).chunk(3, dim=-1))
        return self.to_out[0](merge_heads(self.attention(q, k, v)), residual)
