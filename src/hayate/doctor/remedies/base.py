"""What every remedy can: plan, do, undo."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from hayate.doctor.finding import Action
from hayate.doctor.undo import Done
from hayate.errors import OutputError
from hayate.weights.hashes import file_stamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was done, in one sentence, and what the undoing compares with."""

    text: str
    after: dict[str, str] = field(default_factory=lambda: {"done": "yes"})


class Remedy(Protocol):
    """One way of fixing something. Whatever a step raises, nothing of the user's is lost."""

    def plan(self, action: Action) -> Done:
        """All that undoing will need; nothing is changed yet.

        Raises: HayateError where it can't be done.
        """
        ...

    def do(self, done: Done) -> Outcome:
        """Raises: HayateError; then everything is as before."""
        ...

    def undo(self, done: Done) -> str:
        """Takes back what was done, also half of it, and says so in one sentence.

        Raises: UsageError where the user has changed it since: then it stays.
        """
        ...


def stamp(path: Path) -> str:
    """What changes when a file does; empty where there is none."""
    with contextlib.suppress(OSError):
        return " ".join(map(str, file_stamp(path)))
    return ""


def move(path: Path, target: Path) -> None:
    """Moves a file where nothing is yet, if need be to another disk.

    Raises: OutputError.
    """
    if target.exists():
        raise OutputError(f"{target} is there already", hint="move it away")
    try:
        make(target.parent)
        shutil.move(path, target)
    except OSError as error:
        raise OutputError(f"{path} can't be moved to {target}: {error.strerror}", hint="check permissions") from error


def make(folder: Path) -> None:
    """Raises: OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} can't be made: {error.strerror}", hint="check its permissions") from error


def expanded(text: str) -> Path:
    """The path of a fact, which has `~` for the home folder, as the system takes it."""
    return Path(os.path.expanduser(text)).absolute()  # noqa: PTH111
