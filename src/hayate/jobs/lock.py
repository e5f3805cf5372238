"""One server to a folder: a lock that the system takes back when its holder ends, however that is."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import IO

from hayate.errors import OutputError, UsageError

FILE_NAME = "lock"


class InstanceLock:
    """Held from `take` to `release`, or to the end of the process."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self._file: IO[str] | None = None

    def take(self) -> None:
        """Raises: UsageError where another instance has it, OutputError where there can be none."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.path.open("a+", encoding="utf-8")
        except OSError as error:
            hint = "see the setting data_dir"
            raise OutputError(f"{self.path} can't be written: {error.strerror}", hint=hint) from error
        try:
            _lock(file)
        except OSError as error:
            file.seek(0)
            holder = file.read(20).strip()
            file.close()
            who = f"process {holder}" if holder.isdigit() else "another process"
            hint = f"use the one that is running, end {who}, or set HAYATE_DATA_DIR to another folder"
            raise UsageError(f"Hayate is running already, as {who}", hint=hint) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        self._file = file

    def release(self) -> None:
        """Lets another instance have it. The file stays: removing it would let two have one each."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.truncate(0)
            self._file.close()
            self._file = None


def _lock(file: IO[str]) -> None:
    """Raises: OSError where somebody else has it."""
    if sys.platform == "win32":
        import msvcrt

        file.seek(2**20)  # a byte beyond the text, which others may read
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        file.seek(0)
    else:
        import fcntl

        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
