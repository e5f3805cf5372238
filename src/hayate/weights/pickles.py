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
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hayate.errors import BrokenFile, RefusedFormat, UsageError, clip
from hayate.weights.read import open_checkpoint

if TYPE_CHECKING:
    from torch import Tensor

TIME_LIMIT_S = 120
MAX_FILE_BYTES = 2 * 2**30
"""Embeddings and upscalers are far smaller."""
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
        _convert(path, copy)
        with open_checkpoint(copy) as checkpoint:  # cloned, so that the file can go
            return {name: checkpoint.get(name).clone() for name in checkpoint.tensors}


def _convert(path: Path, copy: Path) -> None:
    """Raises: RefusedFormat, BrokenFile."""
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, "-m", "hayate.weights.pickles", str(path.resolve()), str(copy)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIME_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise BrokenFile(f"{path} is not read within {TIME_LIMIT_S} s", hint="take a safetensors file of it") from error
    if done.returncode == 0:
        return
    lines = done.stderr.decode("utf-8", "replace").split("\n")
    said = next((line.strip() for line in reversed(lines) if line.strip()), f"the reader ended with {done.returncode}")
    kind = RefusedFormat if done.returncode == _REFUSED else BrokenFile
    raise kind(f"{path} is not opened: {clip(said, 200)}", hint="take a safetensors file of it")


_REFUSED = 3


def _read(path: str, copy: str) -> int:
    """The other process: reads the file, and writes its tensors."""
    import torch
    from safetensors.torch import save_file

    _limit_memory(os.path.getsize(path))  # noqa: PTH202
    sys.addaudithook(_refuse_all_else)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        tensors = {name: each.detach().contiguous().clone() for name, each in _flattened(content)}
        if not tensors:
            sys.stderr.write("it holds no tensors\n")
            return _REFUSED
        save_file(tensors, copy)
    except pickle.UnpicklingError as error:
        asked = _GLOBAL.search(str(error))
        sys.stderr.write(f"it asks for {asked[1]}\n" if asked else "it asks for more than tensors\n")
        return _REFUSED
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, EOFError, OSError, MemoryError) as error:
        reason = str(error).split("\n", 1)[0]
        sys.stderr.write(f"{type(error).__name__}: {reason}\n")
        return 1
    return 0


def _limit_memory(file_bytes: int) -> None:
    if sys.platform == "win32":
        return
    import resource

    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()
    except OSError:  # no Linux: what the process has now is not known, and the time limit remains
        return
    limit = int(pages[0]) * resource.getpagesize() + SPARE_BYTES + 3 * file_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


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
    sys.exit(_read(sys.argv[1], sys.argv[2]))
