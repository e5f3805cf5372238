"""How one tensor of a merge comes about: the recipe with this tensor's ratios, without what does not act on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from hayate.weights import merge_methods as methods
from hayate.weights.lora import Change
from hayate.weights.lora_kinds import delta_of
from hayate.weights.merge_inputs import CONV_IN, LATENT_CHANNELS, Source
from hayate.weights.merge_methods import Span
from hayate.weights.merge_recipe import Blend
from hayate.weights.merge_smooth import smooth_add
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


def value_of(step: Step) -> Tensor:
    """A step's tensor in float32."""
    if isinstance(step, Leaf):
        return step.tensor.float()
    if isinstance(step, Edited):
        return edited(value_of(step.part), step.edits)
    first, *others = map(value_of, step.parts)
    if step.name == CONV_IN and others and first.dim() == 4 and first.shape[1] > others[0].shape[1] == LATENT_CHANNELS:
        merged = _mixed(step, [first[:, :LATENT_CHANNELS], *others])
        return torch.cat([merged, first[:, LATENT_CHANNELS:]], dim=1)
    return _mixed(step, [first, *(other.reshape(first.shape) for other in others)])


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


def _mixed(step: Mix, values: list[Tensor]) -> Tensor:
    a, *others = values
    blend, ratio = step.blend, step.ratios[0]
    match blend.method, blend.calc:
        case "merge", "cosineA" | "cosineB":
            mix = methods.cosine_a if blend.calc == "cosineA" else methods.cosine_b
            return mix(a, others[0], ratio, step.span)
        case "merge", "tensor" | "tensor2":
            divide = methods.tensor_rows if blend.calc == "tensor" else methods.tensor_columns
            return divide(a, others[0], ratio, blend.option("beta")) if a.dim() else a
        case "add_difference", "extract":
            b, c = others
            return methods.extract(a, b, c, ratio, beta=blend.option("beta"), gamma=blend.option("gamma"))
        case "ties", _:
            return methods.ties(a, others, ratio, blend.option("keep"))
        case "dare", _:
            drop, seed = blend.option("drop"), int(blend.option("seed"))
            masks = [methods.kept_at_random(a.shape, drop, seed, step.name, each) for each in range(len(others))]
            return methods.dare(a, others, ratio, drop, masks)
        case _:
            return _ALL[blend.method, blend.calc](*values, *step.ratios)


_ALL: Mapping[tuple[str, str], Callable[..., Tensor]] = MappingProxyType(
    {
        ("merge", "normal"): methods.weighted_sum,
        ("add_difference", "normal"): methods.add_difference,
        ("add_difference", "trainDifference"): methods.train_difference,
        ("triple_sum", "normal"): methods.triple_sum,
        ("sum_twice", "normal"): methods.sum_twice,
        ("scale", "normal"): methods.scaled,
        ("scale", "self"): methods.scaled,
        ("add_difference", "smoothAdd"): smooth_add,
        ("slerp", "normal"): methods.slerp,
    }
)
