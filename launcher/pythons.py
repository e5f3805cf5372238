"""Interpreters: which one makes the environment, and what is in it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from launcher.telling import SetupError

OLDEST, NEWEST = (3, 11), (3, 14)
KEPT_TORCH = (2, 10)
"""The oldest torch that is left alone in an environment that is not ours; the same bound as in pyproject.toml."""
TORCH_VERSION = "from importlib.metadata import version; print(*version('torch').partition('+')[0].split('.'))"


def base_python() -> Path:
    """The interpreter that PYTHON names, or the one that runs this file."""
    asked = os.environ.get("PYTHON")
    if not asked:
        return Path(sys.executable)
    found = shutil.which(asked)
    if not found:
        raise SetupError(f"PYTHON={asked} was not found", "give the path of a Python 3.11 to 3.14")
    return Path(found).absolute()


def check_version(python: Path) -> None:
    """Refuse a Python for which there are no pins."""
    version = version_of(python)
    if OLDEST <= version <= NEWEST:
        return
    others = (shutil.which(f"python3.{minor}") for minor in (13, 12, 11, 14))
    other = next((path for path in others if path), "python3.12")
    shown = ".".join(map(str, version)) or "does not start"
    raise SetupError(f"Hayate needs Python 3.11 to 3.14; {python} is {shown}", f"run: {other} launch.py")


def version_of(python: Path) -> tuple[int, ...]:
    """The version of an interpreter; empty when it does not start."""
    return ask_version(python, "import sys; print(*sys.version_info[:2])")


def has_pip(python: Path) -> bool:
    return bool(ask_version(python, "import pip; print(*pip.__version__.split('.')[:2])"))


def has_torch(python: Path) -> bool:
    """Whether an interpreter that isn't ours has a torch that is new enough to be kept."""
    return installed_torch(python)[:2] >= KEPT_TORCH


def installed_torch(python: Path) -> tuple[int, ...]:
    """The version of an interpreter's torch; empty where it has none."""
    return ask_version(python, TORCH_VERSION)


def ask_version(python: Path, code: str) -> tuple[int, ...]:
    """The version that `code` prints when `python` runs it; empty when it doesn't."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        answer = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True)
        return tuple(int(part) for part in answer.stdout.split())
    return ()
