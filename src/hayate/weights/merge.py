"""A merge of opened models: any of its tensors when it is asked for, and all of them into a file."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from hayate.models.config import ModelConfig
from hayate.weights import merge_methods as methods
from hayate.weights.detect import UNET_PREFIX, VAE_PREFIX
from hayate.weights.lora import read_adapter
from hayate.weights.merge_blend import blend, count_overflown, spread
from hayate.weights.merge_inputs import (
    Source,
    check_families,
    check_shape,
    info_of,
    is_copied,
    missing_notes,
    names_of,
    source_of,
)
from hayate.weights.merge_methods import Span
from hayate.weights.merge_nodes import Blend, Model, Node, WithLoras
from hayate.weights.merge_program import Blender, Work, program_of
from hayate.weights.merge_recipe import Recipe
from hayate.weights.merge_rows import column_sums, value_of, windows
from hayate.weights.merge_steps import Edit, Edited, Leaf, Mix, Step, shape_of
from hayate.weights.narrowing import Loss
from hayate.weights.read import TORCH_DTYPES, open_checkpoint

Edits = Mapping[WithLoras, Mapping[str, tuple[Edit, ...]]]
_OF_SOME = frozenset({"ties", "dare"})
"""Ways that mix as many models as have a tensor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """A recipe over its opened inputs."""

    recipe: Recipe
    sources: Mapping[str, Source]
    """A first."""
    names: tuple[str, ...]
    """The result's tensors, A's first."""
    notes: tuple[str, ...]
    edits: Edits
    blend: Blender = blend
    """Who computes what is sums and differences number by number."""
    spans: dict[Blend, Span] = field(default_factory=dict)
    """The ranges of similarities that were measured."""
    measuring: threading.RLock = field(default_factory=threading.RLock, compare=False, repr=False)
    overflown: dict[str, int] = field(default_factory=dict)
    """How many finite numbers of which tensors became infinite by rounding."""

    @property
    def first(self) -> Source:
        """A, whose architecture the result has."""
        return self.sources[self.recipe.inputs[0]]

    @property
    def config(self) -> ModelConfig:
        return self.first.config

    def losses(self) -> list[Loss]:
        """What rounding cost the tensors that were made."""
        return [
            Loss(name=name, overflown=count, vanished=0, numbers=math.prod(self.shape(name)))
            for name, count in self.overflown.items()
        ]

    def shape(self, name: str) -> tuple[int, ...]:
        return info_of(name, self.sources).shape

    def dtype(self, name: str, wanted: torch.dtype | None = None) -> torch.dtype:
        """The type a tensor gets: `wanted` where it holds floating-point numbers, else its own in the first input."""
        own = getattr(torch, TORCH_DTYPES[info_of(name, self.sources).dtype])
        return wanted if wanted is not None and own.is_floating_point else own

    def get(self, name: str, dtype: torch.dtype | None = None) -> Tensor:
        """The merged tensor called `name`, as `get_all` gives it."""
        return self.get_all([name], dtype)[0]

    @torch.no_grad()
    def get_all(self, names: Sequence[str], dtype: torch.dtype | None = None) -> list[Tensor]:
        """The merged tensors of these names, with floating-point numbers in `dtype` where it is given.

        Cost: no copy for a tensor that is some input's own; else as `fill`, and memory for the results.
        """
        found: dict[str, Tensor] = {}
        wanted: list[tuple[str, Step, Tensor]] = []
        for name in names:
            own, step = self.dtype(name, dtype), self._step(name)
            if isinstance(step, Leaf) and step.tensor.dtype == own:
                found[name] = step.tensor.reshape(self.shape(name))
            else:
                found[name] = torch.empty(self.shape(name), dtype=own)
                wanted.append((name, step, found[name]))
        self._fill(wanted)
        return [found[name] for name in names]

    @torch.no_grad()
    def fill(self, places: Iterable[tuple[str, Tensor]]) -> None:
        """Makes merged tensors in their places, each contiguous, on the host, and of as many numbers.

        Cost: no memory but the caches' where each number depends on those at its own place only; else a few tensors
        for each thread.
        """
        self._fill([(name, self._step(name), place) for name, place in places])

    def _fill(self, wanted: Sequence[tuple[str, Step, Tensor]]) -> None:
        works, whole = {}, []
        for name, step, place in wanted:
            program = program_of(step, place.numel())
            if program is None:
                whole.append((name, step, place))
            else:
                works[name] = Work(program=program, place=place)
        self._count(zip(works, self.blend(list(works.values())), strict=True))
        self._count(spread(_fill_whole, whole))

    def _count(self, found: Iterable[tuple[str, int]]) -> None:
        self.overflown.update((name, count) for name, count in found if count)

    def _step(self, name: str) -> Step:
        if is_copied(name, info_of(name, self.sources)):
            return Leaf(source=next(each for each in self.sources.values() if name in each.names), name=name)
        step = self._resolve(self.recipe.root, name)
        assert step is not None, name
        return step

    def _resolve(self, node: Node, name: str) -> Step | None:
        """What a node does for one tensor; None where no input of it has the tensor."""
        if isinstance(node, Model):
            source = self.sources[node.name]
            return Leaf(source=source, name=name) if name in source.names else None
        if isinstance(node, WithLoras):
            part = self._resolve(node.part, name)
            edits = self.edits[node].get(name, ())
            return Edited(part=part, edits=edits) if part is not None and edits else part
        parts = [self._resolve(part, name) for part in node.parts]
        present = tuple(part for part in parts if part is not None)
        is_whole = len(present) == len(parts) or (node.method in _OF_SOME and len(present) > 1 and parts[0] is not None)
        if not present or not is_whole:
            return present[0] if present else None
        ratios = tuple(ratio.at(name, self.recipe.family) for ratio in node.ratios)
        alone = _alone(node, ratios, name)
        if alone is not None:
            return present[alone]
        return Mix(name=name, blend=node, parts=present, ratios=ratios, span=self._span(node))

    def _span(self, node: Blend) -> Span:
        """The range of similarities of a cosine merge's models, measured over all of both, once."""
        if not node.calc.startswith("cosine"):
            return 0.0, 0.0
        with self.measuring:  # threads that need it at once wait for the one that measures
            if node not in self.spans:
                self.spans[node] = methods.similarity_span(list(self._similarities(node)))
            return self.spans[node]

    def _similarities(self, node: Blend) -> Iterator[Tensor]:
        for name in self.names:
            if is_copied(name, info_of(name, self.sources)) or name.startswith(VAE_PREFIX):
                continue
            steps = [self._resolve(part, name) for part in node.parts]
            if any(step is None for step in steps):
                continue
            sums = column_sums([step for step in steps if step is not None])
            if sums is not None:
                is_a = node.calc == "cosineA"
                yield methods.column_cosines(sums) if is_a else methods.similarities(sums, is_normalised=False)


@contextmanager
def open_merge(
    recipe: Recipe, find: Callable[[str], Path], find_lora: Callable[[str], Path], blend: Blender = blend
) -> Iterator[Merge]:
    """The merge that a recipe stands for; `find` and `find_lora` give the files of names.

    Raises: what they raise; ModelFileError; TensorMismatch, UsageError for models that can't be mixed, before anything
    is computed.
    """
    with ExitStack() as stack:
        sources = {name: source_of(stack.enter_context(open_checkpoint(find(name)))) for name in recipe.inputs}
        yield prepare_merge(recipe, sources, {name: find_lora(name) for name in recipe.loras}, blend)


def prepare_merge(
    recipe: Recipe, sources: Mapping[str, Source], loras: Mapping[str, Path], blend: Blender = blend
) -> Merge:
    """The merge of sources that are open; LoRAs by their names in the recipe. Raises: as `open_merge`."""
    sources = {name: sources[name] for name in recipe.inputs}
    config = sources[recipe.inputs[0]].config
    recipe = recipe.for_family(config.family)
    notes = list(check_families(sources))
    names = names_of(recipe.root, sources)
    for name in names:
        infos = [info for source in sources.values() if (info := source.info(name)) is not None]
        if len({info.shape for info in infos}) > 1 and not is_copied(name, infos[0]):
            check_shape(recipe.root, name, sources)
    edits, lora_notes = _edits(recipe.root, config, loras)
    return Merge(
        recipe=recipe,
        sources=MappingProxyType(sources),
        names=names,
        notes=(*notes, *missing_notes(sources, names), *lora_notes),
        edits=edits,
        blend=blend,
    )


def _edits(root: Node, config: ModelConfig, loras: Mapping[str, Path]) -> tuple[Edits, list[str]]:
    """What every node with LoRAs does to which tensors, and what to say of the files."""
    adapters = {name: read_adapter(path, config) for name, path in loras.items()}
    prefixes = [UNET_PREFIX, *(text.prefix for text in config.text)]
    tables: dict[WithLoras, dict[str, tuple[Edit, ...]]] = {}
    for node in _lora_nodes(root):
        table = tables.setdefault(node, {})
        for name, strength in node.loras:
            for change in adapters[name].changes if strength else ():
                place = change.place
                for has, end, is_bias in ((change.kind, place.weight, False), (change.bias, place.bias, True)):
                    if has is not None and end is not None:
                        full = prefixes[place.network] + end
                        edit = Edit(change=change, strength=strength, is_bias=is_bias)
                        table[full] = (*table.get(full, ()), edit)
    return tables, [note for adapter in adapters.values() for note in adapter.notes()]


def _lora_nodes(node: Node) -> Iterator[WithLoras]:
    if isinstance(node, WithLoras):
        yield node
    for part in (node.part,) if isinstance(node, WithLoras) else node.parts if isinstance(node, Blend) else ():
        yield from _lora_nodes(part)


def _fill_whole(wanted: tuple[str, Step, Tensor]) -> tuple[str, int]:
    """Makes a tensor of which each number depends on others as well; its name, and how many became infinite."""
    name, step, place = wanted
    value, overflown = value_of(step), 0
    shape = shape_of(step)
    target = place.view(shape)
    for rows in windows(shape):
        part = value(rows)
        target[rows if shape else ...].copy_(part)
        overflown += count_overflown(part, target[rows if shape else ...])
    return name, overflown


def _alone(node: Blend, ratios: Sequence[float], name: str) -> int | None:
    """Which part alone a blend is for this tensor; None where it is more."""
    if node.calc.startswith("cosine"):
        return 0 if name.startswith(VAE_PREFIX) else None
    if node.calc == "extract":
        return None
    if not any(ratios):
        return 0
    return 1 if (node.method, node.calc) in {("merge", "normal"), ("slerp", "normal")} and ratios[0] == 1 else None
