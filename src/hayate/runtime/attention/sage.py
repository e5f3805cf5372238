"""Attention by SageAttention, an optional package: scores from 8-bit integers, so approximate."""

from __future__ import annotations

from collections.abc import Collection

import torch
from sageattention import sageattn  # pyright: ignore[reportMissingImports]
from torch import Tensor

from hayate.runtime.attention.base import describe
from hayate.runtime.device import Device

HEAD_DIMS = (64, 96, 128)
"""Those that version 1 serves; version 2 would pad others, for which it is not worth its error."""
CAPABILITIES = ((8, 0), (8, 6), (8, 9), (9, 0), (12, 0))
"""Those that version 2 has kernels for."""


class SageAttention:
    """Zhang et al. 2024; what it does not serve, and the short causal attention of text encoders, is left to others."""

    name = "sage"
    is_exact = False
    is_deterministic = False
    has_scratch = False

    def refusal(self, device: Device, dtype: torch.dtype, head_dims: Collection[int]) -> str | None:
        if (capability := device.capability) is None:
            return "SageAttention needs an NVIDIA GPU"
        if capability not in CAPABILITIES:
            known = ", ".join(f"{major}.{minor}" for major, minor in CAPABILITIES)
            return (
                f"SageAttention needs a GPU of compute capability {known}; this one has {capability[0]}.{capability[1]}"
            )
        if any(_serves(dtype, width) for width in head_dims):
            return None
        return f"SageAttention needs fp16 or bf16 and head dimension {_NAMES}; this is {dtype} with {sorted(head_dims)}"

    def misfit(self, q: Tensor, k: Tensor, v: Tensor, is_causal: bool) -> str | None:
        is_dense = q.stride(-1) == k.stride(-1) == v.stride(-1) == 1
        return None if _serves(q.dtype, q.shape[-1]) and is_dense and not is_causal else describe(q, is_causal)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, is_causal: bool = False) -> Tensor:
        return sageattn(q, k, v, tensor_layout="HND", is_causal=is_causal)


_NAMES = ", ".join(map(str, HEAD_DIMS[:-1])) + f" or {HEAD_DIMS[-1]}"


def _serves(dtype: torch.dtype, width: int) -> bool:
    return dtype in (torch.float16, torch.bfloat16) and width in HEAD_DIMS
