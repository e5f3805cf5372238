"""A recipe written as a model's file: found, merged, with A1111's recipe in its metadata."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from hayate.errors import UnknownName
from hayate.weights.merge import open_merge, write_merge
from hayate.weights.merge_blend import blend
from hayate.weights.merge_metadata import merge_metadata
from hayate.weights.merge_program import Blender
from hayate.weights.merge_recipe import Recipe
from hayate.weights.narrowing import summary
from hayate.weights.write import check_room

DTYPES = ("keep", "fp16", "bf16", "fp32")


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where a recipe's names are looked up."""

    find: Callable[[str], Path]
    """A model's file. Raises: UnknownName."""
    find_lora: Callable[[str], Path]
    cache_dir: Path
    """Where hashes are remembered."""
    blend: Blender = blend
    """Who computes."""


def write_recipe(
    recipe: Recipe,
    path: Path,
    places: Places,
    *,
    dtype: torch.dtype | None = None,
    may_replace: bool = False,
    on_share: Callable[[float], None] = lambda share: None,
) -> tuple[str, ...]:
    """Writes the merged model; what is to be said of it.

    `on_share` is told the share that is done, and may raise to end it: nothing is left behind then.
    Raises: UnknownName, UsageError, ModelFileError, OutputError.
    """
    check_room(path, 0, may_replace=may_replace)  # before files are read for their hashes
    with open_merge(recipe, places.find, places.find_lora, places.blend) as merged:
        metadata = merge_metadata(merged, path.stem, dtype, places.cache_dir)
        write_merge(merged, path, dtype=dtype, metadata=metadata, may_replace=may_replace, on_share=on_share)
        return (*merged.notes, *summary(merged.losses()))


def check_merge(recipe: Recipe, places: Places) -> tuple[str, ...]:
    """What is to be said of a merge before it is made. Raises: UnknownName, UsageError, ModelFileError."""
    with open_merge(recipe, places.find, places.find_lora) as merged:
        return merged.notes


def dtype_named(name: str) -> torch.dtype | None:
    """What a tensor's numbers become; None for "keep". Raises: UnknownName."""
    if name not in DTYPES:
        raise UnknownName("type of numbers", name, DTYPES)
    return {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}.get(name)
