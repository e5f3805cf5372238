"""The desk of a server with one worker on the same machine."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hayate.errors import JobError, ShuttingDown
from hayate.extensions.current import current
from hayate.flags import TakenFlags
from hayate.jobs.events import Events
from hayate.jobs.inputs import Inputs, names_of
from hayate.jobs.lock import InstanceLock
from hayate.jobs.messages import Am, Begin, Cancel, Doing, Ended, Hello, LeftOut, Report, Showing, Skip, Watch
from hayate.jobs.process import COMMAND
from hayate.jobs.queue import MOST_WAITING, Queue
from hayate.jobs.records import (
    Event,
    JobRecord,
    NewJob,
    PictureRecord,
    Preview,
    Progress,
    State,
    WorkerPhase,
    WorkerState,
)
from hayate.jobs.summary import summary_of
from hayate.jobs.supervisor import Supervisor
from hayate.jobs.tidying import RESULTS, forget_results, tidy
from hayate.jobs.waiting import Waiting
from hayate.jobs.watching import Watching
from hayate.jobs.wire import as_object
from hayate.settings import Settings
from hayate.weights.folders import BUILT_IN

FOLDER = "server"
TIDY_EVERY = 200
"""Jobs."""
TIDY_AFTER_S = 1.0
"""So that it is in nobody's way at the start."""
TRY_AGAIN_S = 1.0


class LocalDesk:
    """`jobs.desk.Desk` over a SQLite queue and a worker process."""

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
        """
        self.folder = settings.data_dir.absolute() / FOLDER
        self.settings = settings
        self._has_model = model is not None
        self._instance, self._most_waiting = InstanceLock(self.folder), most_waiting
        self._inputs = Inputs(self.folder)
        self._watching = Watching(lambda is_watched: self._supervisor.say(Watch(is_watched=is_watched)))
        self._events, self._waiting = Events(self._watching.readers), Waiting()
        acting = {} if flags is None else flags.acting
        hello = Hello(settings=settings, model=model, vae=vae, flags=acting)
        self._supervisor = Supervisor(self.folder, hello, self._hear, self._worker_ended, command=command)
        self._lock = threading.RLock()
        self._tidying = threading.Lock()
        self._has_changed = threading.Condition(self._lock)
        self._opened: Queue | None = None
        self._running: JobRecord | None = None
        self._progress: Progress | None = None
        self._preview: Preview | None = None
        self._is_idle = self._is_closing = False
        self._ended = self._previews = 0

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
        if not self._has_model and (last := self._last_model()) is not None:
            self._supervisor.pour_first(*last)
        self._supervisor.start()
        self._tidy_soon()

    async def close(self, grace_s: float) -> None:
        with self._lock:
            self._is_closing = True
        await asyncio.to_thread(self._finish_running, grace_s)
        await asyncio.to_thread(self._supervisor.close)
        self._waiting.give_up(ShuttingDown("the server ends", hint="the job waits for its next start"))
        self._events.close()
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
            self._events.publish(job.id, "queued", summary_of(job))
            self._dispatch()
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
            self._announce(job)
        elif job.state is State.RUNNING:
            with self._lock:  # behind the command that begins it
                self._supervisor.say(Cancel(job=id_))
        return job

    def skip(self, id_: str) -> JobRecord:
        job = self._queue.job(id_)
        with self._lock:
            self._supervisor.say(Skip(job=id_))
        return job

    def delete(self, id_: str) -> None:
        self._queue.delete(id_)
        forget_results(self.folder, id_)

    async def wait(self, id_: str) -> JobRecord:
        return await self._waiting.wait(id_, lambda: self._queue.job(id_))

    def events(self, job: str | None = None, *, after: int | None = None, watches: bool = True) -> AsyncIterator[Event]:
        def missed() -> Event | None:
            ended = None if job is None else self._queue.job(job)
            if ended is None or not ended.state.is_terminal:
                return None
            return Event(number=self._events.number, job=ended.id, kind=ended.state.value, data=summary_of(ended))

        return self._events.read(job, after, missed, watches=watches)

    def progress(self) -> Progress | None:
        self._watching.looked()
        with self._lock:
            return None if self._progress is None else replace(self._progress, preview=self._preview)

    def worker(self) -> WorkerState:
        return self._supervisor.state

    async def ask(self, question: str, /, **arguments: Any) -> Mapping[str, Any]:
        return await self._supervisor.ask(question, arguments)

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

    def _dispatch(self) -> None:
        """Hands the next job to the worker, if it is idle."""
        with self._lock:
            if self._is_closing or not self._is_idle or self._running is not None:
                return
            try:
                job = self._queue.claim()
            except JobError:  # the disk is full
                self._soon(self._dispatch)
                return
            if job is None:
                return
            self._running, self._is_idle, self._preview = job, False, None
            self._progress = Progress(job=job.id, phase="starting")
            results = self.folder / RESULTS / job.id
            if job.attempt > 1:
                forget_results(self.folder, job.id)  # of the attempt that crashed
            self._supervisor.say(Begin(job=job.id, kind=job.kind, body=job.body, results=str(results)))
        self._events.publish(job.id, "started", summary_of(job))

    def _hear(self, report: Report) -> None:
        """What the worker says, in its order."""
        if isinstance(report, Am):
            self._worker_is(report.state)
        elif isinstance(report, Doing):
            with self._lock:
                self._progress = report.progress
            self._events.publish(report.progress.job, "progress", as_object(report.progress))
            self._watching.again()
        elif isinstance(report, Showing):
            with self._lock:
                self._previews += 1
                self._preview = Preview(number=self._previews, jpeg=base64.b64decode(report.jpeg))
            self._events.publish(report.job, "preview", {"number": self._previews})
        elif isinstance(report, LeftOut):
            current().leave_out({report.extension: report.problem})  # the page and the checks of jobs know it too
        elif isinstance(report, Ended):
            self._job_ended(report)

    def _worker_is(self, state: WorkerState) -> None:
        with self._lock:
            self._is_idle = state.phase is WorkerPhase.IDLE
        self._events.publish("", "worker", as_object(self._supervisor.state))
        if state.phase is WorkerPhase.IMPORTING:
            self._watching.forgotten()
        self._dispatch()

    def _job_ended(self, ended: Ended) -> None:
        self._supervisor.has_done_something()
        try:
            job = self._queue.finish(ended.job, ended.state, result=ended.result, failure=ended.failure)
        except JobError:  # the disk is full: the result is kept here until there is room, and nothing else is begun
            self._soon(lambda: self._job_ended(ended))
            return
        self._let_go()
        self._announce(job)
        self._dispatch()
        self._ended += 1
        if self._ended % TIDY_EVERY == 0:
            self._tidy_soon()

    def _worker_ended(self, reason: str) -> None:
        """The worker is gone, and perhaps a job with it."""
        with self._lock:
            self._is_idle = False
        self._take_back(reason)
        self._events.publish("", "worker", as_object(self._supervisor.state))

    def _take_back(self, reason: str) -> None:
        """The job whose worker has ended waits once more, or has failed."""
        if (running := self._running) is None:
            return
        try:
            job = self._queue.put_back(running.id) if self._is_closing else self._queue.crashed(running.id, reason)
        except JobError:  # the disk is full
            self._soon(lambda: self._take_back(reason))
            return
        self._let_go()
        if job.state.is_terminal:
            self._announce(job)
        else:
            self._events.publish(job.id, "queued", summary_of(job))
        self._dispatch()

    def _let_go(self) -> None:
        with self._has_changed:
            self._running = self._progress = None
            self._has_changed.notify_all()

    def _soon(self, again: Callable[[], None]) -> None:
        """Tries once more what the disk did not take; at the end it is left to the next start."""
        if not self._is_closing:
            timer = threading.Timer(TRY_AGAIN_S, again)
            timer.daemon = True
            timer.start()

    def _announce(self, job: JobRecord) -> None:
        self._events.publish(job.id, job.state.value, summary_of(job))
        self._waiting.ended(job)

    def _finish_running(self, grace_s: float) -> None:
        with self._has_changed:
            self._has_changed.wait_for(lambda: self._running is None, grace_s)

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
