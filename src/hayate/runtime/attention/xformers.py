"""Attention by xFormers, an optional package."""

from __future__ import annotations

from collections.abc import Collection

import torch
import xformers.ops  # pyright: ignore[reportMissingImports]
from torch import Tensor

from hayate.runtime.attention.base import describe
from hayate.runtime.device import Device

MAX_HEAD_DIM = 256


class XformersAttention:
    """xFormers' choice among its kernels, within the types and widths that all of its kernels serve."""

    name = "xformers"
    is_exact = True
    is_deterministic = False
    has_scratch = False

    def refusal(self, device: Device, dtype: torch.dtype, head_dims: Collection[int]) -> str | None:
        if device.torch.type != "cuda":
            return "xFormers needs a GPU"
        if dtype == torch.bfloat16 and device.capability is not None and device.capability < (8, 0):
            return "xFormers' bf16 kernels need a GPU of compute capability 8.0"
        if any(_serves(dtype, width) for width in head_dims):
            return None
        return (
            f"xFormers needs fp16 or bf16 and a head dimension that is a multiple of 8, up to {MAX_HEAD_DIM}; "
            f"this is {dtype} with {sorted(head_dims)}"
        )

    def misfit(self, q: Tensor, k: Tensor, v: Tensor, is_causal: bool) -> str | None:
        if _serves(q.dtype, q.shape[-1]) and q.stride(-1) == k.stride(-1) == v.stride(-1) == 1:
            return None
        return describe(q, is_causal)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, is_causal: bool = False) -> Tensor:
        mask = xformers.ops.LowerTriangularMask() if is_causal else None
        # xFormers has the positions before the heads, as they lie in memory already.
        q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))
        return xformers.ops.memory_efficient_attention(q, k, v, attn_bias=mask).transpose(1, 2)


def _serves(dtype: torch.dtype, width: int) -> bool:
    return dtype in (torch.float16, torch.bfloat16) and width % 8 == 0 and width <= MAX_HEAD_DIM
