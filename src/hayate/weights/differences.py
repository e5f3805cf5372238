"""How far two models are apart, block by block."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from hayate.errors import TensorMismatch, clip
from hayate.models.config import Family
from hayate.weights.contents import part_of_name
from hayate.weights.detect import detect_family
from hayate.weights.merge_blocks import BASE, block_of, blocks_of
from hayate.weights.read import Checkpoint

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Apart:
    """The difference of some tensors."""

    tensors: int
    """That both models have in one shape."""
    changed: int
    """Of them that differ in any number."""
    relative: float
    """‖B − A‖ / ‖A‖ over all their numbers; infinite where only A is nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """What lies between two models."""

    family: Family
    blocks: dict[str, Apart]
    """By the names of block weights without BASE, in their order."""
    parts: dict[str, Apart]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    other_shape: tuple[str, ...]

    @property
    def is_none(self) -> bool:
        return not (self.only_a or self.only_b or self.other_shape or any(each.changed for each in self.parts.values()))


def differences(a: Checkpoint, b: Checkpoint, on_share: Callable[[float], None] = lambda share: None) -> Differences:
    """Compares two checkpoints tensor by tensor; `on_share` is told which share is done.

    Raises: TensorMismatch for models of different families. Cost: both are read once; memory for some megabytes.
    """
    family, other = (detect_family(each.tensors, source=str(each.path)) for each in (a, b))
    if family is not other:
        message = f"{clip(a.path.name)} is {family}, {clip(b.path.name)} is {other}"
        raise TensorMismatch(f"{message}: they can't be compared", hint="compare models of one family")
    shared = [name for name in a.tensors if name in b.tensors]
    alike = [name for name in shared if a.tensors[name].shape == b.tensors[name].shape]
    sums = {name: _Sums() for name in (*blocks_of(family), *map(part_of_name, alike))}
    whole, done = sum(a.tensors[name].size_bytes for name in alike) or 1, 0
    for name in alike:
        found = _compare(a.get(name), b.get(name))
        sums[part_of_name(name)].add(found)
        if (block := block_of(name, family)) != BASE:
            sums[block].add(found)
        done += a.tensors[name].size_bytes
        on_share(done / whole)
    blocks = [block for block in blocks_of(family) if block != BASE]
    return Differences(
        family=family,
        blocks={block: sums[block].apart() for block in blocks},
        parts={part: each.apart() for part, each in sums.items() if part not in blocks_of(family)},
        only_a=tuple(sorted(a.tensors.keys() - b.tensors.keys())),
        only_b=tuple(sorted(b.tensors.keys() - a.tensors.keys())),
        other_shape=tuple(sorted(set(shared) - set(alike))),
    )


@dataclass(slots=True)
class _Sums:
    """Squares that are added up in float64."""

    tensors: int = 0
    changed: int = 0
    difference: float = 0.0
    size: float = 0.0

    def add(self, other: _Sums) -> None:
        self.tensors += other.tensors
        self.changed += other.changed
        self.difference += other.difference
        self.size += other.size

    def apart(self) -> Apart:
        if not self.size:
            return Apart(tensors=self.tensors, changed=self.changed, relative=math.inf if self.difference else 0.0)
        relative = math.sqrt(self.difference / self.size)
        return Apart(tensors=self.tensors, changed=self.changed, relative=relative)


def _compare(a: Tensor, b: Tensor) -> _Sums:
    sums = _Sums(tensors=1)
    for ours, theirs in zip(_blocks(a), _blocks(b), strict=True):
        sums.difference += float((theirs - ours).square().sum(dtype=torch.float64))
        sums.size += float(ours.square().sum(dtype=torch.float64))
        sums.changed |= not torch.equal(ours, theirs)
    return sums


def _blocks(tensor: Tensor) -> Iterator[Tensor]:
    """Some numbers at a time, in float32, which holds every other type's; whole numbers in float64."""
    wide = torch.float32 if tensor.is_floating_point() else torch.float64
    return (block.to(wide) for block in tensor.reshape(-1).split(_BLOCK))
