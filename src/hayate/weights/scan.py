"""What a pickled file would import and call, read from its opcodes without running one of them."""

from __future__ import annotations

import io
import pickletools
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from hayate.errors import BrokenFile, RefusedFormat, UsageError, clip
from hayate.weights.pickles import INERT, is_pickled

MAX_PICKLE_BYTES = 64 * 2**20
"""Of real checkpoints' pickles none is larger than 1 MB; beside the tensors there is little to say."""
_TENSORS = frozenset(
    {
        "collections.OrderedDict",
        "torch._utils._rebuild_tensor",
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_parameter",
        "torch.serialization._get_layout",
        "torch.device",
        "torch.Size",
        *(f"torch.{kind}Storage" for kind in ("Float", "Half", "BFloat16", "Double", "Long", "Int", "Short")),
        *(f"torch.{kind}Storage" for kind in ("Char", "Byte", "Bool")),
        *("torch.storage.UntypedStorage", "torch.storage.TypedStorage", "torch.storage._load_from_bytes"),
    }
)
_DANGEROUS = frozenset(
    {
        *("os", "posix", "nt", "subprocess", "sys", "shutil", "socket", "ctypes", "importlib", "runpy", "pty", "code"),
        *("webbrowser", "urllib", "http", "requests", "pickle", "_pickle", "marshal", "builtins", "__builtin__"),
        *("multiprocessing", "threading", "asyncio", "pip", "operator", "functools", "pathlib", "tempfile", "pdb"),
    }
)
"""Modules whose calls read, write, start or fetch something; also those by which others are reached."""
_CALLS = frozenset({"REDUCE", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD"})
_TEXTS = frozenset(
    {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING"}
)
_GETS = frozenset({"BINGET", "LONG_BINGET", "GET"})
_PUTS = frozenset({"BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"})
_SILENT = frozenset({"FRAME", "PROTO"})
HIDDEN = "a hidden name"
"""A name that is put together while unpickling, which no honest file does; the worst is assumed."""


class Verdict(StrEnum):
    """What a pickle is, from what it asks for."""

    TENSORS = "tensors only"
    KNOWN = "tensors, and what trainers keep beside them"
    UNKNOWN = "asks for what no checkpoint needs"
    DANGEROUS = "would run code"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What was found in one file."""

    path: Path
    verdict: Verdict
    imports: tuple[str, ...]
    """Dotted names, in the order of their first use."""
    calls: int
    """Opcodes that call something."""
    bytes_read: int


def scan(path: Path) -> Scan:
    """Reads a pickled file's opcodes: those of every pickle in a zip or tar, or one after the other in a plain file.

    Raises: UsageError where there is no file, RefusedFormat for one that is no pickle, BrokenFile for a damaged one.
    Cost: the pickles alone are read, never the tensors' bytes.
    """
    if not path.is_file():
        raise UsageError(f"there is no file {clip(str(path), 200)}", hint="check the path")
    if not is_pickled(path):
        raise RefusedFormat(f"{path} is no pickled file", hint="there is nothing in it that could be run")
    imports: dict[str, None] = {}
    calls = bytes_read = 0
    try:
        for stream in _streams(path):
            bytes_read += len(stream)
            found, called = _opcodes(stream)
            imports |= found
            calls += called
    except _BROKEN as error:
        raise BrokenFile(f"{path} can't be read: {clip(str(error), 160)}", hint="download it again") from error
    return Scan(path=path, verdict=_verdict(imports), imports=tuple(imports), calls=calls, bytes_read=bytes_read)


_BROKEN = (OSError, ValueError, LookupError, EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError)
_BROKEN = (*_BROKEN, NotImplementedError, RuntimeError, OverflowError, MemoryError)


def _verdict(imports: dict[str, None]) -> Verdict:
    names = imports.keys() - _TENSORS
    if HIDDEN in names or any(name.split(".")[0] in _DANGEROUS for name in names):
        return Verdict.DANGEROUS
    if names - set(INERT):
        return Verdict.UNKNOWN
    return Verdict.KNOWN if names else Verdict.TENSORS


def _streams(path: Path) -> Iterator[bytes]:
    """The bytes of every pickle in the file, which is what its beginning says: so do those who would unpickle it."""
    with path.open("rb") as file:
        beginning = file.read(4)
        if beginning == b"PK\x03\x04":
            yield from _zipped(path)
        elif beginning[:1] == b"\x80":
            file.seek(0)
            yield file.read(MAX_PICKLE_BYTES)
        else:
            with tarfile.open(path) as archive:
                members = (archive.extractfile(info) for info in archive)
                yield from (member.read(MAX_PICKLE_BYTES) for member in members if member is not None)


def _zipped(path: Path) -> Iterator[bytes]:
    with zipfile.ZipFile(path) as archive:
        infos = [info for info in archive.infolist() if info.filename.endswith(".pkl")]
        if not infos:
            raise ValueError("it is a zip file without a pickle")
        for info in infos:
            with archive.open(info) as member:
                yield member.read(MAX_PICKLE_BYTES)


def _opcodes(stream: bytes) -> tuple[dict[str, None], int]:
    """Names asked for and number of calls, of all pickles that follow each other from the beginning of `stream`.

    A plain file's tensors follow its pickles and are none themselves; what can't be read after the first ends it.
    """
    imports: dict[str, None] = {}
    calls, file, is_first = 0, io.BytesIO(stream), True
    while file.tell() < len(stream):
        try:
            for name, is_call in _pickle(file):
                calls += is_call
                if name:
                    imports[name] = None
        except ValueError:
            if is_first:
                raise
            break
        is_first = False
    return imports, calls


def _pickle(file: io.BytesIO) -> Iterator[tuple[str, bool]]:
    """For every opcode the dotted name it asks for, or "", and whether it calls something."""
    run: list[str] = []  # the texts that are on top of the stack for certain
    memo: dict[int, str | None] = {}
    for opcode, argument, _ in pickletools.genops(file):
        kind, name = opcode.name, ""
        if kind in _TEXTS:
            run.append(str(argument))
        elif kind in _GETS and (text := memo.get(int(argument or 0))) is not None:
            run.append(text)
        elif kind in _PUTS:
            memo[len(memo) if argument is None else int(argument)] = run[-1] if run else None
        elif kind not in _SILENT:
            if kind in ("GLOBAL", "INST"):
                name = str(argument).replace(" ", ".", 1)
            elif kind == "STACK_GLOBAL":
                name = ".".join(run[-2:]) if len(run) > 1 else HIDDEN
            elif kind.startswith("EXT"):
                name = HIDDEN
            run = []
        yield name, kind in _CALLS
