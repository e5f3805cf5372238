"""Brownian paths over the noise levels, one per image, fixed by the seed alone."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
import torch

Draw: TypeAlias = Callable[[int], torch.Tensor]
"""Seed to unit normal noise of one image."""
Node: TypeAlias = tuple[int, int, float, float]
"""Depth, index within the depth, start and end of a dyadic interval."""

DIGITS = 6
"""Levels are rounded to this many decimals, so that halving an interval comes to an end."""
POOL_SIZE = 24
CACHED_SPLITS = 48
"""Two descents of the tree; neighbouring steps share most of one."""


class BrownianTree:
    """A Brownian path that any interval can be asked of, in any order, with the same answer.

    The increment over the whole range is drawn first; halves follow by the Brownian bridge, each split with a seed
    of its own. The numbers equal torchsde's `BrownianTree`, which k-diffusion uses, bit for bit; it can't be given
    another source of normal numbers, and NV noise needs one.

    Source: Li et al. 2020, "Scalable Gradients for Stochastic Differential Equations", virtual Brownian tree.
    Cost: about 20 draws per new level, down to an interval of 1e-6.
    """

    def __init__(self, start: float, end: float, seed: int, draw: Draw) -> None:
        self._range = (start, end)
        self._seed = seed
        self._draw = draw
        seeds = np.random.SeedSequence(entropy=seed, pool_size=POOL_SIZE).generate_state(3)
        self._whole = draw(int(seeds[0])) * math.sqrt(end - start)
        self._splits: OrderedDict[tuple[int, int], tuple[torch.Tensor, torch.Tensor]] = OrderedDict()

    def increment(self, start: float, end: float) -> torch.Tensor:
        """W(end) - W(start) for start < end within the range."""
        low, high = self._range
        start, end = round(max(start, low), DIGITS), round(min(end, high), DIGITS)
        root = (0, 0, round(low, DIGITS), round(high, DIGITS))
        if start == end:
            return torch.zeros_like(self._whole)
        pieces = self._cover(root, self._whole, start, end)
        total = next(pieces)
        for piece in pieces:
            total = total + piece
        return total

    def _cover(self, node: Node, value: torch.Tensor, start: float, end: float) -> Iterator[torch.Tensor]:
        """The increments of the largest dyadic intervals that make up [start, end], from the left."""
        depth, index, low, high = node
        if (start, end) == (low, high):
            yield value
            return
        middle = round(0.5 * (high + low), DIGITS)
        left, right = self._split(node, middle, value)
        if start < middle:
            yield from self._cover((depth + 1, 2 * index, low, middle), left, start, min(end, middle))
        if end > middle:
            yield from self._cover((depth + 1, 2 * index + 1, middle, high), right, max(start, middle), end)

    def _split(self, node: Node, middle: float, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The increments of both halves, given the one of the whole: the Brownian bridge."""
        depth, index, low, high = node
        key = (depth, index)
        if key in self._splits:
            self._splits.move_to_end(key)
            return self._splits[key]
        seeds = np.random.SeedSequence(entropy=self._seed, spawn_key=(index, depth), pool_size=POOL_SIZE)
        noise = self._draw(int(seeds.generate_state(4)[0]))
        scale = 1 / (high - low)
        left = (middle - low) * value * scale + math.sqrt((middle - low) * (high - middle) * scale) * noise
        self._splits[key] = (left, value - left)
        if len(self._splits) > CACHED_SPLITS:
            self._splits.popitem(last=False)
        return self._splits[key]


class BrownianNoise:
    """Unit noise for the SDE samplers: the increments of each image's own path, divided by their deviation.

    Shapes: a call gives [len(seeds), *shape of one image].
    Source: k-diffusion's BrownianTreeNoiseSampler; A1111 behaviour, docs/compat.md.
    """

    def __init__(self, sigma_min: float, sigma_max: float, seeds: Sequence[int], draw: Draw) -> None:
        self._trees = [BrownianTree(sigma_min, sigma_max, seed, draw) for seed in seeds]

    def __call__(self, sigma_from: float, sigma_to: float) -> torch.Tensor:
        """Noise for the move from one level to the other; downwards the path runs backwards."""
        start, end = sorted((sigma_from, sigma_to))
        sign = 1.0 if sigma_from < sigma_to else -1.0
        increments = torch.stack([tree.increment(start, end) for tree in self._trees])
        return increments * sign / math.sqrt(end - start)
