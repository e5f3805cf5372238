"""The compiled attention as a backend."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from hayate.runtime.device import Device
from hayate.runtime.native.kernels import DTYPES, MAX_HEAD_DIM, kernels, refusal


class NativeAttention:
    """softmax(q·kᵀ/√d)·v by the compiled kernel. Implements `attention.base.Backend`."""

    name = "native"
    is_exact = True
    is_deterministic = True
    has_scratch = False

    def refusal(self, device: Device, dtype: torch.dtype, head_dims: Collection[int]) -> str | None:
        if device.torch.type != "cpu":
            return "the compiled attention is for CPUs"
        if dtype not in DTYPES:
            return f"the compiled attention computes in {' and '.join(DTYPES.values())}"
        if odd := [width for width in head_dims if not _is_servable(width)]:
            return f"head dim {odd[0]} is odd or above {MAX_HEAD_DIM}"
        return refusal()

    def misfit(self, q: Tensor, k: Tensor, v: Tensor, is_causal: bool) -> str | None:
        if is_causal:
            return "causal"
        if q.dtype not in DTYPES or k.dtype != q.dtype or v.dtype != q.dtype:
            return f"dtype {q.dtype}"
        if not _is_servable(q.shape[-1]):
            return f"head dim {q.shape[-1]}"
        return None if all(each.stride(-1) == 1 for each in (q, k, v)) else "head dim not contiguous"

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, is_causal: bool = False) -> Tensor:
        assert not is_causal
        return kernels().attention(q, k, v)


def _is_servable(width: int) -> bool:
    return width % 2 == 0 and width <= MAX_HEAD_DIM
