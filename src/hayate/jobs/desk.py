"""The one door between the server and the work: jobs go in, and what is known of them comes out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from hayate.jobs.records import Event, JobRecord, NewJob, PictureRecord, Progress, State, WorkerState
from hayate.settings import Settings


class Desk(Protocol):
    """What takes jobs. Everything but `wait`, `events`, `ask` and `close` answers at once, from any thread."""

    @property
    def settings(self) -> Settings:
        """What jobs start from; each may change some for itself."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the start, such as a list of jobs that was damaged."""
        ...

    def start(self) -> None:
        """Opens the queue, takes back what a crash left behind, and starts the workers.

        Raises: UsageError where another instance has the folder.
        """
        ...

    async def close(self, grace_s: float) -> None:
        """Takes no more jobs; the running one may finish for `grace_s` seconds, then it waits for the next start."""
        ...

    def submit(self, new: NewJob) -> JobRecord:
        """Checks and queues a job; one with the key and the body of an earlier one is that one.

        Raises: UsageError for a body that can't be, QueueFull, KeyReused, ShuttingDown.
        """
        ...

    def job(self, id_: str) -> JobRecord:
        """Raises: UnknownJob."""
        ...

    def jobs(
        self, *, states: Collection[State] = (), kinds: Collection[str] = (), before: str = "", limit: int = 100
    ) -> Sequence[JobRecord]:
        """The newest first; `before` is the id that the page before ended with."""
        ...

    def queued(self) -> Sequence[JobRecord]:
        """Those that wait, in the order in which they will be begun."""
        ...

    def count(self, state: State) -> int:
        """How many jobs are in a state."""
        ...

    def pictures(
        self, *, before: int | None = None, limit: int = 100, only_saved: bool = True
    ) -> Sequence[PictureRecord]:
        """What was made, the newest first; `before` is the number that the page before ended with.

        The user may have moved or removed the files.
        """
        ...

    def cancel(self, id_: str) -> JobRecord:
        """Ends a job: one that waits at once, one that runs within a step. One that has ended stays as it is.

        Raises: UnknownJob.
        """
        ...

    def skip(self, id_: str) -> JobRecord:
        """Gives up the picture that is being made, and goes on with the job's next one.

        Raises: UnknownJob.
        """
        ...

    def delete(self, id_: str) -> None:
        """Forgets a job that has ended, and its unsaved pictures.

        Raises: UnknownJob, UsageError while it has not ended.
        """
        ...

    async def wait(self, id_: str) -> JobRecord:
        """The job, when it has ended.

        Raises: UnknownJob.
        """
        ...

    def events(self, job: str | None = None, *, after: int | None = None, watches: bool = True) -> AsyncIterator[Event]:
        """What happens from now on, or after the event `after` as far as it is remembered; ends with the job.

        Previews are made while somebody `watches`; who only counts does not.
        """
        ...

    def progress(self, job: str | None = None) -> Progress | None:
        """Of a job, if it runs; without one of the job that has run longest."""
        ...

    def workers(self) -> Sequence[WorkerState]:
        """What each worker is at; one at least."""
        ...

    async def ask(self, question: str, /, **arguments: Any) -> Mapping[str, Any]:
        """A worker's answer to a question: `plan`, `memory`, `facts`, `inspect` …; also while it is busy, where
        that is cheap, else after the running job. Of several workers the first that is there answers.

        Raises: HayateError.
        """
        ...

    def keep_input(self, data: bytes) -> Path:
        """A picture that jobs will start from, kept under its content's name as long as a job names it.

        Raises: UsageError for what is no PNG, JPEG or WebP, or has too many pixels.
        """
        ...
