"""What is remembered of extensions: which are off, which were installed, and how the last start went."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from hayate.errors import OutputError

FILE = "extensions.json"
TIMES_FILE = "extension-times.json"
MAX_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """An installation, so that it is done once."""

    source: str
    """Where it came from."""
    version: str
    at_s: float
    """Seconds since 1970."""
    packages: tuple[str, ...] = ()
    """What came with it, as name==version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The user's choices and what was installed."""

    disabled: frozenset[str] = frozenset()
    installed: Mapping[str, Installed] = field(default_factory=dict)

    def switched(self, name: str, is_on: bool) -> State:
        """The same with an extension on or off."""
        return replace(self, disabled=self.disabled - {name} if is_on else self.disabled | {name})


@dataclass(frozen=True, slots=True, kw_only=True)
class LastTime:
    """How an extension did when it was last in use."""

    at_s: float
    """Seconds since 1970."""
    import_s: float = 0.0
    hook_s: float = 0.0
    calls: int = 0
    problem: str = ""


class StateFile:
    """`extensions.json` and `extension-times.json` of a data folder; several processes read and replace them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes: list[str] = []
        """What was wrong with them."""

    @property
    def path(self) -> Path:
        return self.folder / FILE

    def stamp(self) -> tuple[int, int]:
        """Changes when the file does. Cost: one look at the disk."""
        try:
            found = self.path.stat()
        except OSError:
            return (0, 0)
        return (found.st_mtime_ns, found.st_ino)

    def read(self) -> State:
        """The state; a file that can't be understood is put aside, and all extensions are on."""
        words = self._object(self.path)
        try:
            installed = {str(name): _installed(row) for name, row in words.get("installed", {}).items()}
            return State(disabled=frozenset(map(str, words.get("disabled", []))), installed=installed)
        except (TypeError, ValueError, KeyError, AttributeError):
            self._put_aside(self.path)
            return State()

    def write(self, state: State) -> None:
        """Raises: OutputError."""
        installed = {name: asdict(row) for name, row in sorted(state.installed.items())}
        self._replace(self.path, {"disabled": sorted(state.disabled), "installed": installed})

    def last_times(self) -> dict[str, LastTime]:
        """How each extension did when it was last in use."""
        path = self.folder / TIMES_FILE
        try:
            return {str(name): LastTime(**row) for name, row in self._object(path).items()}
        except (TypeError, ValueError, AttributeError):
            self._put_aside(path)
            return {}

    def keep_times(self, times: Mapping[str, LastTime]) -> None:
        """Adds to what is remembered; where nothing was measured, what was measured before stays.

        Raises: OutputError.
        """
        known = self.last_times()
        for name, each in times.items():
            before = known.get(name)
            was_used = each.import_s or each.calls
            known[name] = each if before is None or was_used else replace(before, problem=each.problem)
        self._replace(self.folder / TIMES_FILE, {name: asdict(each) for name, each in sorted(known.items())})

    def _object(self, path: Path) -> dict[str, Any]:
        """The JSON object in a file; nothing where there is no file, or none that can be understood."""
        try:
            with path.open("rb") as file:
                raw = file.read(MAX_BYTES + 1)
            words = json.loads(raw)
        except FileNotFoundError:
            return {}
        except OSError as error:
            self.notes.append(f"{path.name} can't be read: {error.strerror}")
            return {}
        except (ValueError, RecursionError):
            words = None
        if not isinstance(words, dict):
            self._put_aside(path)
            return {}
        return words

    def _put_aside(self, path: Path) -> None:
        aside = path.with_name(f"{path.name}.broken-{time.strftime('%Y%m%d-%H%M%S')}")
        with contextlib.suppress(OSError):
            path.replace(aside)
        self.notes.append(f"{path.name} was damaged and is now {aside.name}; all extensions are on again")

    def _replace(self, path: Path, words: Mapping[str, Any]) -> None:
        """Whole under its name, or not there at all."""
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("w", encoding="utf-8") as file:
                json.dump(words, file, ensure_ascii=False, indent=1)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            message = f"can't write {path}: {error.strerror}"
            raise OutputError(message, hint="check its permissions and free space") from error


def _installed(row: Mapping[str, Any]) -> Installed:
    packages = tuple(map(str, row["packages"]))
    return Installed(source=str(row["source"]), version=str(row["version"]), at_s=float(row["at_s"]), packages=packages)
