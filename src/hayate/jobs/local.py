"""The desk of a server whose workers are on the same machine."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hayate.errors import JobError, ShuttingDown
from hayate.flags import TakenFlags
from hayate.jobs.crew import Crew
from hayate.jobs.inputs import Inputs, names_of
from hayate.jobs.lock import InstanceLock
from hayate.jobs.messages import Cancel, Hello, Skip
from hayate.jobs.process import COMMAND
from hayate.jobs.queue import MOST_WAITING, Queue
from hayate.jobs.records import Event, JobRecord, NewJob, PictureRecord, Progress, State, WorkerState
from hayate.jobs.summary import summary_of
from hayate.jobs.tidying import forget_results, tidy
from hayate.jobs.waiting import Waiting
from hayate.settings import Settings
from hayate.weights.folders import BUILT_IN

FOLDER = "server"
TIDY_EVERY = 200
"""Jobs."""
TIDY_AFTER_S = 1.0
"""So that it is in nobody's way at the start."""


class LocalDesk:
    """`jobs.desk.Desk` over a SQLite queue and worker processes, one per device."""

    def __init__(
        self,
        settings: Settings,
        *,
        model: str | None = None,
        vae: str | None = None,
        flags: TakenFlags | None = None,
        command: Sequence[str] = COMMAND,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        """`model` and `vae` are brought into memory at the start, without them those of the newest picture.

        `flags` are A1111's, which every job's plan follows where the job does not ask otherwise.
        Raises: UnknownName, UsageError for devices that can't be.
        """
        self.folder = settings.data_dir.absolute() / FOLDER
        self.settings = settings
        self._has_model = model is not None
        self._instance, self._most_waiting = InstanceLock(self.folder), most_waiting
        self._inputs = Inputs(self.folder)
        self._waiting = Waiting()
        acting = {} if flags is None else flags.acting
        hello = Hello(settings=settings, model=model, vae=vae, flags=acting)
        self._crew = Crew(self.folder, hello, self._waiting, command=command)
        self._crew.on_ended = self._count_ended
        self._lock, self._tidying = threading.Lock(), threading.Lock()
        self._opened: Queue | None = None
        self._is_closing = False
        self._ended = 0

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the start."""
        return self._queue.notes

    def start(self) -> None:
        self._instance.take()
        try:
            self._opened = Queue(self.folder, most_waiting=self._most_waiting)
        except BaseException:
            self._instance.release()
            raise
        self._queue.recover()
        self._crew.start(self._queue, None if self._has_model else self._last_model())
        self._tidy_soon()

    async def close(self, grace_s: float) -> None:
        self._is_closing = True
        await asyncio.to_thread(self._crew.finish, grace_s)
        self._waiting.give_up(ShuttingDown("the server ends", hint="the job waits for its next start"))
        self._crew.events.close()
        with self._tidying:
            self._queue.close()
        self._instance.release()

    def submit(self, new: NewJob) -> JobRecord:
        if self._is_closing:
            raise ShuttingDown("the server is about to end", hint="try again when it is back")
        from hayate.jobs.bodies import body_object, read_body  # NumPy and Pillow: the page does not wait for them

        body = read_body(new.kind, new.body)
        new = replace(new, body=body_object(body))
        if (known := self._queue.known(new)) is not None:
            return known  # unchecked: what it needed then may be gone, or what it makes be there
        body.check(self.settings, self._inputs.folder)
        job, is_new = self._queue.add(new, names_of(body.inputs()))
        if is_new:
            self._crew.events.publish(job.id, "queued", summary_of(job))
            self._crew.dispatch()
        return job

    def job(self, id_: str) -> JobRecord:
        return self._queue.job(id_)

    def jobs(
        self, *, states: Collection[State] = (), kinds: Collection[str] = (), before: str = "", limit: int = 100
    ) -> Sequence[JobRecord]:
        return self._queue.jobs(states=states, kinds=kinds, before=before, limit=limit)

    def queued(self) -> Sequence[JobRecord]:
        return self._queue.queued()

    def count(self, state: State) -> int:
        return self._queue.count(state)

    def pictures(
        self, *, before: int | None = None, limit: int = 100, only_saved: bool = True
    ) -> Sequence[PictureRecord]:
        return self._queue.pictures(before=before, limit=limit, only_saved=only_saved)

    def cancel(self, id_: str) -> JobRecord:
        job, has_ended = self._queue.cancel(id_)
        if has_ended:
            self._crew.announce(job)
        elif job.state is State.RUNNING:
            self._crew.say(Cancel(job=id_))
        return job

    def skip(self, id_: str) -> JobRecord:
        job = self._queue.job(id_)
        self._crew.say(Skip(job=id_))
        return job

    def delete(self, id_: str) -> None:
        self._queue.delete(id_)
        forget_results(self.folder, id_)

    async def wait(self, id_: str) -> JobRecord:
        return await self._waiting.wait(id_, lambda: self._queue.job(id_))

    def events(self, job: str | None = None, *, after: int | None = None, watches: bool = True) -> AsyncIterator[Event]:
        events = self._crew.events

        def missed() -> Event | None:
            ended = None if job is None else self._queue.job(job)
            if ended is None or not ended.state.is_terminal:
                return None
            return Event(number=events.number, job=ended.id, kind=ended.state.value, data=summary_of(ended))

        return events.read(job, after, missed, watches=watches)

    def progress(self, job: str | None = None) -> Progress | None:
        return self._crew.progress(job)

    def workers(self) -> Sequence[WorkerState]:
        return self._crew.states()

    async def ask(self, question: str, /, **arguments: Any) -> Mapping[str, Any]:
        return await self._crew.ask(question, arguments)

    def keep_input(self, data: bytes) -> Path:
        return self._inputs.keep(data)

    @property
    def _queue(self) -> Queue:
        assert self._opened is not None, "the desk is not started"
        return self._opened

    def _last_model(self) -> tuple[str, str | None] | None:
        """The model and the VAE of the newest picture, if there is one."""
        for job in self._queue.jobs(states=(State.DONE,), kinds=("generate",), limit=1):
            request = job.body["request"]
            return request.get("model") or BUILT_IN, request.get("vae")
        return None

    def _count_ended(self) -> None:
        with self._lock:
            self._ended += 1
            is_time = self._ended % TIDY_EVERY == 0
        if is_time:
            self._tidy_soon()

    def _tidy_soon(self) -> None:
        timer = threading.Timer(TIDY_AFTER_S, self._tidy)
        timer.daemon = True
        timer.start()

    def _tidy(self) -> None:
        import hayate.jobs.bodies  # noqa: F401 - so that the first job finds it loaded

        with self._tidying:
            if not self._is_closing:
                with contextlib.suppress(OSError, JobError):  # another time
                    tidy(self.folder, self._queue, self._inputs, self.settings.outputs_dir)
