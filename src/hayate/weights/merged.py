"""Merges without a file: a recipe is a model's name, and its tensors are made when they are asked for."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch

from hayate.errors import TensorMismatch, UnknownName, clip
from hayate.weights.detect import detect_family
from hayate.weights.folders import find_model
from hayate.weights.hashes import file_sha256, model_hash, start_hash
from hayate.weights.read import Checkpoint, open_checkpoint

if TYPE_CHECKING:
    from torch import Tensor

SHORT_CHARACTERS = 80
_LOOKS_LIKE_ONE = re.compile(r"\s*[A-Za-z_]\w*\s*\(.*,.*\)\s*", re.DOTALL)


class Recipe(Protocol):
    """An expression over models, parsed."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the models; the first gives what isn't merged."""
        ...

    def key(self, name: str) -> Hashable:
        """All that decides the tensor `name` beside the inputs: its coefficients, after block weights."""
        ...

    def evaluate(self, name: str, tensors: Sequence[Tensor]) -> Tensor:
        """The tensor `name` of the merge, float32, from those of the inputs."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedModel:
    """A model that is a recipe; two of the same text over the same files are one."""

    text: str
    """The recipe; it parses to the same again."""
    inputs: tuple[Path, ...]
    recipe: Recipe = field(compare=False, repr=False)

    @property
    def stem(self) -> str:
        """A name for texts and pictures' files: the recipe, cut and with its digest where it is long."""
        if len(self.text) <= SHORT_CHARACTERS:
            return self.text
        digest = hashlib.sha256(self.text.encode()).hexdigest()[:8]
        return f"{self.text[: SHORT_CHARACTERS - 11]}… {digest}"

    @property
    def name(self) -> str:
        return self.stem


ModelSource = Path | MergedModel
"""What a model's name can mean: a file, or a merge of files."""


def is_recipe(name: str) -> bool:
    """Whether a name is written as a recipe is: a word and, in parentheses, more than one thing."""
    return _LOOKS_LIKE_ONE.fullmatch(name) is not None


def find_source(name: str, folder: Path, built_in: Path | None = None, *, allows_paths: bool = True) -> ModelSource:
    """The file that `name` means, as `find_model` finds it, or the merge that it describes.

    A file of that very name is the file.
    Raises: UnknownName, which lists the nearest names; UsageError for a recipe that can't be read.
    """
    try:
        return find_model(name, folder, built_in, allows_paths=allows_paths)
    except UnknownName:
        if not is_recipe(name):
            raise
    from hayate.weights.merge_recipe import parse_recipe

    recipe = parse_recipe(name)
    inputs = tuple(find_model(each, folder, built_in, allows_paths=allows_paths) for each in recipe.inputs)
    return MergedModel(text=" ".join(name.split()), inputs=inputs, recipe=recipe)


def source_hash(source: ModelSource, cache_dir: Path | None = None) -> str:
    """A1111's "Model hash" of a file; of a merge ten digits of its recipe and its inputs' hashes.

    Raises: UsageError when a file can't be read.
    """
    if not isinstance(source, MergedModel):
        return model_hash(source, cache_dir)
    parts = [source.text, *(file_sha256(path, cache_dir) for path in source.inputs)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:10]


def start_source_hash(source: ModelSource, cache_dir: Path | None = None) -> Future[str]:
    """Begins computing `source_hash` beside other work."""
    first = source.inputs[0] if isinstance(source, MergedModel) else source
    return start_hash(first, cache_dir, lambda _, folder: source_hash(source, folder))


def open_source(source: ModelSource) -> Checkpoint:
    """The opened file, or the merge as if it were one.

    Raises: UsageError where there is no file, ModelFileError; TensorMismatch for inputs of different families.
    """
    return open_merged(source) if isinstance(source, MergedModel) else open_checkpoint(source)


def open_merged(source: MergedModel) -> MergedCheckpoint:
    """The merge as if it were an opened file.

    Raises: as `open_source` does.
    """
    opened: list[Checkpoint] = []
    try:
        for path in source.inputs:
            opened.append(open_checkpoint(path))
        return MergedCheckpoint(source, opened)
    except BaseException:
        for each in opened:
            each.close()
        raise


class MergedCheckpoint(Checkpoint):
    """A merge in the shape of an opened file: names, shapes and metadata are those of the first input."""

    __slots__ = ("_inputs", "_recipe")

    def __init__(self, source: MergedModel, inputs: Sequence[Checkpoint]) -> None:
        _check_families(inputs)
        self.header = replace(inputs[0].header, path=Path(source.stem))
        self._inputs = tuple(inputs)
        self._recipe = source.recipe

    def get(self, name: str) -> Tensor:
        """The tensor called `name`, made now, float32; one that isn't merged is that of the first input.

        Raises: KeyError for a name that is not in `tensors`.
        """
        return self.get_as(name, torch.float32)

    def get_as(self, name: str, dtype: torch.dtype | None) -> Tensor:
        first = self._inputs[0].get(name)
        if not first.is_floating_point():
            return first
        made = torch.empty(first.shape, dtype=dtype or torch.float32)
        self.fill(name, made)
        return made

    def fill(self, name: str, place: Tensor) -> None:
        """Makes the tensor called `name` in `place`, which has its numbers, in whatever dtype, contiguous."""
        tensors = [each.get(name) for each in self._inputs if name in each.tensors]
        if len(tensors) < len(self._inputs):
            place.view(-1).copy_(tensors[0].view(-1))
            return
        place.view(-1).copy_(self._recipe.evaluate(name, tensors).view(-1))

    def prefetch(self) -> None:
        for each in self._inputs:
            each.prefetch()

    def close(self) -> None:
        for each in self._inputs:
            each.close()


def _check_families(inputs: Sequence[Checkpoint]) -> None:
    families = [detect_family(each.tensors, source=str(each.path)) for each in inputs]
    for each, family in zip(inputs, families, strict=True):
        if family is not families[0]:
            message = f"{clip(each.path.name)} is {family}, {clip(inputs[0].path.name)} is {families[0]}"
            raise TensorMismatch(f"{message}: they can't be merged", hint="merge models of one family")
