"""The worker process as the server sees it: started, told, heard, ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from hayate.errors import HayateError
from hayate.jobs.messages import Command, Report, line_of, message_of

COMMAND = (sys.executable, "-m", "hayate.jobs.worker")
MOST_LOG_BYTES = 4 * 2**20
GRACE_S = 3.0
WAITING = {"OMP_WAIT_POLICY": "passive"}
"""PyTorch's threads sleep where they wait for each other. By default they spin, and as soon as anything else wants a
core, a browser for one, they spin for a thread that does not run (docs/decisions/jobs.md). What the user says wins."""


def log_name(number: int) -> str:
    """The name of a worker's log; they count from 0."""
    return "worker.log" if number == 0 else f"worker-{number + 1}.log"


class WorkerProcess:
    """One life of the worker."""

    def __init__(
        self,
        log: Path,
        on_report: Callable[[Report], None],
        *,
        command: Sequence[str] = COMMAND,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`on_report` is called from a thread of this object's own, in order.

        Raises: OSError where it can't be started.
        """
        self._log, self._on_report = log, on_report
        self._lock = threading.Lock()
        with _opened_log(log) as complaints:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                env={**WAITING, **os.environ, **(environment or {})},
            )
        self._reader = threading.Thread(target=self._read, name="worker reports", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def say(self, command: Command) -> None:
        """Sends a command; to a worker that has ended it is lost, which its end tells."""
        assert self._process.stdin is not None
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(line_of(command))
            self._process.stdin.flush()

    def wait(self) -> str:
        """Returns when the worker has ended and all that it said was heard: why, in words."""
        self._process.wait()
        self._reader.join()
        return _reason(self._process.returncode, self._log)

    def end(self, grace_s: float = GRACE_S) -> None:
        """Ends it: by closing its input, and if that does not help, by force."""
        assert self._process.stdin is not None
        with self._lock, contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read(self) -> None:
        """Hears what the worker says, until there is nothing more."""
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                try:
                    report = message_of(line)
                except (HayateError, ValueError, KeyError, TypeError):
                    continue  # half a line of a worker that was killed
                self._on_report(report)


def _opened_log(log: Path) -> IO[bytes]:
    """What the worker and its libraries print goes to the end of it; a long one is begun anew."""
    log.parent.mkdir(parents=True, exist_ok=True)
    is_long = log.exists() and log.stat().st_size > MOST_LOG_BYTES
    return log.open("wb" if is_long else "ab")


def _reason(code: int, log: Path) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            name = signal.Signals(-code).name
            hint = "; the system may have run out of memory" if name == "SIGKILL" else ""
            return f"the worker was ended by {name}{hint}"
    last = _last_line(log)
    return f"the worker ended with code {code}" + (f": {last}" if last else "")


def _last_line(log: Path) -> str:
    with contextlib.suppress(OSError):
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1].strip()[:200] if lines else ""
    return ""
