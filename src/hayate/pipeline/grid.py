"""All pictures of a job in one, row by row."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def make_grid(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """The pictures, all of one size, in as many rows as the square root of their number says; what is left is black.

    Shapes: pictures [H, W, 3] uint8 each → [rows · H, columns · W, 3].
    Source: A1111 behaviour.
    """
    rows, columns = grid_shape(len(pictures))
    height, width, channels = pictures[0].shape
    grid = np.zeros((rows * height, columns * width, channels), pictures[0].dtype)
    for number, picture in enumerate(pictures):
        row, column = divmod(number, columns)
        grid[row * height : (row + 1) * height, column * width : (column + 1) * width] = picture
    return grid


def grid_shape(count: int) -> tuple[int, int]:
    """Rows and columns for `count` pictures."""
    rows = round(math.sqrt(count))
    return rows, math.ceil(count / rows)
