"""Opening safetensors files: what is no such file is refused by its content, tensors are views of the mapped file."""

from __future__ import annotations

import ctypes
import mmap
import os
import stat
import struct
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO, NoReturn, Self

from hayate.errors import BrokenFile, RefusedFormat, UsageError, clip
from hayate.weights.header import AGAIN, MAX_HEADER_BYTES, Header, TensorInfo, parse_header

if TYPE_CHECKING:
    import torch
    from torch import Tensor

TORCH_DTYPES: Mapping[str, str] = MappingProxyType(
    {
        "BOOL": "bool",
        "U8": "uint8",
        "I8": "int8",
        "I16": "int16",
        "I32": "int32",
        "I64": "int64",
        "F16": "float16",
        "BF16": "bfloat16",
        "F32": "float32",
        "F64": "float64",
        "F8_E4M3": "float8_e4m3fn",
        "F8_E5M2": "float8_e5m2",
    }
)
"""The torch dtypes, by name so that reading a header needs no torch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """Where an open file has a tensor's numbers."""

    handle: int
    start: int
    """In bytes."""
    dtype: str
    """The format's name for it."""


_MADV_POPULATE_READ = 22
_POPULATED_BYTES = 1 << 24


class Checkpoint:
    """An opened safetensors file.

    Tensors are views of one private mapping of the file: writing to one changes this process's copy of a page, never
    the file. They stay valid after `close`; the mapping, and with it the open file, goes when the last of them does.
    """

    __slots__ = ("_file", "_map", "header")

    def __init__(self, header: Header, file: BinaryIO) -> None:
        self.header = header
        self._file = file
        self._map: mmap.mmap | None = None

    @property
    def path(self) -> Path:
        return self.header.path

    @property
    def size_bytes(self) -> int:
        return self.header.size_bytes

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        return self.header.tensors

    @property
    def metadata(self) -> Mapping[str, str]:
        return self.header.metadata

    def get(self, name: str) -> Tensor:
        """The tensor called `name`, as a view of the file.

        Raises: KeyError for a name that is not in `tensors`; RefusedFormat for a dtype that torch does not have.
        Cost: no copy, unless the file's writer put the tensor where its dtype can't be read (off alignment).
        """
        import torch

        info = self.tensors[name]
        if info.dtype not in TORCH_DTYPES:
            raise RefusedFormat(
                f"{self.path}: tensor {clip(name)!r} has dtype {info.dtype}, which can't be computed with",
                hint="use a file with F16, BF16 or F32 weights",
            )
        dtype = getattr(torch, TORCH_DTYPES[info.dtype])
        if info.size_bytes == 0:
            return torch.empty(info.shape, dtype=dtype)
        if info.start % dtype.itemsize:
            raw = torch.frombuffer(self._mapping(), dtype=torch.uint8, count=info.size_bytes, offset=info.start)
            return raw.clone().view(dtype).reshape(info.shape)
        count = info.size_bytes // dtype.itemsize
        return torch.frombuffer(self._mapping(), dtype=dtype, count=count, offset=info.start).reshape(info.shape)

    def get_all(self, names: Sequence[str], dtype: torch.dtype | None) -> list[Tensor]:
        """The tensors of these names, for places of type `dtype`, in whose type they need not be yet: that copy is the
        caller's, who may have to move them as well.
        """
        del dtype
        return [self.get(name) for name in names]

    def extent(self, name: str) -> Extent:
        """Where the tensor called `name` is, for whoever reads it without the mapping, while this is open."""
        info = self.tensors[name]
        return Extent(handle=self._file.fileno(), start=info.start, dtype=info.dtype)

    def prefetch(self) -> None:
        """Begins to read the whole file into the mapping, in a thread beside the caller's work; nobody waits for it.

        A file that is in the page cache is then mapped without a fault for every page, and one that isn't is read in
        order, while the networks are built. Only Linux ≥ 5.14 can do that; elsewhere nothing happens.
        """
        if sys.platform == "linux" and self.size_bytes:
            threading.Thread(target=_populate, args=(self._mapping(),), name="prefetch", daemon=True).start()

    def read_ahead(self) -> None:
        """Asks the system to read the whole file in order, without mapping it, in a thread; nobody waits for it."""
        if hasattr(os, "posix_fadvise") and self.size_bytes:
            handle = os.dup(self._file.fileno())  # the file may be closed before the thread is done
            threading.Thread(target=_advise, args=(handle,), name="read-ahead", daemon=True).start()

    def close(self) -> None:
        """Gives back the file; tensors already taken stay valid."""
        self._map = None
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _mapping(self) -> mmap.mmap:
        if self._map is None:
            # Mapped from the handle whose header was checked, so that a file replaced meanwhile can't slip in.
            with _reading(self.path):
                self._map = mmap.mmap(self._file.fileno(), self.size_bytes, access=mmap.ACCESS_COPY)
        return self._map


def _populate(mapping: mmap.mmap) -> None:
    """Brings the pages in, a part at a time, so that the address space is never locked for long.

    ctypes lets other threads run meanwhile, `mmap.madvise` does not.
    """
    advise = ctypes.CDLL(None, use_errno=True).madvise
    advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    address = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    for start in range(0, len(mapping), _POPULATED_BYTES):
        if advise(address + start, min(_POPULATED_BYTES, len(mapping) - start), _MADV_POPULATE_READ):
            return


def _advise(handle: int) -> None:
    try:
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_WILLNEED)
    finally:
        os.close(handle)


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Opens the safetensors file at `path`, whatever its extension, and checks its whole header.

    Raises: UsageError where there is no file, BrokenFile for a damaged one, RefusedFormat for another format.
    """
    path = Path(path)
    file = _open(path)
    try:
        return Checkpoint(_read_header(path, file), file)
    except BaseException:
        file.close()
        raise


def read_header(path: str | Path) -> Header:
    """The header of the safetensors file at `path`, by the same rules as `open_checkpoint`.

    Cost: a few milliseconds; neither torch nor the tensors' bytes are touched.
    """
    with open_checkpoint(path) as checkpoint:
        return checkpoint.header


def _open(path: Path) -> BinaryIO:
    """A handle of a regular file, refusing everything else before it can block or mislead."""
    with _reading(path):
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            _refuse_folder(path)
        if not stat.S_ISREG(mode):
            raise RefusedFormat(f"{path} is not a regular file", hint="give the path of a .safetensors file")
        return path.open("rb")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turns what the operating system says about `path` into errors of Hayate's tree."""
    try:
        yield
    except FileNotFoundError as error:
        raise UsageError(f"there is no file {path}", hint="check the path") from error
    except PermissionError as error:
        raise BrokenFile(f"{path} can't be read: permission denied", hint="check the file's permissions") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise BrokenFile(f"{clip(str(path), 200)!r} can't be read: {reason}", hint="check the path and disk") from error


def _refuse_folder(path: Path) -> NoReturn:
    if (path / "model_index.json").is_file():
        raise RefusedFormat(
            f"{path} is a diffusers folder, which is not read here",
            hint="`hayate models convert` makes a single .safetensors file of it",
        )
    raise RefusedFormat(f"{path} is a folder", hint="give the path of a .safetensors file inside it")


def _read_header(path: Path, file: BinaryIO) -> Header:
    with _reading(path):
        size_bytes = os.fstat(file.fileno()).st_size
        beginning = file.read(512)
        header_bytes = _header_bytes(path, beginning, size_bytes)
        file.seek(8)
        raw = file.read(header_bytes)
    if len(raw) != header_bytes:
        raise BrokenFile(f"{path} is truncated: its header ends after {len(raw)} of {header_bytes} bytes", hint=AGAIN)
    return parse_header(raw, path=path, size_bytes=size_bytes)


def _header_bytes(path: Path, beginning: bytes, size_bytes: int) -> int:
    """The length that the file claims for its header, once it is sure to be a safetensors file at all."""
    if not beginning:
        raise BrokenFile(f"{path} is empty", hint=AGAIN)
    length = struct.unpack("<Q", beginning[:8])[0] if len(beginning) >= 8 else 0
    if beginning[8:9] != b"{" or not 2 <= length <= MAX_HEADER_BYTES:
        _refuse(path, beginning, length)
    if 8 + length > size_bytes:
        raise BrokenFile(
            f"{path} is truncated: its header alone takes {length:,} bytes, the file has {size_bytes:,}", hint=AGAIN
        )
    return length


_CONVERTER = (
    "only safetensors are opened; `hayate models convert` makes one of it, in a process that may do nothing else"
)
_WEB_PAGE = "the download gave a web page instead of the model; sign in or take another link"
_SIGNS: tuple[tuple[bytes, type[BrokenFile | RefusedFormat], str, str], ...] = (
    (b"version https://git-lfs", BrokenFile, "is a Git LFS pointer, not the model itself", "run `git lfs pull`"),
    (b"PK\x03\x04", RefusedFormat, "is a zip file, as PyTorch's pickled .ckpt and .pt files are", _CONVERTER),
    (b"\x80\x02", RefusedFormat, "is a Python pickle, which can run code when opened", _CONVERTER),
    (b"\x80\x03", RefusedFormat, "is a Python pickle, which can run code when opened", _CONVERTER),
    (b"\x80\x04", RefusedFormat, "is a Python pickle, which can run code when opened", _CONVERTER),
    (b"\x80\x05", RefusedFormat, "is a Python pickle, which can run code when opened", _CONVERTER),
    (b"GGUF", RefusedFormat, "is a GGUF file, which is not read here", "use the .safetensors file of the model"),
    (b"<", BrokenFile, "is a web page or XML, not a model", _WEB_PAGE),
    (b"{", BrokenFile, "is JSON text, not a model", _WEB_PAGE),
)
"""First bytes, ignoring leading white space, that tell what a file is when it is no safetensors file."""


def _refuse(path: Path, beginning: bytes, length: int) -> NoReturn:
    text = beginning.removeprefix(b"\xef\xbb\xbf").lstrip()
    for sign, kind, sentence, hint in _SIGNS:
        if text.startswith(sign) or beginning.startswith(sign):
            raise kind(f"{path} {sentence}", hint=hint)
    if beginning[257:262] == b"ustar":
        raise RefusedFormat(f"{path} is a tar file, as PyTorch's first pickled files are", hint=_CONVERTER)
    if beginning[8:9] == b"{":
        limit = f"{MAX_HEADER_BYTES:,} bytes are allowed"
        raise BrokenFile(f"{path} claims a header of {length:,} bytes, but at most {limit}", hint=AGAIN)
    raise BrokenFile(f"{path} is not a safetensors file: it does not start as one", hint=AGAIN)
