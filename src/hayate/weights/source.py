"""A model to be rewritten: its tensors under the original files' names, none of them read before it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hayate.errors import ModelFileError
from hayate.weights.header import TensorInfo
from hayate.weights.pickles import convert_pickle, is_pickled
from hayate.weights.read import Checkpoint, open_checkpoint
from hayate.weights.write import Entry

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Lazy:
    """A tensor that `load` makes; `dtype` is the format's name for it."""

    dtype: str
    shape: tuple[int, ...]
    load: Callable[[], Tensor]

    def entry(self, name: str) -> Entry:
        return Entry(name=name, dtype=self.dtype, shape=self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Tensors by name, as long as the file they come from stays open."""

    path: Path
    tensors: Mapping[str, Lazy]
    metadata: Mapping[str, str]

    def infos(self) -> dict[str, TensorInfo]:
        """The tensors as a header would list them, for `detect`; their places are not known."""
        return {
            name: TensorInfo(dtype=lazy.dtype, shape=lazy.shape, start=0, end=0) for name, lazy in self.tensors.items()
        }

    @property
    def size_bytes(self) -> int:
        return sum(lazy.entry(name).size_bytes for name, lazy in self.tensors.items())


@contextmanager
def open_file(path: Path, scratch: Path) -> Iterator[Source]:
    """A safetensors file, or a pickled one as its tensors in a safetensors file in the folder `scratch`.

    What a file is, its content says, never its extension.
    Raises: UsageError, BrokenFile, RefusedFormat.
    Cost: for a pickled file, the time and the disk space to write it once.
    """
    with ExitStack() as stack:
        checkpoint = stack.enter_context(_opened(path, scratch, stack))
        yield Source(path=path, tensors=lazies(checkpoint), metadata=checkpoint.metadata)


def lazies(checkpoint: Checkpoint) -> dict[str, Lazy]:
    """The tensors of an opened file; each is a view of it."""
    return {
        name: Lazy(dtype=info.dtype, shape=info.shape, load=lambda name=name: checkpoint.get(name))
        for name, info in checkpoint.tensors.items()
    }


def _opened(path: Path, scratch: Path, stack: ExitStack) -> Checkpoint:
    try:
        return open_checkpoint(path)
    except ModelFileError:
        if not is_pickled(path):
            raise
    copy = scratch / f"{path.stem}-{len(list(scratch.iterdir()))}.safetensors"
    stack.callback(copy.unlink, missing_ok=True)
    convert_pickle(path, copy)
    return open_checkpoint(copy)
