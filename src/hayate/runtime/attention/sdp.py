"""Attention by PyTorch's own fused kernels.

A single kernel is called by its operator and not through `torch.nn.attention.sdpa_kernel`: that context sets flags
which are one for the whole process, so that it would change, or break, the attention of another thread.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.backends.cuda import SDPAParams, can_use_cudnn_attention, can_use_flash_attention

from hayate.runtime.attention.base import describe
from hayate.runtime.attention.explicit import SplitAttention
from hayate.runtime.device import Device


class SdpAttention:
    """PyTorch's dispatcher: flash, memory-efficient or cuDNN, whichever it ranks first for a call."""

    name = "sdp"
    is_exact = True
    is_deterministic = False
    has_scratch = False

    def refusal(self, device: Device, dtype: torch.dtype, head_dims: Collection[int]) -> str | None:  # noqa: ARG002
        return None

    def misfit(self, q: Tensor, k: Tensor, v: Tensor, is_causal: bool) -> str | None:  # noqa: ARG002
        return None

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, is_causal: bool = False) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, is_causal=is_causal)


class SdpNoMemAttention(SdpAttention):
    """Flash where it serves, else explicit scores some queries at a time; never the memory-efficient kernel.

    The slices are the formula that PyTorch's own "math" kernel writes out, without its memory: a VAE's one head of 512
    channels, which flash does not serve, would take gigabytes. On CPUs there is no memory-efficient kernel to avoid.
    """

    name = "sdp-no-mem"
    is_deterministic = True

    def __init__(self) -> None:
        self._split = SplitAttention()

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, is_causal: bool = False) -> Tensor:
        if q.device.type == "cpu":
            return F.scaled_dot_product_attention(q, k, v, is_causal=is_causal)
        if serves_flash(q, k, v, is_causal):
            return torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, 0.0, is_causal)[0]
        return self._split(q, k, v, is_causal)


class CudnnAttention(SdpAttention):
    """cuDNN's fused kernel."""

    name = "cudnn"

    def refusal(self, device: Device, dtype: torch.dtype, head_dims: Collection[int]) -> str | None:
        if device.capability is None:
            return "cuDNN needs an NVIDIA GPU"
        widest = 256 if device.capability >= (9, 0) else 128
        is_half = dtype in (torch.float16, torch.bfloat16)
        if is_half and device.capability >= (8, 0) and any(not width % 8 and width <= widest for width in head_dims):
            return None
        return (
            f"cuDNN needs fp16 or bf16, a head dimension that is a multiple of 8, up to {widest} on this card, and "
            f"compute capability 8.0; this is {dtype} with {sorted(head_dims)} on {device.capability}"
        )

    def misfit(self, q: Tensor, k: Tensor, v: Tensor, is_causal: bool) -> str | None:
        return None if _serves_cudnn(q, k, v, is_causal) else describe(q, is_causal)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, is_causal: bool = False) -> Tensor:
        # None: no bias; False: no logarithms of sums, which only training needs.
        return torch.ops.aten._scaled_dot_product_cudnn_attention(q, k, v, None, False, 0.0, is_causal)[0]


def serves_flash(q: Tensor, k: Tensor, v: Tensor, is_causal: bool) -> bool:
    """Whether the flash operator can be called as it is: PyTorch's check allows other widths, which its caller pads."""
    return q.shape[-1] % 8 == 0 and can_use_flash_attention(SDPAParams(q, k, v, None, 0.0, is_causal, False))


def _serves_cudnn(q: Tensor, k: Tensor, v: Tensor, is_causal: bool) -> bool:
    return can_use_cudnn_attention(SDPAParams(q, k, v, None, 0.0, is_causal, False))
