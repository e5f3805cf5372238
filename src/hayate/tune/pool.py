"""Workers at arm's length: each answer has a time by which it must be there."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import TracebackType
from typing import Any

import numpy as np

from hayate.errors import HayateError
from hayate.extensions.handed import hand_over
from hayate.tune.trial import Task, Trial

WORKER = (sys.executable, "-m", "hayate.tune.worker")
GRACE_S = 5.0


class TrialFailed(HayateError):
    """A configuration crashed, hung, or refused to work."""


class Worker:
    """One process that tries configurations; it is started when it is needed, and again after each that ended badly."""

    def __init__(self, command: Sequence[str] = WORKER, environment: Mapping[str, str] | None = None) -> None:
        """The process is told which extensions act here, as its last word."""
        self._command = [*command, hand_over()]
        self._environment = environment
        self._process: subprocess.Popen[str] | None = None
        self._complaint: Any = None
        self.starts = 0

    def trial(self, task: Task, limit_s: float) -> Trial:
        """What came of a task.

        Raises: TrialFailed with the reason.
        """
        return Trial(**self._ask(task, limit_s))

    def reference(self, task: Task, limit_s: float) -> np.ndarray:
        """The pictures of fp32 eager. Shapes: → [B, H, W, 3] uint8.

        Raises: TrialFailed.
        """
        return np.load(self._ask(task, limit_s)["pictures"], allow_pickle=False)

    def stop(self) -> None:
        """Ends what is being tried, from another thread than the one that waits for it: that trial has failed."""
        process = self._process
        if process is not None:
            _kill(process)

    def close(self) -> None:
        """Ends the process, whatever it does."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError):
            if process.stdin:
                process.stdin.close()
        _kill(process)
        self._complaint.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, task: Task, limit_s: float) -> dict[str, Any]:
        if limit_s <= 0:
            raise TrialFailed("no time is left for it")
        process = self._started()
        assert process.stdin
        assert process.stdout
        is_late = threading.Event()

        def stop() -> None:
            is_late.set()
            _kill(process)

        timer = threading.Timer(limit_s, stop)
        timer.start()
        try:
            with contextlib.suppress(BrokenPipeError):  # what it said before it ended counts
                process.stdin.write(json.dumps(asdict(task)) + "\n")
                process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = ""
        finally:
            timer.cancel()
        if not line:
            reason = f"it took longer than {limit_s:.0f} s" if is_late.is_set() else self._last_words(process)
            self.close()
            raise TrialFailed(reason)
        return _content(line)

    def _started(self) -> subprocess.Popen[str]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.close()
        self.starts += 1
        self._complaint = tempfile.TemporaryFile(  # noqa: SIM115 - closed with the process
            "w+", encoding="utf-8", errors="replace"
        )
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaint,
            text=True,
            env=None if self._environment is None else dict(self._environment),
            start_new_session=True,
        )
        return self._process

    def _last_words(self, process: subprocess.Popen[str]) -> str:
        try:
            code = process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            return "it closed its output"
        self._complaint.seek(0)
        lines = [line.strip() for line in self._complaint.read()[-4000:].splitlines() if line.strip()]
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"it crashed with {how}" + (f": {lines[-1][:200]}" if lines else "")


def _content(line: str) -> dict[str, Any]:
    try:
        words = json.loads(line)
    except ValueError:
        raise TrialFailed("its answer can't be understood") from None
    if "refused" in words:
        raise TrialFailed(str(words["refused"]))
    return words["trial"]


def _kill(process: subprocess.Popen[str]) -> None:
    """Ends a process and all that it has started."""
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_S)
