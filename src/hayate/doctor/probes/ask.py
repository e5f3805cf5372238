"""Asking another program, which may be missing, slow or broken."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

LIMIT_S = 5.0


class Unanswered(Exception):
    """The program is missing, failed or took too long; the text says which."""


def ask(command: Sequence[str], limit_s: float = LIMIT_S) -> str:
    """What the program prints.

    Raises: Unanswered.
    """
    name = Path(command[0]).name
    try:
        done = subprocess.run(
            list(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Unanswered(f"{name} did not answer within {limit_s:g} s") from error
    except OSError as error:
        raise Unanswered(f"{name} could not be run: {error.strerror}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise Unanswered(f"{name} ended with {done.returncode}: {said[-1][:160] if said else 'nothing said'}")
    return done.stdout


def homely(path: Path) -> str:
    """A path without the name of its owner: below the home folder it begins with `~`."""
    home = Path.home()
    return f"~/{path.relative_to(home).as_posix()}" if path.is_relative_to(home) and path != home else str(path)


def read_text(path: str | Path) -> str:
    """A small file of the system's, empty where there is none."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
