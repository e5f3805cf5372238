"""Storing numbers in a narrower type, and what is lost by it: infinities where it ends, zeros below its smallest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hayate.weights.read import TORCH_DTYPES
from hayate.weights.source import Lazy

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What one tensor lost."""

    name: str
    overflown: int
    """Finite numbers that are not finite any more."""
    vanished: int
    """Numbers that were not zero and are now."""
    numbers: int


def narrowed(name: str, lazy: Lazy, dtype: str, losses: list[Loss]) -> Lazy:
    """`lazy` in another type; what that costs is appended to `losses` when it is loaded."""
    if dtype == lazy.dtype:
        return lazy

    def load() -> Tensor:
        wide = lazy.load()
        narrow = cast(wide, dtype)
        if loss := loss_of(name, wide, narrow):
            losses.append(loss)
        return narrow

    return Lazy(dtype=dtype, shape=lazy.shape, load=load)


def cast(tensor: Tensor, dtype: str) -> Tensor:
    """`tensor` in the type that the format calls `dtype`."""
    import torch

    return tensor.to(getattr(torch, TORCH_DTYPES[dtype]))


def loss_of(name: str, wide: Tensor, narrow: Tensor) -> Loss | None:
    """What was lost from `wide` to `narrow`, or None if nothing was.

    Cost: a pass over both; a narrow zero that was no zero before, and a narrow infinity that was finite.
    """
    import torch

    wide, seen = (each.float() if each.element_size() == 1 else each for each in (wide, narrow))  # fp8 has no sums
    overflown = int((torch.isfinite(wide) & ~torch.isfinite(seen)).sum()) if not torch.isfinite(seen).all() else 0
    vanished = int(torch.count_nonzero(wide)) - int(torch.count_nonzero(seen))
    if not (overflown or vanished):
        return None
    return Loss(name=name, overflown=overflown, vanished=vanished, numbers=wide.numel())


def summary(losses: Sequence[Loss]) -> list[str]:
    """One line for each kind of loss, with the tensor that lost most."""
    lines = []
    for kind, says in (("overflown", "became infinite"), ("vanished", "became zero")):
        worst = max(losses, key=lambda loss: getattr(loss, kind), default=None)
        total = sum(getattr(loss, kind) for loss in losses)
        if worst and total:
            lines.append(f"{total:,} numbers {says}, {getattr(worst, kind):,} of them in {worst.name}")
    return lines
