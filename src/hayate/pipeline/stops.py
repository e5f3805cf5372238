"""How a callback of the loop breaks it off: this batch alone, or, by `errors.Cancelled`, the whole job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hayate.errors import Cancelled

if TYPE_CHECKING:
    from torch import Tensor

HALF_MADE = ("dropped", "shown", "saved")
"""What becomes of a batch that is stopped half-made: it may be among the results, and among the outputs."""


class Skipped(Exception):
    """Somebody gave up the batch that is being made; the next one is begun."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Half:
    """What a batch would be by the time that it was stopped in the loop."""

    latents: Tensor
    """What the model takes the finished latents to be, [B, 4, h, w]."""
    row: int
    """How many of the table's rows are done."""


class HalfCancelled(Cancelled):
    """Somebody ended the job in the loop."""

    def __init__(self, reason: Cancelled, half: Half) -> None:
        super().__init__(reason.message, hint=reason.hint)
        self.half = half


class HalfSkipped(Skipped):
    """Somebody gave up the batch in the loop."""

    def __init__(self, half: Half) -> None:
        super().__init__()
        self.half = half
