"""A desk without a worker: it does its jobs when it is told to, and remembers them in memory."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import threading
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hayate.errors import KeyReused, QueueFull, ShuttingDown, UnknownJob, UnknownName, UsageError
from hayate.jobs.records import (
    Event,
    JobRecord,
    NewJob,
    Picture,
    PictureRecord,
    Preview,
    Progress,
    Result,
    State,
    WorkerPhase,
    WorkerState,
)

KINDS = ("generate", "upscale", "merge", "convert", "duplicates", "bench", "tune", "load", "unload")


class StubDesk:
    """Implements `jobs.desk.Desk`; `begin` and `finish` stand for the worker, as `auto` does by itself."""

    def __init__(self, folder: Path, *, room: int = 1000, auto: bool = False) -> None:
        self.folder = folder
        self.room = room
        self.auto = auto
        self.records: dict[str, JobRecord] = {}
        self.remembered: list[Event] = []
        self.listeners: list[tuple[asyncio.AbstractEventLoop, asyncio.Queue[Event], str | None, bool]] = []
        self.running: Progress | None = None
        self.state = WorkerState(phase=WorkerPhase.IDLE, pid=1, seconds={"import": 1.5}, model="built-in")
        self.others: tuple[WorkerState, ...] = ()
        """Workers of further devices."""
        self.is_closed = False
        self.closings = 0
        self.looks = 0
        """How often somebody asked for the progress."""
        self._lock = threading.RLock()
        self._numbers = itertools.count(1)

    def start(self) -> None:
        (self.folder / "inputs").mkdir(parents=True, exist_ok=True)

    async def close(self, grace_s: float) -> None:
        assert grace_s >= 0
        self.is_closed = True
        self.closings += 1

    def submit(self, new: NewJob) -> JobRecord:
        with self._lock:
            if self.is_closed:
                raise ShuttingDown("the server is about to end", hint="send it again later")
            for record in self.records.values():
                if new.key is not None and record.key == new.key:
                    if dict(record.body) != dict(new.body):
                        raise KeyReused("another job has this key", hint="take another key")
                    return record
            if new.kind not in KINDS:
                raise UnknownName("kind of job", new.kind, KINDS)
            if len(self.queued()) >= self.room:
                raise QueueFull("too many jobs wait", hint="send it again later")
            record = self._record(new)
            self._keep(record, "queued")
            if self.auto:
                self.begin(record.id)
                self.finish(record.id)
            return self.records[record.id]

    def job(self, id_: str) -> JobRecord:
        if id_ not in self.records:
            raise UnknownJob("no job has this id")
        return self.records[id_]

    def jobs(
        self, *, states: Collection[State] = (), kinds: Collection[str] = (), before: str = "", limit: int = 100
    ) -> Sequence[JobRecord]:
        found = [
            each
            for each in reversed(self.records.values())
            if (not states or each.state in states)
            and (not kinds or each.kind in kinds)
            and (not before or each.id < before)
        ]
        return found[:limit]

    def queued(self) -> Sequence[JobRecord]:
        waiting = [each for each in self.records.values() if each.state is State.QUEUED]
        return sorted(waiting, key=lambda each: (-each.priority, each.id))

    def count(self, state: State) -> int:
        return sum(each.state is state for each in self.records.values())

    def pictures(
        self, *, before: int | None = None, limit: int = 100, only_saved: bool = True
    ) -> Sequence[PictureRecord]:
        made = [(each.id, picture) for each in self.records.values() if each.result for picture in each.result.pictures]
        found = [PictureRecord(number=number, job=job, picture=picture) for number, (job, picture) in enumerate(made)]
        wanted = [
            each for each in found if (before is None or each.number < before) and each.picture.is_saved >= only_saved
        ]
        return wanted[::-1][:limit]

    def cancel(self, id_: str) -> JobRecord:
        with self._lock:
            if not self.job(id_).state.is_terminal:
                self._end(id_, State.CANCELLED)
            return self.job(id_)

    def skip(self, id_: str) -> JobRecord:
        return self.job(id_)

    def delete(self, id_: str) -> None:
        if not self.job(id_).state.is_terminal:
            raise UsageError("the job has not ended", hint="cancel it first")
        del self.records[id_]

    async def wait(self, id_: str) -> JobRecord:
        while not self.job(id_).state.is_terminal:
            await asyncio.sleep(0.01)
        return self.job(id_)

    async def events(
        self, job: str | None = None, *, after: int | None = None, watches: bool = True
    ) -> AsyncIterator[Event]:
        queue: asyncio.Queue[Event] = asyncio.Queue()
        listener = (asyncio.get_running_loop(), queue, job, watches)
        with self._lock:
            if after is not None:
                for event in self.remembered:
                    if event.number > after and job in (None, event.job):
                        queue.put_nowait(event)
            self.listeners.append(listener)
            is_over = job is not None and self.job(job).state.is_terminal
        try:
            while not (is_over and queue.empty()):
                event = await queue.get()
                yield event
                is_over = is_over or (job is not None and event.kind in ("done", "failed", "cancelled"))
        finally:
            self.listeners.remove(listener)

    def progress(self, job: str | None = None) -> Progress | None:
        self.looks += 1
        return self.running if self.running is not None and job in (None, self.running.job) else None

    def workers(self) -> Sequence[WorkerState]:
        return (self.state, *self.others)

    async def ask(self, question: str, /, **arguments: Any) -> Mapping[str, Any]:
        return {"question": question, **arguments}

    def keep_input(self, data: bytes) -> Path:
        if not data.startswith(b"\x89PNG"):
            raise UsageError("not a picture", hint="send PNG, JPEG or WebP")
        path = self.folder / "inputs" / f"{hashlib.sha256(data).hexdigest()}.png"
        path.write_bytes(data)
        return path

    @property
    def watchers(self) -> int:
        """How many listen who are not only counting."""
        return sum(watches for *_, watches in self.listeners)

    # ------------------------------------------------------------------------------------------------ the worker

    def begin(self, id_: str) -> None:
        """The worker takes a job."""
        with self._lock:
            record = replace(self.job(id_), state=State.RUNNING, attempt=1, started_s=time.time())
            self.running = Progress(job=id_, phase="sampling", row=1, rows=2, share=0.5, it_per_s=12.5)
            self._keep(record, "started")

    def step(self, id_: str, *, jpeg: bytes = b"") -> None:
        """The worker is a step further."""
        preview = Preview(number=1, jpeg=jpeg) if jpeg else None
        self.running = Progress(job=id_, phase="sampling", row=2, rows=2, share=1.0, it_per_s=12.5, preview=preview)
        self._tell(id_, "progress", {"share": 1.0})

    def finish(self, id_: str, pictures: tuple[Picture, ...] = ()) -> None:
        """The worker is done with a job."""
        self._end(id_, State.DONE, Result(pictures=pictures, facts={"seconds": {"sampling": 0.1}}))

    def _end(self, id_: str, state: State, result: Result | None = None) -> None:
        with self._lock:
            if self.running is not None and self.running.job == id_:
                self.running = None
            self._keep(replace(self.job(id_), state=state, ended_s=time.time(), result=result), state.value)

    def _record(self, new: NewJob) -> JobRecord:
        return JobRecord(
            id=f"{len(self.records) + 1:026d}",
            kind=new.kind,
            body=dict(new.body),
            priority=new.priority,
            key=new.key,
            client=new.client,
            state=State.QUEUED,
            attempt=0,
            created_s=time.time(),
            started_s=None,
            ended_s=None,
            result=None,
            failure=None,
        )

    def _keep(self, record: JobRecord, what: str) -> None:
        self.records[record.id] = record
        self._tell(record.id, what, {"state": record.state.value})

    def _tell(self, job: str, kind: str, data: Mapping[str, Any]) -> None:
        event = Event(number=next(self._numbers), job=job, kind=kind, data=data)
        with self._lock:
            self.remembered.append(event)
            for loop, queue, wanted, _ in self.listeners:
                if wanted in (None, job):
                    loop.call_soon_threadsafe(queue.put_nowait, event)
