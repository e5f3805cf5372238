"""Deep features of a U-Net that later evaluations use again, and when they may.

Source: Ma et al. 2023 (DeepCache): from one step to the next the deep, slow half of a U-Net changes little.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(slots=True, kw_only=True, eq=False)
class DeepFeatures:
    """What one call of the U-Net leaves for those after it: a whole one writes `deep`, a shallow one reads it."""

    deep: Tensor | None = None
    """[B, C, h, w]; None makes the next call a whole one."""

    def of(self, inputs: slice) -> DeepFeatures:
        """The features of some of the inputs, for an engine that takes a batch in parts."""
        return DeepFeatures(deep=None if self.deep is None else self.deep[inputs])

    def join(self, parts: list[DeepFeatures]) -> None:
        """Takes in what the parts of a batch have left."""
        found = [part.deep for part in parts if part.deep is not None]
        assert len(found) == len(parts)
        self.deep = torch.cat(found)


class FeatureReuse:
    """Which evaluations of one batch of pictures are whole: every `every`-th, and each that is told something new."""

    def __init__(self, every: int) -> None:
        self.is_reusing = False
        """Whether the newest evaluation computes the shallow blocks alone."""
        self._every = every
        self._features = DeepFeatures()
        self._since = 0
        self._variant: int | None = None

    def forget(self) -> None:
        """Makes the next evaluation a whole one: another model takes over."""
        self._variant = None

    def next(self, inputs: int, variant: int) -> DeepFeatures:
        """The features for an evaluation of so many inputs, told the prompts of `variant`.

        A batch without the negative prompt, which stands last, has the first of the features.
        """
        deep = self._features.deep
        is_fit = deep is not None and len(deep) >= inputs and variant == self._variant
        self.is_reusing = is_fit and self._since < self._every
        if self.is_reusing:
            self._since += 1
            return self._features.of(slice(inputs))
        self._features, self._since, self._variant = DeepFeatures(), 1, variant
        return self._features
