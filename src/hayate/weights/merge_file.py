"""A recipe written as a model's file: found, merged, with A1111's recipe in its metadata."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from hayate.errors import OutputError, UnknownName
from hayate.weights.merge import Merge, open_merge
from hayate.weights.merge_blend import blend, one_thread_each
from hayate.weights.merge_metadata import merge_metadata
from hayate.weights.merge_program import Blender
from hayate.weights.merge_recipe import Recipe
from hayate.weights.narrowing import summary
from hayate.weights.write import Entry, check_room, dtype_code, write_safetensors

_AHEAD = 2
"""Batches of tensors that are computed while another is written."""
_BATCH_BYTES = 1 << 22
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


def write_merge(
    merge: Merge,
    path: Path,
    *,
    dtype: torch.dtype | None = None,
    metadata: Mapping[str, str] | None = None,
    may_replace: bool = False,
    on_share: Callable[[float], None] = lambda share: None,
) -> None:
    """Writes the merged model; without `dtype` each tensor keeps A's.

    Raises: OutputError, also for a path that is one of the inputs.
    Cost: memory for three tensors, or three batches of small ones, and for what lies between.
    """
    if path.resolve() in {source.checkpoint.path.resolve() for source in merge.sources.values()}:
        raise OutputError(f"{path} is one of the models to merge", hint="choose another name")
    wanted = {name: merge.dtype(name, dtype) for name in merge.names}
    names = sorted(merge.names, key=lambda name: -wanted[name].itemsize)  # the order in which they are asked for
    entries = [Entry(name=name, dtype=dtype_code(wanted[name]), shape=merge.shape(name)) for name in names]
    sizes = {entry.name: entry.size_bytes for entry in entries}
    whole, done = sum(sizes.values()) or 1, 0
    with one_thread_each(torch.get_num_threads()) as workers:
        ahead = _ahead(workers, _batches(names, sizes), lambda batch: merge.get_all(batch, dtype))

        def produce(name: str) -> Tensor:
            nonlocal done
            done += sizes[name]
            on_share(done / whole)
            return next(ahead)

        write_safetensors(path, entries, produce, metadata, may_replace=may_replace)


def check_merge(recipe: Recipe, places: Places) -> tuple[str, ...]:
    """What is to be said of a merge before it is made. Raises: UnknownName, UsageError, ModelFileError."""
    with open_merge(recipe, places.find, places.find_lora) as merged:
        return merged.notes


def dtype_named(name: str) -> torch.dtype | None:
    """What a tensor's numbers become; None for "keep". Raises: UnknownName."""
    if name not in DTYPES:
        raise UnknownName("type of numbers", name, DTYPES)
    return {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}.get(name)


def _batches(names: Sequence[str], sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """The names in order, so many together that threads need not hand over every bias by itself."""
    batch: list[str] = []
    for name in names:
        batch.append(name)
        if sum(sizes[each] for each in batch) >= _BATCH_BYTES:
            yield batch
            batch = []
    yield batch


def _ahead(
    workers: ThreadPoolExecutor, batches: Iterator[list[str]], make: Callable[[list[str]], list[Tensor]]
) -> Iterator[Tensor]:
    """The tensors in order, the next ones computed while one is written."""
    coming = deque(workers.submit(make, batch) for batch in islice(batches, _AHEAD))
    while coming:
        tensors = deque(coming.popleft().result())
        coming += (workers.submit(make, batch) for batch in islice(batches, 1))
        while tensors:
            yield tensors.popleft()
