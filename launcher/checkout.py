"""The newest version of a git checkout, where nothing of the user's stands in its way."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

LIMIT_S = 600


class NotUpdatedError(Exception):
    """Why the files stay as they are."""


def update(folder: Path, git: str) -> bool:
    """Takes over what the branch's upstream has; whether that was anything.

    Raises: NotUpdatedError where it is no clean checkout, has commits of its own, or can't be reached.
    """
    if not (folder / ".git").exists():
        raise NotUpdatedError("it is no git checkout")
    if _git(folder, git, "status", "--porcelain", "--untracked-files=no"):
        raise NotUpdatedError("files of it were changed; `git stash` puts the changes aside")
    was = _git(folder, git, "rev-parse", "HEAD")
    _git(folder, git, "pull", "--ff-only", "--quiet")
    return _git(folder, git, "rev-parse", "HEAD") != was


def _git(folder: Path, git: str, *words: str) -> str:
    """What git answers. Raises: NotUpdatedError with its last line."""
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    command = [git, "-C", str(folder), *words]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", env=environment, timeout=LIMIT_S, check=False
        )
    except FileNotFoundError:
        raise NotUpdatedError(f"{git} was not found; GIT names another one") from None
    except (OSError, subprocess.SubprocessError) as error:
        raise NotUpdatedError(f"git {words[0]}: {error}") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith(("fatal:", "error:"))]
        raise NotUpdatedError(f"git {words[0]}: {(lines or done.stderr.splitlines() or ['failed'])[0]}")
    return done.stdout.strip()
