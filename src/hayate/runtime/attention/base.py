"""What an attention backend is."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

import torch
from torch import Tensor

from hayate.runtime.device import Device

SCRATCH_BYTES = 128 * 2**20
"""What our own backends may take for scores. Larger tiles gain nothing: at 8 heads and batch 2 they hold 1000×1000."""


class Backend(Protocol):
    """One way to compute softmax(q·kᵀ/√d)·v. It keeps no state, so that threads can share it."""

    name: str
    is_exact: bool
    """Whether it is the formula up to rounding, and not an approximation such as 8-bit scores."""
    is_deterministic: bool
    """Whether it gives the same bits run after run on a GPU. On CPUs all of them do."""
    has_scratch: bool
    """Whether it makes tensors of a size worth forecasting besides its result."""

    def refusal(self, device: Device, dtype: torch.dtype, head_dims: Collection[int]) -> str | None:
        """Why it can't serve a network of these head dimensions at all, or None where it serves one of them or more."""
        ...

    def misfit(self, q: Tensor, k: Tensor, v: Tensor, is_causal: bool) -> str | None:
        """Why it can't serve this one call, or None; asked before every call, so it is quick."""
        ...

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, is_causal: bool = False) -> Tensor:
        """Shapes: q [B, heads, N, d], k and v [B, heads, M, d] → [B, heads, N, d], of q's type."""
        ...


def empty_result(q: Tensor) -> Tensor:
    """Room for the result, with the heads of a position side by side in memory: merging them takes no copy."""
    batch, heads, length, width = q.shape
    return torch.empty((batch, length, heads, width), dtype=q.dtype, device=q.device).transpose(1, 2)


def describe(q: Tensor, is_causal: bool) -> str:
    """A call in words, for the count of those that a backend did not serve."""
    kind = str(q.dtype).removeprefix("torch.")
    return f"{'causal, ' if is_causal else ''}head dim {q.shape[-1]}, {kind}"
