"""Writing safetensors files tensor by tensor: whole under its name or not there at all, in the memory of one tensor."""

from __future__ import annotations

import json
import math
import os
import secrets
import shutil
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from hayate.errors import OutputError, TensorMismatch, clip
from hayate.weights.header import DTYPE_BITS, parse_header
from hayate.weights.read import TORCH_DTYPES

if TYPE_CHECKING:
    import torch
    from torch import Tensor

FINISH_BYTES = 4096
_ALIGNED_BYTES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A tensor that will be written; `dtype` is the format's name for it, such as "F16"."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * DTYPE_BITS[self.dtype] // 8


def write_safetensors(
    path: Path,
    entries: Sequence[Entry],
    produce: Callable[[str], Tensor],
    metadata: Mapping[str, str] | None = None,
    *,
    may_replace: bool = False,
    finish: Callable[[Path], Mapping[str, str]] | None = None,
) -> None:
    """Writes the tensors that `produce` gives for the names of `entries`, asked for one after the other.

    They are asked for in the order of `entries`, those of wide dtypes first, so that each is aligned to its own. Until
    all is on the disk the file has another name, and whatever stops the work takes it away. `finish` is given the whole
    file under that other name; what it learns of it comes into the metadata, in `FINISH_BYTES` of room.
    Raises: OutputError for a file that is there unless `may_replace`, for no room, and for whatever the system refuses;
    TensorMismatch for a tensor that is not as its entry says; BrokenFile for entries that no file can have.
    Cost: memory for one tensor.
    """
    entries = sorted(entries, key=lambda entry: -DTYPE_BITS[entry.dtype])
    head = _header(entries, metadata or {}, FINISH_BYTES if finish else 0)
    size_bytes = len(head) + sum(entry.size_bytes for entry in entries)
    parse_header(head[8:], path=path, size_bytes=size_bytes)  # what is written can be read, by every rule
    with new_file(path, size_bytes, may_replace=may_replace) as file:
        file.write(head)
        for entry in entries:
            file.write(_bytes_of(_checked(produce(entry.name), entry, path)))
        if finish and (learnt := finish(_flushed(file))):
            file.seek(0)
            file.write(_header(entries, {**(metadata or {}), **learnt}, length=len(head)))


def entry_of(name: str, tensor: Tensor) -> Entry:
    """The entry under which `tensor` is written as it is.

    Raises: TensorMismatch for a dtype that the format does not have.
    """
    return Entry(name=name, dtype=dtype_code(tensor.dtype), shape=tuple(tensor.shape))


def dtype_code(dtype: torch.dtype) -> str:
    """The format's name of a torch dtype. Raises: TensorMismatch where it has none."""
    wanted = str(dtype).removeprefix("torch.")
    code = next((code for code, name in TORCH_DTYPES.items() if name == wanted), None)
    if code is None:
        raise TensorMismatch(f"{wanted} can't be written to a safetensors file", hint="convert it to fp16 or fp32")
    return code


@contextmanager
def new_file(path: Path, size_bytes: int, *, may_replace: bool = False) -> Iterator[BinaryIO]:
    """A file to write `size_bytes` into, which gets its name at the end, when all of it is on the disk.

    Raises: OutputError.
    """
    check_room(path, size_bytes, may_replace=may_replace)
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    with writing(path):
        try:
            with unfinished.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            _name(unfinished, path, may_replace)
        finally:
            unfinished.unlink(missing_ok=True)


def check_room(path: Path, size_bytes: int, *, may_replace: bool = False) -> None:
    """Raises: OutputError where `path` is there already, its folder is not, or has no room for `size_bytes`."""
    with writing(path):
        if path.is_dir() or (path.exists() and not may_replace):
            raise _is_there(path)
        if not path.parent.is_dir():
            raise OutputError(f"there is no folder {path.parent}", hint="make it first, or choose another place")
        free_bytes = shutil.disk_usage(path.parent).free
    if free_bytes < size_bytes:
        message = f"no room for {_size(size_bytes)} in {path.parent}: {_size(free_bytes)} are free"
        raise OutputError(message, hint="free some, or choose another disk")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns what the operating system says about writing `path` into errors of Hayate's tree."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        message = f"{clip(str(path), 200)} can't be written: {reason}"
        raise OutputError(message, hint="check the folder's permissions and the disk") from error


def _name(unfinished: Path, path: Path, may_replace: bool) -> None:
    """Gives the file its name: in one step, and not over another file unless that is wanted.

    A hard link never replaces; file systems without them leave a moment between the look and the rename.
    """
    if not may_replace:
        try:
            os.link(unfinished, path)
        except FileExistsError as error:
            raise _is_there(path) from error
        except OSError:
            if path.exists():
                raise _is_there(path) from None
        else:
            return _sync_folder(path.parent)
    unfinished.replace(path)
    return _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Brings the new name to the disk, where folders can be opened for that."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _is_there(path: Path) -> OutputError:
    return OutputError(f"{path} is there already", hint="choose another name, or ask for it to be replaced")


def _flushed(file: BinaryIO) -> Path:
    file.flush()
    return Path(file.name)


def _header(entries: Sequence[Entry], metadata: Mapping[str, str], spare_bytes: int = 0, *, length: int = 0) -> bytes:
    """The length and the JSON of a header, padded so that the data is aligned, or to be `length` bytes together."""
    table: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for entry in entries:
        if entry.name in table:
            raise TensorMismatch(f"two tensors would be called {clip(entry.name, 120)!r}", hint="the input is damaged")
        start, end = end, end + entry.size_bytes
        table[entry.name] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": [start, end]}
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    if length:
        assert len(text) <= length - 8, "more was learnt of a file than there is room for"
        text = text.ljust(length - 8)
    else:
        text += b" " * (spare_bytes + (-len(text) - spare_bytes) % _ALIGNED_BYTES)
    return struct.pack("<Q", len(text)) + text


def _checked(tensor: Tensor, entry: Entry, path: Path) -> Tensor:
    """Raises: TensorMismatch for a tensor that is not what was announced, before a byte of it is written."""
    if tuple(tensor.shape) == entry.shape and dtype_code(tensor.dtype) == entry.dtype:
        return tensor
    is_ = f"{dtype_code(tensor.dtype)} {list(tensor.shape)}"
    raise TensorMismatch(
        f"{path}: tensor {clip(entry.name, 120)!r} is {is_}, not {entry.dtype} {list(entry.shape)}",
        hint="the input is damaged or changed meanwhile",
    )


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.2f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.1f} MB"


def _bytes_of(tensor: Tensor) -> memoryview:
    import torch

    flat = tensor.detach().to("cpu").contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")
