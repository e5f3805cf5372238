"""Hashes that name a model file, as A1111 shows them, remembered so that a file is read for them only once."""

from __future__ import annotations

import hashlib
import logging
import re
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

from hayate.errors import HayateError, UsageError
from hayate.weights.read import read_header

logger = logging.getLogger(__name__)

CACHE_NAME = "hashes.sqlite"
_LOCK_WAIT_S = 5.0
_PAYLOAD = "payload of "
_DIGEST = re.compile(r"[0-9a-f]{12,64}")
_SCHEMA = """CREATE TABLE IF NOT EXISTS hashes (
    path TEXT PRIMARY KEY, size_bytes INTEGER NOT NULL, modified_ns INTEGER NOT NULL, sha256 TEXT NOT NULL
) WITHOUT ROWID"""
_FIND = "SELECT sha256 FROM hashes WHERE path = ? AND size_bytes = ? AND modified_ns = ?"
_STORE = "INSERT OR REPLACE INTO hashes VALUES (?, ?, ?, ?)"


def file_sha256(path: str | Path, cache_dir: Path | None = None) -> str:
    """The SHA-256 of a whole file, in 64 hex digits, from the cache in `cache_dir` while path, size and time agree.

    Raises: UsageError when the file can't be read.
    Cost: 1 to 3 s for each GB that is not in the cache.
    """
    return _sha256(path, cache_dir, lambda file: None, "")


def _payload_sha256(path: Path, cache_dir: Path | None) -> str:
    """The SHA-256 of what follows a safetensors file's header."""

    def skip(file: BinaryIO) -> None:
        file.seek(8 + int.from_bytes(file.read(8), "little"))

    return _sha256(path, cache_dir, skip, _PAYLOAD)


def _sha256(path: str | Path, cache_dir: Path | None, skip: Callable[[BinaryIO], None], label: str) -> str:
    """The SHA-256 of the rest of a file; remembered under its path with `label` before it."""

    def compute(real: Path) -> str:
        with real.open("rb") as file:
            skip(file)
            return hashlib.file_digest(file, "sha256").hexdigest()

    return remembered(path, cache_dir, label, compute)


def remembered(path: str | Path, cache_dir: Path | None, label: str, compute: Callable[[Path], str]) -> str:
    """What `compute` says of a file, from the cache in `cache_dir` while path, size and time agree.

    `label` tells one kind of answer from another. What was computed of a file that changed meanwhile is not kept.
    Raises: UsageError when the file can't be read.
    """
    try:
        real = Path(path).resolve(strict=True)
        before = file_stamp(real)
        cache = None if cache_dir is None else cache_dir / CACHE_NAME
        known = _ask(cache, _FIND, (f"{label}{real}", *before)) if cache else None
        if known:
            return known
        digest = compute(real)
        if cache and file_stamp(real) == before:  # a file that changed while it was read has no hash worth keeping
            _ask(cache, _STORE, (f"{label}{real}", *before, digest))
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror or error}", hint="check the path") from error
    return digest


def known_sha256(path: str | Path, cache_dir: Path) -> str | None:
    """The SHA-256 of a file if the cache has it, which costs no reading."""
    try:
        real = Path(path).resolve(strict=True)
        return _ask(cache_dir / CACHE_NAME, _FIND, (str(real), *file_stamp(real)))
    except OSError:
        return None


def model_hash(path: str | Path, cache_dir: Path | None = None) -> str:
    """The "Model hash" of A1111's infotext: the first 10 digits of the file's SHA-256."""
    return file_sha256(path, cache_dir)[:10]


def legacy_hash(path: str | Path) -> str:
    """The 8 digits by which A1111 named models until 2023: SHA-256 of the 64 KiB that follow the first MiB."""
    try:
        with Path(path).open("rb") as file:
            file.seek(0x100000)
            return hashlib.sha256(file.read(0x10000)).hexdigest()[:8]
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror or error}", hint="check the path") from error


def lora_hash(path: str | Path, cache_dir: Path | None = None) -> str:
    """The 12 digits of A1111's "Lora hashes": of the SHA-256 of all that follows the header, or what the header says.

    So that a file whose title or tags are edited keeps its hash. The header's own is `sshs_model_hash`.
    Raises: UsageError when the file can't be read, ModelFileError when it is no safetensors file.
    """
    header = read_header(path)
    said = header.metadata.get("sshs_model_hash", "")
    return said[:12] if _DIGEST.fullmatch(said) else _payload_sha256(header.path, cache_dir)[:12]


def lora_hash_if_known(path: Path, cache_dir: Path) -> str | None:
    """`lora_hash` where the header says it or the cache has it, which costs no reading."""
    try:
        said = read_header(path).metadata.get("sshs_model_hash", "")
        real = path.resolve(strict=True)
        known = _ask(cache_dir / CACHE_NAME, _FIND, (f"{_PAYLOAD}{real}", *file_stamp(real)))
    except (HayateError, OSError):
        return None
    return said[:12] if _DIGEST.fullmatch(said) else known and known[:12]


def start_hash(
    path: str | Path, cache_dir: Path | None = None, compute: Callable[[str | Path, Path | None], str] = model_hash
) -> Future[str]:
    """Begins computing `model_hash`, or another, beside other work; ask the result when it is needed.

    The thread ends with the process, so a job that fails early does not wait for it. hashlib works without the GIL.
    """
    future: Future[str] = Future()

    def work() -> None:
        try:
            future.set_result(compute(path, cache_dir))
        except BaseException as error:  # noqa: BLE001 - it is raised again where the result is asked for
            future.set_exception(error)

    threading.Thread(target=work, name="model-hash", daemon=True).start()
    return future


def file_stamp(path: Path) -> tuple[int, int]:
    """What changes when a file is replaced: its size and the time of its last change.

    Units: bytes, ns.
    """
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _ask(cache: Path, sql: str, values: tuple[str | int, ...]) -> str | None:
    """The first value that `sql` gives; without a usable cache nothing is known and nothing kept, which is only slower.

    SQLite makes it safe for several processes at once. A damaged cache is thrown away, for the files still know.
    """
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(cache, timeout=_LOCK_WAIT_S)) as database, database:
            database.execute(_SCHEMA)
            row = database.execute(sql, values).fetchone()
            return str(row[0]) if row else None
    except (OSError, sqlite3.OperationalError) as error:
        logger.warning("hashes can't be remembered in %s: %s", cache, error)
    except sqlite3.DatabaseError as error:
        logger.warning("the damaged cache of hashes %s is begun anew: %s", cache, error)
        cache.unlink(missing_ok=True)
    return None
