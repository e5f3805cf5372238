"""An extension's attention backend: used until it fails, and then PyTorch's."""

from __future__ import annotations

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor

from hayate.errors import Cancelled
from hayate.extensions.chosen import chosen
from hayate.extensions.current import current
from hayate.extensions.standing import Hook
from hayate.runtime.attention.base import Backend
from hayate.runtime.device import Device


class LentBackend:
    """`runtime.attention.base.Backend`: the call that fails is done by PyTorch, and all after it are refused.

    Whoever counts calls then says how many were not served, and why.
    """

    def __init__(self, hook: Hook, own: Backend) -> None:
        self._hook, self._own = hook, own
        self.failure = ""
        """Why it serves no more."""
        self.name = hook.name
        self.is_exact, self.is_deterministic = bool(own.is_exact), bool(own.is_deterministic)
        self.has_scratch = bool(own.has_scratch)

    def refusal(self, device: Device, dtype: torch.dtype, head_dims: Collection[int]) -> str | None:
        return self._own.refusal(device, dtype, head_dims)

    def misfit(self, q: Tensor, k: Tensor, v: Tensor, is_causal: bool) -> str | None:
        return self.failure or self._own.misfit(q, k, v, is_causal)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, is_causal: bool = False) -> Tensor:
        try:
            made = current().visit(self._hook, lambda: self._own(q, k, v, is_causal))
            if made.shape != q.shape[:-1] + v.shape[-1:] or made.dtype != q.dtype:
                raise ValueError(f"it gave {made.dtype} {list(made.shape)} for {q.dtype} {list(q.shape)}")
        except Cancelled:
            raise
        except Exception as error:  # the door of extensions: whatever theirs raises ends here
            if "out of memory" in str(error) or isinstance(error, MemoryError):
                raise
            self.failure = f"the extension {self._hook.owner.name} failed"
            current().crashed(self._hook, error)
            return F.scaled_dot_product_attention(q, k, v, is_causal=is_causal)
        return made


def lent_backend(name: str) -> Backend | None:
    """An extension's backend; None where there is none of this name.

    Raises: UsageError where the extension fails.
    """
    found = chosen("attention", name, type)
    return None if found is None else LentBackend(found[0], found[1]())
