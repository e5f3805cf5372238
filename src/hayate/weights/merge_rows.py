"""Merges of which each number depends on others too: measured first, then made, some rows at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import reduce
from types import MappingProxyType

import torch
from torch import Tensor

from hayate.weights import merge_methods as methods
from hayate.weights.merge_inputs import CONV_IN, LATENT_CHANNELS
from hayate.weights.merge_smooth import smooth_add
from hayate.weights.merge_steps import Edited, Leaf, Mix, Step, edited, shape_of

Rows = slice
Value = Callable[[Rows], Tensor]
"""Those rows of a tensor, in float32."""
ALL = slice(None)
WINDOW = 1 << 20
"""Numbers at once."""


def windows(shape: Sequence[int]) -> list[Rows]:
    """All rows of a tensor; vectors and smaller ones at once."""
    if len(shape) < 2 or not math.prod(shape):
        return [ALL]
    rows = max(1, WINDOW // math.prod(shape[1:]))
    return [slice(start, min(start + rows, shape[0])) for start in range(0, shape[0], rows)]


def whole(step: Step) -> Tensor:
    """A step's tensor in float32."""
    value, parts = value_of(step), windows(shape_of(step))
    return value(ALL) if len(parts) == 1 else torch.cat([value(rows) for rows in parts])


def value_of(step: Step) -> Value:
    """What gives a step's rows, when what has to be known of whole tensors is measured.

    Cost: memory for some windows; for the whole tensor where LoRAs or smoothAdd are in it.
    """
    if isinstance(step, Leaf):
        tensor = step.tensor
        return lambda rows: _rows(tensor, rows).float()
    if isinstance(step, Edited):
        changed = edited(whole(step.part), step.edits)
        return lambda rows: _rows(changed, rows)
    first, *others = map(value_of, step.parts)
    if _is_wider(step):
        latents = _mixed(step, [lambda rows: first(rows)[:, :LATENT_CHANNELS], *others])
        return lambda rows: torch.cat([latents(rows), first(rows)[:, LATENT_CHANNELS:]], dim=1)
    return _mixed(step, [first, *(_shaped(other, shape_of(step)) for other in others)])


def column_sums(steps: Sequence[Step]) -> Tensor | None:
    """`methods.column_sums` of two steps' tensors; None for single numbers."""
    shape = shape_of(steps[0])
    if not shape:
        return None
    a, b = map(value_of, steps)
    if len(shape) == len(shape_of(steps[1])) == 4:
        width = shape_of(steps[1])[1]  # less than A's where that is an inpainting model
        pairs = ((a(rows)[:, :width], b(rows)) for rows in windows(shape))
    else:
        other = _shaped(b, shape)
        pairs = ((a(rows), other(rows)) for rows in windows(shape))
    return _total(methods.column_sums(*pair) for pair in pairs)


def _rows(tensor: Tensor, rows: Rows) -> Tensor:
    return tensor if rows == ALL else tensor[rows]


def _shaped(value: Value, shape: Sequence[int]) -> Value:
    """`value` in another shape, where only 1×1 kernels differ."""
    return lambda rows: value(rows).reshape(-1, *shape[1:]) if shape else value(rows).reshape(())


def _is_wider(step: Mix) -> bool:
    """Whether A is an inpainting model, of which only the channels of the picture are mixed."""
    if step.name != CONV_IN or len(step.parts) < 2:
        return False
    first, second = map(shape_of, step.parts[:2])
    return len(first) == 4 and first[1] > second[1] == LATENT_CHANNELS


def _total(sums: Iterable[Tensor]) -> Tensor:
    return reduce(torch.add, sums)


def _mixed(step: Mix, values: Sequence[Value]) -> Value:
    prepare = _BY_CALC.get(step.blend.calc) or _BY_METHOD.get(step.blend.method)
    if prepare is not None:
        return prepare(step, values)
    mix = _BY_PLACE[step.blend.method, step.blend.calc]
    return lambda rows: mix(*(value(rows) for value in values), *step.ratios)


def _cosine(step: Mix, values: Sequence[Value]) -> Value:
    (a, b), is_a = values, step.blend.calc == "cosineA"
    sums = _total(methods.column_sums(a(rows), b(rows)) for rows in windows(shape_of(step)))
    alpha = abs(step.ratios[0]) if is_a else step.ratios[0]
    share = methods.shares(methods.similarities(sums, is_normalised=is_a), alpha, step.span)
    return lambda rows: torch.lerp(b(rows), (own := a(rows)), share.expand_as(own))


def _tensor(step: Mix, values: Sequence[Value]) -> Value:
    (a, b), shape = values, shape_of(step)
    if not shape:
        return a
    dim = 1 if step.blend.calc == "tensor2" and methods.has_columns(shape) else 0
    part, is_b_inside = methods.division(shape[dim], step.ratios[0], step.blend.option("beta"))

    def value(rows: Rows) -> Tensor:
        here = range(*rows.indices(shape[0]))
        inside = range(max(part.start, here.start) - here.start, min(part.stop, here.stop) - here.start)
        own = part if dim else inside if inside else range(0)
        return methods.divided(a(rows), b(rows), own, is_b_inside, dim)

    return value


def _extract(step: Mix, values: Sequence[Value]) -> Value:
    (a, b, c), alpha = values, step.ratios[0]
    beta, gamma = step.blend.option("beta"), step.blend.option("gamma")
    return lambda rows: methods.extract(a(rows), b(rows), c(rows), alpha, beta=beta, gamma=gamma)


def _smooth_add(step: Mix, values: Sequence[Value]) -> Value:
    shape = shape_of(step)
    a, b, c = (torch.cat([value(rows) for rows in windows(shape)]) if shape else value(ALL) for value in values)
    merged = smooth_add(a, b, c, step.ratios[0])
    return lambda rows: _rows(merged, rows)


def _ties(step: Mix, values: Sequence[Value]) -> Value:
    a, *others = values
    parts, keep = windows(shape_of(step)), step.blend.option("keep")

    def changes(other: Value) -> Iterator[Tensor]:
        return (other(rows) - a(rows) for rows in parts)

    thresholds = [methods.kept_from(lambda other=other: changes(other), keep) for other in others]
    return lambda rows: methods.ties_above(a(rows), [other(rows) for other in others], step.ratios[0], thresholds)


def _dare(step: Mix, values: Sequence[Value]) -> Value:
    a, *others = values
    masks = [_Kept(step, number) for number in range(len(others))]
    drop = step.blend.option("drop")

    def value(rows: Rows) -> Tensor:
        own = a(rows)
        kept = [mask.rows(rows, own.shape) for mask in masks]
        return methods.dare(own, [other(rows) for other in others], step.ratios[0], drop, kept)

    return value


class _Kept:
    """Which numbers of a model DARE keeps, drawn in order: for other rows than the next ones from the first one on."""

    def __init__(self, step: Mix, number: int) -> None:
        self._seed = int(step.blend.option("seed")), step.name, number
        self._drop = step.blend.option("drop")
        self._drawn = 0
        self._generator = methods.generator_for(*self._seed)

    def rows(self, rows: Rows, shape: Sequence[int]) -> Tensor:
        start = rows.start or 0
        if start != self._drawn:
            self._generator = methods.generator_for(*self._seed)
            methods.kept_at_random((start, *shape[1:]), self._drop, self._generator)
        self._drawn = start + (shape[0] if shape else 1)
        return methods.kept_at_random(shape, self._drop, self._generator)


def _slerp(step: Mix, values: Sequence[Value]) -> Value:
    a, b = values
    sums = _total(methods.products(a(rows), b(rows)) for rows in windows(shape_of(step)))
    first, second = methods.arc(sums, step.ratios[0])
    return lambda rows: (a(rows) * first).add_(b(rows), alpha=second)


_BY_CALC: Mapping[str, Callable[[Mix, Sequence[Value]], Value]] = MappingProxyType(
    {
        "cosineA": _cosine,
        "cosineB": _cosine,
        "tensor": _tensor,
        "tensor2": _tensor,
        "extract": _extract,
        "smoothAdd": _smooth_add,
    }
)
_BY_METHOD: Mapping[str, Callable[[Mix, Sequence[Value]], Value]] = MappingProxyType(
    {"ties": _ties, "dare": _dare, "slerp": _slerp}
)
_BY_PLACE: Mapping[tuple[str, str], Callable[..., Tensor]] = MappingProxyType(
    {
        ("merge", "normal"): methods.weighted_sum,
        ("add_difference", "normal"): methods.add_difference,
        ("add_difference", "trainDifference"): methods.train_difference,
        ("triple_sum", "normal"): methods.triple_sum,
        ("sum_twice", "normal"): methods.sum_twice,
        ("scale", "normal"): methods.scaled,
        ("scale", "self"): methods.scaled,
    }
)
