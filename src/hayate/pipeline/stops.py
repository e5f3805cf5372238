"""How a callback of the loop breaks it off: this batch alone, or, by `errors.Cancelled`, the whole job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hayate.errors import Cancelled

if TYPE_CHECKING:
    from torch import Tensor

HALF_MADE = ("dropped", "shown", "saved")
"""What becomes of the batch that a cancel finds half-made: it may be among the results, and among the outputs."""


class Skipped(Exception):
    """Somebody gave up the batch that is being made; the next one is begun."""


class HalfMade(Cancelled):
    """Somebody ended the job in the loop, which hands out what the pictures would be by then."""

    def __init__(self, reason: Cancelled, *, latents: Tensor, row: int) -> None:
        super().__init__(reason.message, hint=reason.hint)
        self.latents = latents
        """What the model takes the finished latents to be, [B, 4, h, w]."""
        self.row = row
        """How many of the table's rows are done."""
