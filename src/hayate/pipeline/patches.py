"""Pictures in overlapping parts that are worked on one by one and put together again without seams.

Source: A1111 behaviour, docs/compat.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

Box = tuple[int, int, int, int]
"""Left, top, right and bottom, in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """How a picture is cut: into parts of one size, each overlapping the next by at least `overlap_px`."""

    size_px: tuple[int, int]
    """Width and height of the picture."""
    part_px: tuple[int, int]
    overlap_px: int

    def boxes(self) -> list[Box]:
        """The parts, row by row; a picture that is smaller than a part is one."""
        (width, height), (part_w, part_h) = self.size_px, self.part_px
        return [
            (left, top, min(left + part_w, width), min(top + part_h, height))
            for top in part_starts(height, part_h, self.overlap_px)
            for left in part_starts(width, part_w, self.overlap_px)
        ]


def part_starts(size: int, part: int, overlap: int) -> list[int]:
    """Where parts begin along one side: evenly, so that all are of one size."""
    if size <= part:
        return [0]
    step = part - min(overlap, part - 1)
    count = -(-(size - part) // step) + 1
    return [round(index * (size - part) / (count - 1)) for index in range(count)]


@dataclass(slots=True, kw_only=True, eq=False)
class Canvas:
    """A picture that is put together from parts of it, `scale` times as large as where they were cut."""

    size_px: tuple[int, int]
    scale: int = 1
    margin_px: int = 0
    """As much of a part's edge inside the picture does not count: there a network sees where the part ends."""
    _pixels: np.ndarray = field(init=False)
    _weights: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        width, height = (side * self.scale for side in self.size_px)
        self._pixels = np.zeros((height, width, 3), dtype=np.float32)
        self._weights = np.zeros((height, width), dtype=np.float32)

    def put(self, box: Box, part: np.ndarray) -> None:
        """Adds a part; where two overlap, one fades into the other in a straight line.

        Shapes: part [scale·h, scale·w, 3], of 0…255.
        """
        left, top, right, bottom = (side * self.scale for side in box)
        weights = self._fade(box[1], box[3], self.size_px[1])[:, None] * self._fade(box[0], box[2], self.size_px[0])
        self._pixels[top:bottom, left:right] += part * weights[:, :, None]
        self._weights[top:bottom, left:right] += weights

    def picture(self) -> np.ndarray:
        """Shapes: → [H, W, 3] uint8."""
        mean = self._pixels / self._weights[:, :, None]
        return np.clip(np.rint(mean), 0, 255).astype(np.uint8)

    def _fade(self, start: int, end: int, size: int) -> np.ndarray:
        """The weight along one side: the distance to the nearest end inside the picture, less the margin."""
        distance = np.arange(1, (end - start) * self.scale + 1, dtype=np.float32)
        inside = [each for each, is_inside in ((distance, start > 0), (distance[::-1], end < size)) if is_inside]
        if not inside:
            return np.ones_like(distance)
        return np.maximum(np.minimum.reduce(inside) - self.margin_px * self.scale, 0)
