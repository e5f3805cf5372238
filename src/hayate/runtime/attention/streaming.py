"""Attention by tiles with a streaming softmax: exact, and its scratch memory does not grow with the picture."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hayate.runtime.attention.base import SCRATCH_BYTES, empty_result
from hayate.runtime.attention.explicit import Explicit, mask_future, product

SMALLEST_TILE = 16
_FP32_BYTES = 4


class SubQuadraticAttention(Explicit):
    """Some queries against some keys at a time, within a budget of bytes.

    Source: Rabe & Staats 2021, "Self-attention does not need O(n²) memory"; Milakov & Gimelshein 2018 (streaming).
    """

    name = "sub-quadratic"

    def __init__(self, scratch_bytes: int = SCRATCH_BYTES) -> None:
        self.scratch_bytes = scratch_bytes

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, is_causal: bool = False) -> Tensor:
        out = empty_result(q)
        batch, heads, queries, width = q.shape
        size, key_size = tile_sizes(batch * heads, queries, k.shape[2], width, self.scratch_bytes)
        for start in range(0, queries, size):
            first_query = start if is_causal else None
            out[:, :, start : start + size] = _stream(q[:, :, start : start + size], k, v, key_size, first_query)
        return out


def tile_sizes(rows: int, queries: int, keys: int, width: int, scratch_bytes: int) -> tuple[int, int]:
    """How many queries and keys a tile has: square if both are plenty, at least `SMALLEST_TILE` of each.

    For n queries and m keys of each of `rows` heads the scratch is 2·n·m scores (one of them in a half type at most), 6
    rows of `width` a query (itself, its sums, their successors), and 4 a key (keys, then values, each rearranged once).
    """
    floats = scratch_bytes // (_FP32_BYTES * rows)
    per_query, per_key = 6 * width + 8, 4 * width
    linear = per_query + per_key
    side = int((math.sqrt(linear**2 + 8 * floats) - linear) / 4)  # the root of 2·side² + linear·side = floats
    if queries <= side:
        return queries, _bounded((floats - per_query * queries) // (2 * queries + per_key), keys)
    if keys <= side:
        return _bounded((floats - per_key * keys) // (2 * keys + per_query), queries), keys
    return _bounded(side, queries), _bounded(side, keys)


def _bounded(size: int, available: int) -> int:
    return min(max(size, SMALLEST_TILE), available)


def _stream(q: Tensor, k: Tensor, v: Tensor, size: int, first_query: int | None) -> Tensor:
    """The result for some queries in float32; with `first_query`, their position, causally.

    A tile's weights are relative to the largest score so far, so no exponential overflows; when a larger one comes, the
    sums are shrunk to match.
    """
    batch, heads, queries, width = q.shape
    sums = torch.zeros((batch, heads, queries, width), device=q.device)
    total = torch.zeros((batch, heads, queries, 1), device=q.device)
    peak = torch.full_like(total, float("-inf"))
    keys = k.shape[2] if first_query is None else min(k.shape[2], first_query + queries)
    for start in range(0, keys, size):
        weights = product(q, k[:, :, start : start + size].mT).mul_(width**-0.5)
        if first_query is not None:
            mask_future(weights, first_query, start)
        higher = torch.maximum(peak, weights.amax(-1, keepdim=True))
        weights.sub_(higher).exp_()
        shrink = (peak - higher).exp_()
        total.mul_(shrink).add_(weights.sum(-1, keepdim=True))
        sums.mul_(shrink).add_(product(weights, v[:, :, start : start + size]))
        peak = higher
    return sums.div_(total)
