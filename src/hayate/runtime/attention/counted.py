"""The attention function that networks are given: one backend, and a count of what it did."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from hayate.runtime.attention.base import Backend, empty_result


class CountedAttention:
    """Calls a backend, or for a call that it can't serve the fallback, and counts both.

    A compiled step counts nothing here, and a replayed CUDA graph only its capture: they bring proof of their own.
    """

    def __init__(self, backend: Backend, fallback: Backend) -> None:
        self.backend = backend
        self.fallback = fallback
        self.calls = 0
        """All calls, those that fell back among them."""
        self.fallbacks: Counter[str] = Counter()
        """How many calls of which kind went to the fallback."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, is_causal: bool = False) -> Tensor:
        if q.is_meta:  # a forecast of memory, not work
            return self.backend(q, k, v, is_causal) if self.backend.has_scratch else empty_result(q)
        misfit = self.backend.misfit(q, k, v, is_causal)
        if not torch.compiler.is_compiling():
            self.calls += 1
            if misfit is not None:
                self.fallbacks[misfit] += 1
        return (self.backend if misfit is None else self.fallback)(q, k, v, is_causal)

    def server(self, q: Tensor, k: Tensor, v: Tensor, is_causal: bool = False) -> Backend:
        """Which of the two a call goes to."""
        return self.backend if self.backend.misfit(q, k, v, is_causal) is None else self.fallback

    @property
    def served(self) -> int:
        """Calls that the backend itself served."""
        return self.calls - self.fallbacks.total()
