"""What others want of the running job: set by one thread, looked at by the one that works, at every step."""

from __future__ import annotations

import threading
from collections.abc import Callable

from hayate.errors import Cancelled
from hayate.pipeline.stops import Skipped


class Signals:
    """The wishes of whoever watches; those for another job than the running one do nothing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._job = ""
        self._is_cancelled = self._is_skipped = False
        self._on_cancel: Callable[[], None] | None = None
        self.is_watched = False

    def begin(self, job: str) -> None:
        """From here on `job` is the one that runs."""
        with self._lock:
            self._job, self._is_cancelled, self._is_skipped, self._on_cancel = job, False, False, None

    def end(self, job: str) -> bool:
        """No job runs; whether it is the caller who ends this one: nobody does so twice."""
        with self._lock:
            if job != self._job:
                return False
            self._job = ""
            return True

    def is_running(self, job: str) -> bool:
        return job == self._job

    def cancel(self, job: str) -> None:
        """Ends a job at its next step."""
        with self._lock:
            if job != self._job:
                return
            self._is_cancelled, wake = True, self._on_cancel
        if wake is not None:
            wake()

    def skip(self, job: str) -> None:
        """Gives up its batch at the next step."""
        with self._lock:
            self._is_skipped |= job == self._job

    def on_cancel(self, wake: Callable[[], None]) -> None:
        """Calls `wake`, from another thread, when the job is cancelled: for work that has no steps of its own."""
        with self._lock:
            self._on_cancel = wake
            is_late = self._is_cancelled
        if is_late:
            wake()

    @property
    def is_cancelled(self) -> bool:
        return self._is_cancelled

    def check(self) -> None:
        """Raises: Cancelled. Cost: nothing."""
        if self._is_cancelled:
            raise Cancelled("the job was cancelled", hint="what was finished is kept")

    def check_step(self) -> None:
        """Raises: Cancelled, Skipped."""
        self.check()
        if self._is_skipped:
            with self._lock:
                self._is_skipped = False
            raise Skipped
