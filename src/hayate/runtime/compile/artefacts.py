"""Compiled packages in the user's cache folder. They are code: only what this user wrote, whole, is handed out."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from hayate.runtime.compile.spec import CompileRefused

STALE_S = 24 * 3600
"""A working folder this old was left behind by a process that was ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """What stands beside a package."""

    file: str
    sha256: str
    about: str
    """The specification, for a person who looks into the folder."""
    compile_s: float
    speedup: float | None = None
    """How much faster than eager it was when it was adopted; None before."""


class Artefacts:
    """The folder, by key. Two processes may use it at once: a seal names the package that it was made for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.discarded: list[str] = []
        """What was found and not trusted, and why."""

    def find(self, key: str) -> tuple[Path, Seal] | None:
        """A package and its seal, or None; one that is damaged is deleted.

        Raises: CompileRefused when the folder or a file in it is somebody else's or can be changed by others.
        """
        path = self._seal_path(key)
        if not path.exists():
            return None
        for each in (self.folder, path):
            _check_owned(each)
        try:
            seal = Seal(**json.loads(path.read_text()))
            package = self.folder / Path(seal.file).name
            _check_owned(package)
            is_whole = _digest(package) == seal.sha256
        except (OSError, ValueError, TypeError) as error:
            self.discard(key, f"its seal or package can't be read ({error})")
            return None
        if not is_whole:
            self.discard(key, "the package is not the one that was sealed")
            return None
        return package, seal

    def put(self, key: str, made: Path, about: str, compile_s: float) -> tuple[Path, Seal]:
        """Moves a package that was just made into the folder, and seals it.

        Raises: CompileRefused when it is no whole package.
        """
        _check_whole(made)
        digest = _digest(made)
        package = self.folder / f"{key}-{digest[:16]}.pt2"
        made.chmod(0o600)
        made.replace(package)
        seal = Seal(file=package.name, sha256=digest, about=about, compile_s=round(compile_s, 1))
        self.write(key, seal)
        return package, seal

    def write(self, key: str, seal: Seal) -> None:
        """Replaces the seal of `key` at once."""
        with self.working_folder() as folder:
            part = folder / "seal.json"
            part.write_text(json.dumps(asdict(seal), indent=1))
            part.chmod(0o600)
            part.replace(self._seal_path(key))

    def discard(self, key: str, why: str) -> None:
        """Deletes what is kept under `key`."""
        self.discarded.append(f"{key}: {why}")
        self._seal_path(key).unlink(missing_ok=True)
        for package in self.folder.glob(f"{key}-*.pt2"):
            package.unlink(missing_ok=True)

    @contextmanager
    def working_folder(self) -> Iterator[Path]:
        """A folder for one piece of work, on the same file system as the packages; deleted afterwards."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _check_owned(self.folder)
        with tempfile.TemporaryDirectory(prefix="work-", dir=self.folder, ignore_cleanup_errors=True) as folder:
            yield Path(folder)

    def sweep(self) -> None:
        """Deletes working folders that ended processes left behind."""
        for folder in self.folder.glob("work-*"):
            if time.time() - folder.stat().st_mtime > STALE_S:
                shutil.rmtree(folder, ignore_errors=True)

    def _seal_path(self, key: str) -> Path:
        return self.folder / f"{key}.json"


def _check_owned(path: Path) -> None:
    """Who may write here may run code as this user."""
    if not hasattr(os, "getuid"):
        return
    status = path.stat()
    if status.st_uid != os.getuid():
        raise CompileRefused(f"{path} belongs to another user", hint="choose a cache_dir of your own")
    if status.st_mode & 0o022:
        raise CompileRefused(f"{path} can be changed by others", hint=f"chmod go-w {path}")


def _check_whole(package: Path) -> None:
    """PyTorch's loader trusts what it unpacks; a checksum that fails in a library would end the process."""
    try:
        with zipfile.ZipFile(package) as archive:
            broken = archive.testzip()
    except (OSError, zipfile.BadZipFile) as error:
        raise CompileRefused(f"the compiler left no whole package: {error}") from error
    if broken:
        raise CompileRefused(f"the compiler left a damaged package: {broken}")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
