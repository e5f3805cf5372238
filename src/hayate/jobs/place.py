"""A worker's place at the desk: what it is at, and which of several fits a job best."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from hayate.jobs.messages import Hello, Report
from hayate.jobs.process import log_name
from hayate.jobs.records import JobRecord, Preview, Progress
from hayate.jobs.supervisor import Supervisor
from hayate.weights.folders import BUILT_IN


class Place:
    """One worker and its job; whoever changes it holds the desk's lock."""

    def __init__(
        self,
        number: int,
        folder: Path,
        hello: Hello,
        *,
        on_report: Callable[[Place, Report], None],
        on_end: Callable[[Place, str], None],
        command: tuple[str, ...],
    ) -> None:
        """`number` counts from 0; the callbacks are told which place it was."""
        self.supervisor = Supervisor(
            folder,
            replace(hello, log_name=log_name(number)),
            lambda report: on_report(self, report),
            lambda reason: on_end(self, reason),
            command=command,
        )
        self.running: JobRecord | None = None
        self.progress: Progress | None = None
        self.preview: Preview | None = None
        self.is_idle = False
        self._model: str | None = None

    @property
    def is_free(self) -> bool:
        """Whether a job can be begun here."""
        return self.is_idle and self.running is None

    def begin(self, job: JobRecord) -> None:
        """The job runs here from now on."""
        self.running, self.is_idle, self.preview = job, False, None
        self.progress = Progress(job=job.id, phase="starting")
        self._model = model_of(job) or self._model

    def let_go(self) -> None:
        """Nothing runs here."""
        self.running = self.progress = None

    def forget(self) -> None:
        """No model is in memory here any more."""
        self._model = None

    def shown(self) -> Progress | None:
        """How far the job is, with its preview."""
        return None if self.progress is None else replace(self.progress, preview=self.preview)

    def fits(self, job: JobRecord) -> int:
        """How well: 2 where its model was the last one here, 1 where there was none, 0 where it was another."""
        return 2 if self._model == model_of(job) else int(self._model is None)


def best(places: Iterable[Place], job: JobRecord) -> Place:
    """Of places that are free the one that fits a job best, else the first."""
    return max(places, key=lambda place: place.fits(job))


def model_of(job: JobRecord) -> str | None:
    """The model that a job needs; None where it needs none, or loads it for itself."""
    if job.kind not in ("generate", "load"):
        return None
    return (job.body if job.kind == "load" else job.body["request"]).get("model") or BUILT_IN
