"""How one tensor of a merge comes about: the recipe with this tensor's ratios, without what does not act on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from hayate.weights.lora import Change
from hayate.weights.lora_kinds import delta_of
from hayate.weights.merge_inputs import Source
from hayate.weights.merge_methods import Span
from hayate.weights.merge_nodes import Blend
from hayate.weights.read import Extent


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """An input's own tensor."""

    source: Source
    name: str

    @property
    def tensor(self) -> Tensor:
        return self.source.get(self.name)

    @property
    def shape(self) -> tuple[int, ...]:
        info = self.source.info(self.name)
        assert info is not None, self.name
        return info.shape

    @property
    def extent(self) -> Extent:
        """Where its file has it."""
        return self.source.extent(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """Several tensors by one of the methods."""

    name: str
    blend: Blend
    parts: tuple[Step, ...]
    ratios: tuple[float, ...]
    span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """What one LoRA changes about one tensor."""

    change: Change
    strength: float
    is_bias: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Edited:
    """A tensor with LoRAs in it."""

    part: Step
    edits: tuple[Edit, ...]


Step = Leaf | Mix | Edited


def shape_of(step: Step) -> tuple[int, ...]:
    """That of a step's tensor, which is its first part's."""
    while not isinstance(step, Leaf):
        step = step.part if isinstance(step, Edited) else step.parts[0]
    return step.shape


def edited(clean: Tensor, edits: Sequence[Edit]) -> Tensor:
    """A weight or bias with what LoRAs add to it, each by the clean one. Shapes: those of `clean`, float32."""
    merged = clean.clone()
    for edit in edits:
        rows, target = (_third(each, edit.change.place.third) for each in (clean, merged))
        if edit.is_bias:
            assert edit.change.bias is not None
            target.add_(edit.change.bias.float().reshape(rows.shape), alpha=edit.strength)
        else:
            assert edit.change.kind is not None
            parts = {key: part.float() if part.is_floating_point() else part for key, part in edit.change.parts.items()}
            target.add_(delta_of(edit.change.kind, parts, rows).reshape(rows.shape), alpha=edit.strength)
    return merged


def _third(tensor: Tensor, third: int | None) -> Tensor:
    """The rows of queries, keys or values, where they stand in one."""
    if third is None:
        return tensor
    rows = tensor.shape[0] // 3
    return tensor[third * rows : (third + 1) * rows]
