"""Cancelled jobs that go on: what they wait for is ended, by an exception, or else with the process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from hayate.extensions.inside import inside
from hayate.extensions.standing import Hook
from hayate.jobs.signals import Signals


class Overdue:
    """Looks after each cancelled job until it has ended.

    Our own code looks at the cancel at every step and is left in peace, however long a step takes; extensions may never
    come back.
    """

    def __init__(self, patience_s: float, signals: Signals, give_up: Callable[[str, Hook], None]) -> None:
        """`give_up` is told the job and the hook that nothing ends."""
        self._patience_s, self._signals, self._give_up = patience_s, signals, give_up
        self._watched = ""

    def watch(self, job: str) -> None:
        """Begins to look after a job, once, however often it is cancelled; one that does not run is none of its."""
        if job == self._watched or not self._signals.is_running(job):
            return
        self._watched = job
        inside.cancel()
        threading.Thread(target=self._watch, args=(job,), name="overdue", daemon=True).start()

    def _watch(self, job: str) -> None:
        while True:
            time.sleep(self._patience_s)
            if not self._signals.is_running(job):
                return
            for hook in inside.stuck():
                self._give_up(job, hook)
            inside.stop()
