"""Tensors of a pickled file (.pth, .pt, .bin, .ckpt): unpickled in a process of its own that may do nothing else.

A pickle is a program. PyTorch's `weights_only` runs none of its calls but a few harmless ones; holes in it were found
before, so the process that reads has a limit of memory and time, starts no other one, opens no connection, and gives
back a safetensors file, which is checked like any other.
"""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hayate.errors import BrokenFile, HayateError, OutputError, RefusedFormat, UsageError, clip
from hayate.weights.header import MAX_HEADER_BYTES
from hayate.weights.read import open_checkpoint
from hayate.weights.write import check_room, entry_of, write_safetensors

if TYPE_CHECKING:
    from torch import Tensor

TIME_LIMIT_S = 120
MAX_FILE_BYTES = 2 * 2**30
"""Embeddings and upscalers are far smaller."""
SLOWEST_BYTES_PER_S = 10 * 2**20
"""Of a disk that gives a large file; the time limit grows by it."""
LARGEST_SHARE = 4
"""How many times as large as its file what comes out of it may be: tensors can share their memory."""
SPARE_BYTES = 2**30
"""Memory that the process may take beside three times the file's size, and what it has once torch is imported."""
_ROOT = Path(__file__).resolve().parents[2]
_FORBIDDEN = ("socket.", "subprocess.", "os.system", "os.exec", "os.spawn", "os.posix_spawn", "os.fork", "ctypes.")
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")


def read_pickle_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor in the file by its name; those of dictionaries in dictionaries have their names joined by dots.

    Raises: UsageError where there is no file; RefusedFormat for a pickle that asks for anything but tensors; BrokenFile
    for one that can't be read within the limits.
    Cost: a second or two, most of it the other process' import of torch.
    """
    try:
        size_bytes = path.stat().st_size
    except OSError as error:
        raise UsageError(f"there is no file {clip(str(path), 200)}", hint="check the path") from error
    if size_bytes == 0:
        raise BrokenFile(f"{path} is empty", hint="download it again")
    if size_bytes > MAX_FILE_BYTES:
        raise RefusedFormat(f"{path} has {size_bytes:,} bytes", hint="pickles of more than 2 GiB are not opened")
    with tempfile.TemporaryDirectory(prefix="hayate-") as folder:
        copy = Path(folder, "tensors.safetensors")
        convert_pickle(path, copy, is_model=False)
        with open_checkpoint(copy) as checkpoint:  # cloned, so that the file can go
            return {name: checkpoint.get(name).clone() for name in checkpoint.tensors}


def is_pickled(path: Path) -> bool:
    """Whether the content of a file starts as PyTorch's pickled ones do: a zip, a pickle, or a tar of old."""
    try:
        with path.open("rb") as file:
            beginning = file.read(512)
    except OSError:
        return False
    is_pickle = beginning[:1] == b"\x80" and beginning[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    return is_pickle or beginning.startswith(b"PK\x03\x04") or beginning[257:262] == b"ustar"


def convert_pickle(path: Path, copy: Path, *, is_model: bool = True) -> None:
    """Writes the tensors of a pickled file into the safetensors file `copy`; of a model, those of its `state_dict`.

    Raises: RefusedFormat for a pickle that asks for anything but tensors, BrokenFile for one that can't be read within
    the limits of memory, time and disk; OutputError for no room.
    Cost: a second or two for the other process' import of torch, then the time to write the file once.
    """
    size_bytes = path.stat().st_size
    check_room(copy, size_bytes)
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, "-m", "hayate.weights.pickles", str(path.resolve()), str(copy), str(int(is_model))]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    limit_s = TIME_LIMIT_S + size_bytes / SLOWEST_BYTES_PER_S
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise BrokenFile(f"{path} is not read within {limit_s:.0f} s", hint="take a safetensors file of it") from error
    finally:
        for left in copy.parent.glob(f".{copy.name}.*.part"):  # of a process that was ended
            left.unlink(missing_ok=True)
    if done.returncode == 0:
        return
    lines = done.stderr.decode("utf-8", "replace").split("\n")
    said = next((line.strip() for line in reversed(lines) if line.strip()), f"the reader ended with {done.returncode}")
    if done.returncode == _UNWRITTEN:
        raise OutputError(clip(said, 400), hint="check the folder's permissions and the disk")
    kind = RefusedFormat if done.returncode == _REFUSED else BrokenFile
    raise kind(f"{path} is not opened: {clip(said, 200)}", hint="take a safetensors file of it")


_REFUSED, _UNWRITTEN = 3, 4


class Ignored:
    """Stands for what trainers keep beside the tensors of a checkpoint: made of anything, it does nothing."""

    def __init__(self, *arguments: object, **named: object) -> None:
        del arguments, named

    def __setstate__(self, state: object) -> None:
        del state


INERT = (
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "pytorch_lightning.callbacks.early_stopping.EarlyStopping",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "pytorch_lightning.utilities.enums.DistributedType",
    *("numpy.core.multiarray.scalar", "numpy.core.multiarray._reconstruct"),
    *("numpy._core.multiarray.scalar", "numpy._core.multiarray._reconstruct"),
    "numpy.dtype",
    "numpy.ndarray",
    "_codecs.encode",
)
"""Names in known checkpoints (Stable Diffusion 1.4's own has the first) that are never called: `Ignored` is."""


def _read(path: str, copy: str, is_model: bool) -> int:
    """The other process: reads the file, and writes its tensors."""
    import torch

    file_bytes = os.path.getsize(path)  # noqa: PTH202
    _limit(file_bytes)
    sys.addaudithook(_refuse_all_else)
    try:
        tensors = dict(_flattened(_loaded(path, is_model)))
        if not tensors:
            sys.stderr.write("it holds no tensors\n")
            return _REFUSED
        if sum(each.numel() * each.element_size() for each in tensors.values()) > _written_bytes(file_bytes):
            sys.stderr.write("its tensors are far larger than the file\n")
            return 1
        entries = [entry_of(name, each) for name, each in tensors.items()]
        write_safetensors(Path(copy), entries, lambda name: tensors[name].detach())
    except pickle.UnpicklingError as error:
        asked = _GLOBAL.search(str(error))
        sys.stderr.write(f"it asks for {asked[1]}\n" if asked else "it asks for more than tensors\n")
        return _REFUSED
    except HayateError as error:
        sys.stderr.write(f"{error.message}\n")
        return _UNWRITTEN if isinstance(error, OutputError) else 1
    except (*_BROKEN, torch.OutOfMemoryError) as error:
        reason = str(error).split("\n", 1)[0]
        sys.stderr.write(f"{type(error).__name__}: {reason}\n")
        return 1
    return 0


_BROKEN = (
    *(RuntimeError, ValueError, TypeError, LookupError, AttributeError, EOFError, OSError, MemoryError),
    *(RecursionError, OverflowError, AssertionError, zipfile.BadZipFile),
)


def _loaded(path: str, is_model: bool) -> Any:
    """What the file holds. A zip is mapped, so that a tensor costs memory only while it is written.

    PyTorch gives a path that ends in .safetensors to another reader; of a file that is opened already it sees no name.
    """
    import torch

    inert: list[Any] = [(Ignored, name) for name in INERT] if is_model else []
    with torch.serialization.safe_globals(inert):
        if _is_zip(path) and not path.lower().endswith(".safetensors"):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        else:
            with open(path, "rb") as file:  # noqa: PTH123
                content = torch.load(file, map_location="cpu", weights_only=True)
    has_state = is_model and isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping)
    return content["state_dict"] if has_state else content


def _is_zip(path: str) -> bool:
    with open(path, "rb") as file:  # noqa: PTH123
        return file.read(4) == b"PK\x03\x04"


def _limit(file_bytes: int) -> None:
    """Limits memory, and what is written."""
    if sys.platform == "win32":
        return
    import resource

    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()
    except OSError:  # no Linux: what the process has now is not known, and the time limit remains
        return
    memory = int(pages[0]) * resource.getpagesize() + SPARE_BYTES + 3 * file_bytes
    written = _written_bytes(file_bytes) + MAX_HEADER_BYTES
    for kind, wanted in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_FSIZE, written)):
        _, most = resource.getrlimit(kind)
        limit = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        resource.setrlimit(kind, (limit, limit))


def _written_bytes(file_bytes: int) -> int:
    """The most that may come out of a file."""
    return LARGEST_SHARE * file_bytes + 2**20


def _refuse_all_else(event: str, arguments: object) -> None:
    """Raises: PermissionError for what a reader of tensors has no need of."""
    del arguments
    if event.startswith(_FORBIDDEN):
        raise PermissionError(f"it wants {event}")


def _flattened(content: Any, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    import torch

    if isinstance(content, torch.Tensor):
        yield prefix or "tensor", content
    elif isinstance(content, Mapping) and depth < 8:
        for key, value in content.items():
            yield from _flattened(value, f"{prefix}.{key}" if prefix else str(key), depth + 1)


if __name__ == "__main__":
    sys.exit(_read(sys.argv[1], sys.argv[2], sys.argv[3] == "1"))
