"""Finds what is of a strong colour: a detector that needs no model, to try the others' place out.

One for faces or hands has the same form: a function `detect` that loads its model once and gives masks.
"""

from __future__ import annotations

import numpy as np

from ..region import Region

CELL_PX = 4
"""Parts of a picture that are taken as one: what is smaller is not found."""
STRENGTH = 120
"""How far a colour's strongest part has to be above its weakest, of 255."""
SMALLEST_CELLS = 9


def detect(picture: np.ndarray) -> list[Region]:
    """A region for each patch of strong colour."""
    height, width, _ = picture.shape
    cells = picture[: height // CELL_PX * CELL_PX, : width // CELL_PX * CELL_PX].astype(np.float32)
    cells = cells.reshape(height // CELL_PX, CELL_PX, width // CELL_PX, CELL_PX, 3).mean(axis=(1, 3))
    is_strong = cells.max(axis=2) - cells.min(axis=2) > STRENGTH
    return [_region(patch, (height, width)) for patch in patches(is_strong) if patch.sum() >= SMALLEST_CELLS]


def patches(is_in: np.ndarray) -> list[np.ndarray]:
    """The parts of a mask that hang together, each as a mask of its own."""
    left, found = is_in.copy(), []
    while left.any():
        patch = np.zeros_like(left)
        waiting = [tuple(np.argwhere(left)[0])]
        while waiting:
            y, x = waiting.pop()
            if 0 <= y < left.shape[0] and 0 <= x < left.shape[1] and left[y, x]:
                left[y, x], patch[y, x] = False, True
                waiting += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
        found.append(patch)
    return found


def _region(patch: np.ndarray, size: tuple[int, int]) -> Region:
    mask = np.zeros(size, np.uint8)
    large = np.kron(patch, np.ones((CELL_PX, CELL_PX), bool))
    mask[: large.shape[0], : large.shape[1]][large] = 255
    return Region(mask=mask)
