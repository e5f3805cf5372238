"""A model file or folder made into another one: what `hayate models convert`, `bake` and `extract` do."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hayate.errors import OutputError, UsageError
from hayate.weights.convert import Conversion, converted, open_source, part_tensors, with_part
from hayate.weights.detect import VAE_PREFIX
from hayate.weights.diffusers_read import is_diffusers_folder
from hayate.weights.diffusers_write import write_diffusers
from hayate.weights.folders import READABLE, REFUSED
from hayate.weights.learnt_types import SAFE_TYPES
from hayate.weights.narrowing import Loss
from hayate.weights.source import Source
from hayate.weights.write import check_room, write_safetensors, writing

if TYPE_CHECKING:
    from torch import Tensor

OnTensor = Callable[[str], None]
Finish = Callable[[Path], Mapping[str, str]]


def convert_file(
    path: Path,
    target: Path,
    conversion: Conversion,
    *,
    on_tensor: OnTensor = lambda name: None,
    finish: Finish | None = None,
) -> list[Loss]:
    """Writes the model at `path` as `target`: a safetensors file, or a diffusers folder if it has no such ending.

    What narrowing lost is given back. `finish` is asked of a safetensors file what to write into its metadata.
    Raises: UsageError, OutputError, ModelFileError; then there is no `target`, and `path` is as it was.
    Cost: reads and writes the file once, a pickled one twice; memory for one tensor.
    """
    check_target(path, target)
    losses: list[Loss] = []
    with scratch_beside(target) as scratch, open_source(path, scratch) as source:
        made = converted(source, conversion, losses)
        if target.suffix == ".safetensors":
            write_source(made, target, on_tensor, finish)
        else:
            write_diffusers(made, target, on_tensor)
    return losses


def replace_part(model: Path, part: str, other: Path, target: Path, on_tensor: OnTensor = lambda name: None) -> None:
    """Writes `model` as `target` with its U-Net, text encoders or VAE taken from `other`.

    The tensors keep the type they have.
    Raises: UsageError also where the parts don't fit each other; otherwise as `convert_file`.
    """
    check_target(model, target)
    with (
        scratch_beside(target) as scratch,
        open_source(model, scratch) as source,
        open_source(other, scratch) as giver,
    ):
        tensors = part_tensors(giver, part)
        _check_fits(source, part, giver)
        write_source(with_part(source, part, tensors), target, on_tensor)


def extract_part(model: Path, part: str, target: Path, on_tensor: OnTensor = lambda name: None) -> None:
    """Writes one part of `model` as a file of its own; a VAE without its prefix, as A1111 wants it.

    Raises: as `convert_file`.
    """
    check_target(model, target)
    with scratch_beside(target) as scratch, open_source(model, scratch) as source:
        tensors = {name.removeprefix(VAE_PREFIX): lazy for name, lazy in part_tensors(source, part).items()}
        write_source(Source(path=model, tensors=tensors, metadata={}), target, on_tensor)


def write_source(source: Source, target: Path, on_tensor: OnTensor, finish: Finish | None = None) -> None:
    """Writes `source` as a safetensors file. What its metadata said of types is not true of the new one."""

    def produce(name: str) -> Tensor:
        on_tensor(name)
        return source.tensors[name].load()

    metadata = {"format": "pt"} | {key: text for key, text in source.metadata.items() if key != SAFE_TYPES}
    entries = [lazy.entry(name) for name, lazy in source.tensors.items()]
    write_safetensors(target, entries, produce, metadata, finish=finish)


def models_in(folder: Path) -> list[Path]:
    """Every model file and diffusers folder in `folder` and below, sorted."""
    folders = sorted(index.parent for index in folder.rglob("model_index.json"))
    files = [path for path in folder.rglob("*") if path.suffix.lower() in READABLE | REFUSED and path.is_file()]
    own = [path for path in files if not any(path.is_relative_to(inner) for inner in folders)]
    return sorted([*folders, *(path for path in own if not path.name.startswith("."))])


def check_target(path: Path, target: Path) -> None:
    """Raises: UsageError where there is no model, OutputError where `target` can't be made."""
    if not path.exists():
        raise UsageError(f"there is no file {path}", hint="check the path")
    if path.is_dir() and not is_diffusers_folder(path):
        raise UsageError(f"{path} is no diffusers folder", hint="it must hold a model_index.json")
    with writing(target):
        if path.resolve() == target.resolve():
            raise OutputError(f"{target} is the model itself", hint="give another name for the result")
    check_room(target, 0)


@contextmanager
def scratch_beside(target: Path) -> Iterator[Path]:
    """A folder on the result's disk for what is needed on the way; it goes with what is in it."""
    with ExitStack() as stack:
        with writing(target):
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=".hayate-", dir=target.parent))
        yield Path(folder)


def _check_fits(source: Source, part: str, giver: Source) -> None:
    """Raises: UsageError where the two have that part in other shapes."""
    try:
        own = part_tensors(source, part)
    except UsageError:
        return  # a model that lacks it is given one
    theirs = part_tensors(giver, part)
    for name, lazy in own.items():
        other = theirs.get(name)
        if other is not None and _matrix(other.shape) != _matrix(lazy.shape):
            message = f"the {part} of {giver.path} is of another architecture: {name} is {list(other.shape)}"
            raise UsageError(message, hint=f"in {source.path} it is {list(lazy.shape)}")
    if not own.keys() & theirs.keys():
        raise UsageError(f"the {part} of {giver.path} has no tensor of this model's", hint="take one of its family")


def _matrix(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape without the kernel of a 1x1 convolution."""
    return shape[:2] if shape[2:] == (1, 1) else shape
