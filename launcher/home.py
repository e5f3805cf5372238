"""Where Hayate is installed, and whether it is whole."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from pathlib import Path
from typing import NamedTuple

from launcher.pythons import base_python


class Home(NamedTuple):
    """Where Hayate is installed: an interpreter, and the virtual environment that it belongs to, if that is ours."""

    root: Path
    """The checkout."""
    python: Path
    venv: Path | None

    @property
    def state(self) -> Path:
        """What launch.py keeps for itself: its lock, and what pip said."""
        return self.root / ".launch"

    @property
    def stamps(self) -> Path:
        """The folder of the stamps; outside a venv one for each interpreter, since the interpreter isn't ours."""
        return self.venv or self.state / hashlib.sha256(str(self.python).encode()).hexdigest()[:12]

    @property
    def unfinished(self) -> Path:
        """The file that is there while packages may be half installed."""
        return self.stamps / "hayate-unfinished"

    @property
    def place(self) -> Path | None:
        """The environment itself, where a link leads: names are exchanged there, on one disk."""
        return self.venv.resolve() if self.venv and self.venv.is_symlink() else self.venv

    def stamp_file(self, extras: tuple[str, ...]) -> Path:
        return self.stamps / "-".join(["hayate-stamp", *extras])

    def is_ready(self, extras: tuple[str, ...]) -> bool:
        """Whether everything is installed as asked: the stamp was written last and still holds.

        Cost: two small files are hashed; no process is started.
        """
        with contextlib.suppress(OSError):
            is_whole = self.python.exists() and not self.unfinished.exists()
            return is_whole and self.stamp_file(extras).read_text() == self.fingerprint(extras)
        return False

    def fingerprint(self, extras: tuple[str, ...]) -> str:
        """What the installed set depends on, as one hash."""
        interpreter = (self.venv / "pyvenv.cfg").read_text() if self.venv else f"{self.python} {sys.version}"
        named = (os.environ.get(name, "") for name in ("TORCH_COMMAND", "TORCH_INDEX_URL"))
        digest = hashlib.sha256(repr([[interpreter, str(self.root), *named], extras]).encode())
        for file in ("constraints.txt", "pyproject.toml"):
            digest.update((self.root / file).read_bytes())
        return digest.hexdigest()

    def stamp(self, extras: tuple[str, ...]) -> None:
        """Writes down what was installed: from now on it is whole."""
        for each in {(), extras}:
            temporary = self.stamp_file(each).with_suffix(".new")
            temporary.write_text(self.fingerprint(each))
            temporary.replace(self.stamp_file(each))
        self.unfinished.unlink()


def locate_home(root: Path) -> Home:
    """Where VENV_DIR and PYTHON say that Hayate lives; nothing is created."""
    name = os.environ.get("VENV_DIR") or ".venv"
    if name == "-":
        return Home(root, base_python(), None)
    venv = root / Path(name).expanduser()
    return Home(root, venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python"), venv)


def is_strange(venv: Path) -> bool:
    """Whether a folder holds an environment that launch.py did not make."""
    return (venv / "pyvenv.cfg").exists() and not (venv / "hayate-venv").exists()
