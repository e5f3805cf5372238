"""SuperMerger's smoothAdd: a difference of models, freed of what stands out, then softened."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

RADIUS = 4
"""Of the Gaussian of σ = 1: four σ."""
_STACKED = 1 << 24
"""Numbers at once in the median's neighbourhoods."""


def smooth_add(a: Tensor, b: Tensor, c: Tensor, alpha: float) -> Tensor:
    """A + α·G(M(B − C)): the median M of each number's neighbours, 3 along every dimension, then a Gaussian G of σ = 1.

    Beyond an edge the numbers are mirrored, the edge itself with them.
    Source: SuperMerger's calcmode_en.md, "smoothAdd".
    Cost: the median of 81 numbers for each one of a convolution; some ten minutes for SD1.
    """
    return torch.add(a, _softened(_median(b - c)), alpha=alpha)


def _median(values: Tensor) -> Tensor:
    """The median of the 3ⁿ numbers around each one, some rows at a time."""
    if values.dim() == 0 or values.numel() == 0:
        return values
    size = values.shape[0]
    rows = max(1, _STACKED // max(1, 3 ** values.dim() * (values.numel() // size)))
    medians = torch.empty_like(values)
    for start in range(0, size, rows):
        stop = min(start + rows, size)
        around = values.index_select(0, _mirrored(range(start - 1, stop + 1), size))
        medians[start:stop] = _middle(_shifted(around, stop - start))
    return medians


def _middle(neighbours: Sequence[Tensor]) -> Tensor:
    """The median of 3, 9, 27 or 81 tensors, place by place."""
    if len(neighbours) == 3:
        return _middle_of_three(*neighbours)
    if len(neighbours) != 9:
        return torch.stack(list(neighbours)).median(dim=0).values
    # Each row of three sorted, the median is that of the greatest least, the middle middle and the least greatest.
    rows = [neighbours[start : start + 3] for start in (0, 3, 6)]
    least = [torch.minimum(torch.minimum(a, b), c) for a, b, c in rows]
    middle = [_middle_of_three(*row) for row in rows]
    greatest = [torch.maximum(torch.maximum(a, b), c) for a, b, c in rows]
    return _middle_of_three(
        torch.maximum(torch.maximum(*least[:2]), least[2]),
        _middle_of_three(*middle),
        torch.minimum(torch.minimum(*greatest[:2]), greatest[2]),
    )


def _middle_of_three(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return torch.maximum(torch.minimum(a, b), torch.minimum(torch.maximum(a, b), c))


def _shifted(around: Tensor, rows: int) -> list[Tensor]:
    """Every neighbour of each number of the inner rows."""
    places = [[slice(first, first + rows) for first in range(3)]]
    others = range(1, around.dim())
    padded = around
    for dim in others:
        padded = padded.index_select(dim, _mirrored(range(-1, around.shape[dim] + 1), around.shape[dim]))
        places.append([slice(first, first + around.shape[dim]) for first in range(3)])
    return [padded[place] for place in itertools.product(*places)]


def _softened(values: Tensor) -> Tensor:
    """A Gaussian along every dimension, one after the other."""
    weights = [math.exp(-(offset**2) / 2) for offset in range(-RADIUS, RADIUS + 1)]
    for dim in range(values.dim()):
        size = values.shape[dim]
        softened = torch.zeros_like(values)
        for offset, weight in zip(range(-RADIUS, RADIUS + 1), weights, strict=True):
            shifted = values.index_select(dim, _mirrored(range(offset, size + offset), size))
            softened.add_(shifted, alpha=weight / sum(weights))
        values = softened
    return values


def _mirrored(places: Sequence[int], size: int) -> Tensor:
    """Indices inside `size` for places that may lie outside: …, 1, 0 | 0, 1, …, n − 1 | n − 1, n − 2, …"""
    turned = torch.tensor(places) % (2 * size)
    return torch.where(turned < size, turned, 2 * size - 1 - turned)
