"""Attention with its scores written out: all of them (the reference), or some queries at a time."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from hayate.runtime.attention.base import SCRATCH_BYTES, empty_result
from hayate.runtime.device import Device

_FP32_BYTES = 4


class Explicit:
    """What the backends that are nothing but PyTorch's products have in common: they serve everything, everywhere."""

    is_exact = True
    is_deterministic = True
    has_scratch = True

    def refusal(self, device: Device, dtype: torch.dtype, head_dims: Collection[int]) -> str | None:  # noqa: ARG002
        return None

    def misfit(self, q: Tensor, k: Tensor, v: Tensor, is_causal: bool) -> str | None:  # noqa: ARG002
        return None


class MathAttention(Explicit):
    """The reference: the formula as it is written, in float32 whatever the type of the tensors.

    Cost: heads·N·M scores in memory, twice; half types gain no speed.
    """

    name = "math"

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, is_causal: bool = False) -> Tensor:
        scores = (q.float() @ k.float().mT).mul_(q.shape[-1] ** -0.5)
        if is_causal:
            mask_future(scores, 0, 0)
        return (scores.softmax(-1) @ v.float()).to(q.dtype)


class SplitAttention(Explicit):
    """The formula for as many queries at a time as keep the scores within a budget of bytes.

    A row of scores needs no other row, so the slices change nothing in the result.
    """

    name = "split"

    def __init__(self, scratch_bytes: int = SCRATCH_BYTES) -> None:
        self.scratch_bytes = scratch_bytes

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, is_causal: bool = False) -> Tensor:
        out = empty_result(q)
        rows, keys = q.shape[0] * q.shape[1], k.shape[2]
        # Twice, since softmax writes a second tensor beside the scores.
        size = max(1, self.scratch_bytes // (2 * _FP32_BYTES * rows * keys))
        for start in range(0, q.shape[2], size):
            scores = product(q[:, :, start : start + size], k.mT).mul_(q.shape[-1] ** -0.5)
            if is_causal:
                mask_future(scores, start, 0)
            out[:, :, start : start + size] = product(scores.softmax(-1), v)
        return out


def product(a: Tensor, b: Tensor) -> Tensor:
    """a·b with sums in float32; an NVIDIA GPU multiplies numbers of b's half type as they are, which is far faster.

    Shapes: [B, heads, N, L], [B, heads, L, M] → [B, heads, N, M] float32.
    """
    if b.dtype == torch.float32 or b.device.type != "cuda" or torch.version.cuda is None:
        return a.float() @ b.float()
    flat = torch.bmm(a.to(b.dtype).flatten(0, 1), b.flatten(0, 1), out_dtype=torch.float32)
    return flat.unflatten(0, a.shape[:2])


def mask_future(scores: Tensor, first_query: int, first_key: int) -> None:
    """Forbids each query the keys after its own position, in a tile of scores that begins at these positions."""
    queries, keys = scores.shape[-2:]
    ones = torch.ones((queries, keys), dtype=torch.bool, device=scores.device)
    scores.masked_fill_(ones.triu_(first_query - first_key + 1), float("-inf"))
