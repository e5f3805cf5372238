"""The workers: which of them gets the next job, and what becomes of what they say."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hayate.errors import JobError
from hayate.extensions.current import current
from hayate.jobs.events import Events
from hayate.jobs.messages import Am, Begin, Cancel, Clear, Doing, Ended, Hello, LeftOut, Report, Showing, Skip, Watch
from hayate.jobs.place import Place, best
from hayate.jobs.process import COMMAND
from hayate.jobs.queue import Queue
from hayate.jobs.records import JobRecord, Preview, Progress, WorkerPhase, WorkerState
from hayate.jobs.shares import settings_of_workers
from hayate.jobs.summary import summary_of
from hayate.jobs.tidying import RESULTS, forget_results
from hayate.jobs.waiting import Waiting
from hayate.jobs.watching import Watching
from hayate.jobs.wire import as_object

TRY_AGAIN_S = 1.0


class Crew:
    """A worker for each device, all at one queue; any thread may call anything."""

    def __init__(self, folder: Path, hello: Hello, waiting: Waiting, *, command: Sequence[str] = COMMAND) -> None:
        """`hello` is what each worker is told at its start, but for its share of the settings.

        Raises: UnknownName, UsageError for devices that can't be.
        """
        self._folder, self._waiting = folder, waiting
        self._watching = Watching(self._say_watched)
        self.events = Events(self._watching.readers)
        self.on_ended: Callable[[], None] = lambda: None
        """Called after each job's end."""
        self._lock = threading.RLock()
        self._has_changed = threading.Condition(self._lock)
        self._queue: Queue | None = None
        self._is_closing = False
        self._previews = 0
        self._places = tuple(
            Place(
                number,
                folder,
                replace(hello, settings=settings),
                on_report=self._hear,
                on_end=self._worker_ended,
                command=tuple(command),
            )
            for number, settings in enumerate(settings_of_workers(hello.settings))
        )

    def start(self, queue: Queue, first: tuple[str, str | None] | None) -> None:
        """Starts all workers; `first` are the model and the VAE that they bring into memory, None where they know."""
        self._queue = queue
        for place in self._places:
            if first is not None:
                place.supervisor.pour_first(*first)
            place.supervisor.start()

    def finish(self, grace_s: float) -> None:
        """Begins nothing more; what runs may finish for a while, then it goes back, and the workers end."""
        with self._has_changed:
            self._is_closing = True
            self._has_changed.wait_for(lambda: all(place.running is None for place in self._places), grace_s)
        closing = [threading.Thread(target=place.supervisor.close) for place in self._places]
        for each in closing:
            each.start()
        for each in closing:
            each.join()

    def dispatch(self) -> None:
        """Hands the next jobs to workers that are free."""
        while self._has_begun():
            pass

    def say(self, command: Cancel | Skip) -> None:
        """Tells the worker that has the job of a command, if one has."""
        with self._lock:  # behind the command that begins it
            for place in self._places:
                if place.running is not None and place.running.id == command.job:
                    place.supervisor.say(command)

    def announce(self, job: JobRecord) -> None:
        """A job has ended: whoever waits for it is told."""
        self.events.publish(job.id, job.state.value, summary_of(job))
        self._waiting.ended(job)

    def progress(self, job: str | None) -> Progress | None:
        """Of a job, if it runs; without one of the job that has run longest."""
        self._watching.looked()
        with self._lock:
            running = [(place.running, place) for place in self._places if place.running is not None]
            if job is not None:
                return next((place.shown() for record, place in running if record.id == job), None)
            oldest = min(running, key=lambda each: each[0].started_s or 0.0, default=None)
            return None if oldest is None else oldest[1].shown()

    def states(self) -> tuple[WorkerState, ...]:
        """What each worker is at."""
        return tuple(place.supervisor.state for place in self._places)

    async def ask(self, question: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """The answer of the first worker that is there. Raises: WorkerAway, HayateError."""
        there = (place for place in self._places if place.supervisor.state.phase is not WorkerPhase.DOWN)
        return await next(there, self._places[0]).supervisor.ask(question, arguments)

    def _say_watched(self, is_watched: bool) -> None:
        for place in self._places:
            place.supervisor.say(Watch(is_watched=is_watched))

    def _has_begun(self) -> bool:
        """Begins the next job, where one waits and a worker is free for it."""
        with self._lock:
            free = [] if self._is_closing else [place for place in self._places if place.is_free]
            if not free:
                return False
            assert self._queue is not None, "the workers are not started"
            try:
                job = self._queue.claim()
            except JobError:  # the disk is full
                self._soon(self.dispatch)
                return False
            if job is None:
                return False
            results = self._folder / RESULTS / job.id
            if job.attempt > 1:
                forget_results(self._folder, job.id)  # of the attempt that crashed
            place = best(free, job)
            place.begin(job)
            self.events.publish(job.id, "started", summary_of(job))  # before anything can come of it
            place.supervisor.say(Begin(job=job.id, kind=job.kind, body=job.body, results=str(results)))
            return True

    def _hear(self, place: Place, report: Report) -> None:
        """What a worker says, in its order."""
        if isinstance(report, Am):
            self._worker_is(place, report.state)
        elif isinstance(report, Doing):
            with self._lock:
                place.progress = report.progress
            self.events.publish(report.progress.job, "progress", as_object(report.progress))
            self._watching.again()
        elif isinstance(report, Showing):
            with self._lock:
                self._previews += 1
                place.preview = Preview(number=self._previews, jpeg=base64.b64decode(report.jpeg))
            self.events.publish(report.job, "preview", {"number": place.preview.number})
        elif isinstance(report, LeftOut):
            current().leave_out({report.extension: report.problem})  # the page and the checks of jobs know it too
            for other in self._but(place):
                other.supervisor.leave_out(report)
        elif isinstance(report, Ended):
            self._job_ended(place, report)

    def _worker_is(self, place: Place, state: WorkerState) -> None:
        with self._lock:
            place.is_idle = state.phase is WorkerPhase.IDLE
        self.events.publish("", "worker", as_object(place.supervisor.state))
        if state.phase is WorkerPhase.IMPORTING:
            self._watching.forgotten()
        self.dispatch()

    def _job_ended(self, place: Place, ended: Ended) -> None:
        assert self._queue is not None
        place.supervisor.has_done_something()
        try:
            job = self._queue.finish(ended.job, ended.state, result=ended.result, failure=ended.failure)
        except JobError:  # the disk is full: the result is kept here until there is room, and nothing else is begun
            self._soon(lambda: self._job_ended(place, ended))
            return
        if job.kind == "unload":
            self._clear_but(place)
        self._let_go(place)
        self.announce(job)
        self.dispatch()
        self.on_ended()

    def _clear_but(self, done: Place) -> None:
        """All others give up their models, too."""
        with self._lock:
            for place in self._places:
                place.forget()
                if place is not done:
                    place.supervisor.say(Clear())

    def _worker_ended(self, place: Place, reason: str) -> None:
        """A worker is gone, and perhaps a job with it."""
        with self._lock:
            place.is_idle = False
            place.forget()
        self._take_back(place, reason)
        self.events.publish("", "worker", as_object(place.supervisor.state))

    def _take_back(self, place: Place, reason: str) -> None:
        """The job whose worker has ended waits once more, or has failed."""
        if (running := place.running) is None:
            return
        assert self._queue is not None
        try:
            job = self._queue.put_back(running.id) if self._is_closing else self._queue.crashed(running.id, reason)
        except JobError:  # the disk is full
            self._soon(lambda: self._take_back(place, reason))
            return
        self._let_go(place)
        if job.state.is_terminal:
            self.announce(job)
        else:
            self.events.publish(job.id, "queued", summary_of(job))
        self.dispatch()

    def _let_go(self, place: Place) -> None:
        with self._has_changed:
            place.let_go()
            self._has_changed.notify_all()

    def _but(self, place: Place) -> tuple[Place, ...]:
        return tuple(other for other in self._places if other is not place)

    def _soon(self, again: Callable[[], None]) -> None:
        """Tries once more what the disk did not take; at the end it is left to the next start."""
        if not self._is_closing:
            timer = threading.Timer(TRY_AGAIN_S, again)
            timer.daemon = True
            timer.start()
