"""What a detector finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Region:
    """One thing in a picture."""

    mask: np.ndarray
    """Where it is. Shapes: [H, W] uint8, 255 inside."""

    @property
    def area_px(self) -> int:
        return int(np.count_nonzero(self.mask))


class Detector(Protocol):
    """A file of `detectors/` has a function of this kind, called `detect`."""

    def __call__(self, picture: np.ndarray, /) -> list[Region]:
        """Shapes: picture [H, W, 3] uint8."""
        ...
