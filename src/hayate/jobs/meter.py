"""How far a job is: counted from the loop's rows, told a few times a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from hayate.jobs.records import Progress
from hayate.jobs.signals import Signals
from hayate.pipeline.stops import Skipped

TOLD_EVERY_S = 0.1
WEIGHT = 0.3
"""Of the newest row in the mean of their seconds."""


class Meter:
    """Counts the rows of one job, which is one request or, by a script, several alike; and asks whether to go on."""

    def __init__(
        self,
        job: str,
        tell: Callable[[Progress], None],
        signals: Signals,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._job, self._tell, self._signals, self._clock = job, tell, signals, clock
        self._runs, self._run = 1, 0
        self._passes: Sequence[int] = (1,)
        self._batches, self._batch, self._pass = 1, 0, 0
        self._done = self._rows = 0
        self._row_s: float | None = None
        self._row_at = self._told_at = float("-inf")
        self._phase = ""
        self._share = 0.0
        self._details: dict[str, Any] = {}

    def expect(self, runs: int) -> None:
        """So many requests will be made."""
        self._runs = runs

    def phase(self, name: str) -> None:
        """Something else begins. Raises: Cancelled."""
        self._signals.check()
        self._say(name)

    def share(self, share: float, name: str = "") -> None:
        """For work without rows. Raises: Cancelled."""
        self._signals.check()
        self._share = max(self._share, min(share, 1.0))
        self._say(name or self._phase)

    def details(self, **details: Any) -> None:
        """What else is to be said, from now on."""
        self._details |= details
        self._told_at = float("-inf")
        self._say(self._phase)

    def loaded(self, passes: Sequence[int], batches: int) -> None:
        """The rows of each pass over a batch are known; the first of them comes when the prompts are encoded."""
        self._passes, self._batches = passes or (1,), batches
        self._batch = self._pass = self._done = self._rows = 0
        self.phase("encoding")

    def row(self, done: int, rows: int) -> None:
        """The loop's call after each row. Raises: Cancelled, Skipped."""
        now = self._clock()
        if done == 1 and self._rows and self._done == self._rows:
            self._next_pass()
        elif done > 1:
            took_s = now - self._row_at
            self._row_s = took_s if self._row_s is None else WEIGHT * took_s + (1 - WEIGHT) * self._row_s
        self._row_at, self._done, self._rows = now, done, rows
        self._count()
        is_last = done == rows
        self._say(("decoding" if self._pass + 1 >= len(self._passes) else "upscaling") if is_last else "sampling")
        try:
            self._signals.check_step()
        except Skipped:
            self._batch, self._pass, self._done, self._rows = self._batch + 1, 0, 0, 0
            raise

    def run_done(self) -> None:
        """One request is made. Raises: Cancelled."""
        self._run += 1
        self._batch = self._pass = self._done = self._rows = 0
        self._share = max(self._share, min(1.0, self._run / self._runs))
        self.phase("saving")

    def _next_pass(self) -> None:
        self._pass += 1
        if self._pass >= len(self._passes):
            self._pass, self._batch = 0, self._batch + 1

    def _count(self) -> None:
        """A stage that is done again, in a wider type, counts twice; the share never goes back for it."""
        whole = sum(self._passes) * self._batches
        rows = self._batch * sum(self._passes) + sum(self._passes[: self._pass]) + self._done
        self._share = max(self._share, (self._run + min(rows, whole) / whole) / self._runs)

    @property
    def _rows_left(self) -> float:
        return (1 - self._share) * sum(self._passes) * self._batches * self._runs

    def _say(self, phase: str) -> None:
        now = self._clock()
        if phase == self._phase and now - self._told_at < TOLD_EVERY_S:
            return
        self._phase, self._told_at = phase, now
        self._tell(
            Progress(
                job=self._job,
                phase=phase,
                row=self._done,
                rows=self._rows or self._passes[0],
                picture=min(self._batch, self._batches) + self._run * self._batches,
                pictures=self._batches * self._runs,
                share=round(self._share, 4),
                it_per_s=round(1 / self._row_s, 3) if self._row_s else None,
                eta_s=round(self._rows_left * self._row_s, 2) if self._row_s else None,
                details=dict(self._details),
            )
        )
