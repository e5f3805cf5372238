"""Merges without a file: a recipe is a model's name, and its tensors are made when they are asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from hayate.errors import UnknownName
from hayate.weights.detect import detect_family
from hayate.weights.folders import find_lora, find_model
from hayate.weights.hashes import file_sha256, model_hash, start_hash
from hayate.weights.merge import Merge, open_merge
from hayate.weights.merge_blend import blend
from hayate.weights.merge_inputs import info_of
from hayate.weights.merge_program import Blender
from hayate.weights.merge_recipe import Recipe
from hayate.weights.read import Checkpoint, open_checkpoint, read_header
from hayate.weights.recipes import recipe_named

if TYPE_CHECKING:
    from torch import Tensor

SHORT_CHARACTERS = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedModel:
    """A model that is a recipe; two of the same text over the same files are one."""

    text: str
    """The recipe; it parses to the same again."""
    inputs: tuple[Path, ...]
    loras: tuple[Path, ...] = ()
    recipe: Recipe = field(compare=False, repr=False)

    @property
    def files(self) -> tuple[Path, ...]:
        """All that it is made of, A first."""
        return (*self.inputs, *self.loras)

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


def find_source(
    name: str,
    folder: Path,
    built_in: Path | None = None,
    *,
    loras_dir: Path | None = None,
    allows_paths: bool = True,
) -> ModelSource:
    """The file that `name` means, as `find_model` finds it, or the merge that it describes or that is saved under it.

    A file of that very name is the file.
    Raises: UnknownName, which lists the nearest names; UsageError for a recipe that can't be read; ModelFileError for
    a first model that is none.
    """
    try:
        return find_model(name, folder, built_in, allows_paths=allows_paths)
    except UnknownName:
        recipe = recipe_named(name, folder, built_in, allows_paths=allows_paths)
    inputs = tuple(find_model(each, folder, built_in, allows_paths=allows_paths) for each in recipe.inputs)
    loras = tuple(find_lora(each, loras_dir or folder) for each in recipe.loras)
    family = detect_family(read_header(inputs[0]).tensors, source=str(inputs[0]))
    return MergedModel(text=recipe.text, inputs=inputs, loras=loras, recipe=recipe.for_family(family))


def source_hash(source: ModelSource, cache_dir: Path | None = None) -> str:
    """A1111's "Model hash" of a file; of a merge ten digits of its recipe and its inputs' hashes.

    Raises: UsageError when a file can't be read.
    """
    if not isinstance(source, MergedModel):
        return model_hash(source, cache_dir)
    parts = [source.text, *(file_sha256(path, cache_dir) for path in source.files)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:10]


def start_source_hash(source: ModelSource, cache_dir: Path | None = None) -> Future[str]:
    """Begins computing `source_hash` beside other work."""
    first = source.inputs[0] if isinstance(source, MergedModel) else source
    return start_hash(first, cache_dir, lambda _, folder: source_hash(source, folder))


def open_source(source: ModelSource, blend: Blender = blend) -> Checkpoint:
    """The opened file, or the merge as if it were one, whose tensors `blend` computes.

    Raises: UsageError where there is no file, ModelFileError; TensorMismatch for inputs of different families.
    """
    return open_merged(source, blend) if isinstance(source, MergedModel) else open_checkpoint(source)


def open_merged(source: MergedModel, blend: Blender = blend) -> MergedCheckpoint:
    """The merge as if it were an opened file.

    Raises: as `open_source` does.
    """
    inputs = dict(zip(source.recipe.inputs, source.inputs, strict=True))
    loras = dict(zip(source.recipe.loras, source.loras, strict=True))
    with ExitStack() as stack:
        merge = stack.enter_context(open_merge(source.recipe, inputs.__getitem__, loras.__getitem__, blend))
        return MergedCheckpoint(source, merge, stack.pop_all())


class MergedCheckpoint(Checkpoint):
    """A merge in the shape of an opened file: its tensors are computed when they are asked for, its metadata is A's."""

    __slots__ = ("_opened", "merge")

    def __init__(self, source: MergedModel, merge: Merge, opened: ExitStack) -> None:
        tensors = {name: info_of(name, merge.sources) for name in merge.names}
        self.header = replace(merge.first.checkpoint.header, path=Path(source.stem), tensors=tensors)
        self.merge = merge
        self._opened = opened

    def get(self, name: str) -> Tensor:
        """The tensor called `name`, made now, in the type that a file of the merge has it in.

        Raises: KeyError for a name that is not in `tensors`.
        """
        return self.get_all([name], None)[0]

    def get_all(self, names: Sequence[str], dtype: torch.dtype | None) -> list[Tensor]:
        """As `Checkpoint` says, in `dtype` already where it is given."""
        for name in names:
            if name not in self.tensors:
                raise KeyError(name)
        return self.merge.get_all(names, dtype)

    def prefetch(self) -> None:
        for each in self.merge.sources.values():
            each.checkpoint.read_ahead()

    def close(self) -> None:
        self._opened.close()
