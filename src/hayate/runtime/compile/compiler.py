"""Compiled steps, prepared in the background while eager ones serve."""

from __future__ import annotations

import atexit
import logging
import queue
import threading
import weakref
from pathlib import Path

from hayate.errors import HayateError
from hayate.runtime.compile.call import BoundCall
from hayate.runtime.compile.spec import Bucket, CompileRefused, Mode, Sizes, bucket_for
from hayate.runtime.compile.state import CompileState, Stage
from hayate.runtime.compile.workshop import Compiled, CompileOptions, Job, Tools, Workshop
from hayate.runtime.evidence import Evidence

logger = logging.getLogger(__name__)

FAULTS = (HayateError, OSError, RuntimeError, MemoryError)
"""What compiling, loading and running compiled code can raise."""


class Compiler:
    """Hands out compiled steps that are ready, and prepares those that are not, one after the other.

    It outlives engines: a step that was prepared for one checkpoint serves all of its architecture.
    """

    def __init__(self, folder: Path, options: CompileOptions, tools: Tools | None = None) -> None:
        """`folder` keeps the artefacts."""
        self.options = options
        self.workshop = Workshop(folder, options, tools or Tools())
        self._jobs: dict[tuple[str, Bucket], Job] = {}
        self._known: dict[tuple[str, Sizes], Job] = {}
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    def compilations(self) -> int:
        """Compiling processes that were started."""
        return self.workshop.compilations

    def step_for(self, call: BoundCall, sizes: Sizes) -> Compiled | None:
        """The compiled step for a call of these sizes, or None at once while there is none.

        Cost: two look-ups.
        """
        if self.options.mode is Mode.OFF:
            return None
        job = self._known.get((call.key, sizes)) or self._job_for(call, sizes)
        if (loaded := job.loaded) is not None:
            return Compiled(call=call, job=job, loaded=loaded)
        if job.state.stage is Stage.WAITING and not job.is_queued:
            self._begin(job, call)
        return None

    def withdraw(self, step: Compiled, reason: str) -> None:
        """Takes a step that failed at work out of service, for as long as this process runs."""
        logger.warning("the compiled %s is given up: %s", step.job.target.part, reason)
        step.job.reject(reason)

    def state(self, call: BoundCall, sizes: Sizes) -> CompileState:
        """How far the step for these sizes is."""
        job = self._known.get((call.key, sizes))
        return CompileState(stage=Stage.OFF) if job is None else job.state

    def evidence(self) -> tuple[Evidence, ...]:
        """What became of each step that was asked for, and how many calls it served."""
        requested = self.options.mode.value
        with self._changed:
            jobs = list(dict.fromkeys(self._known.values()))
        if not jobs:
            return (Evidence(name="compile", requested=requested, active=False, detail="no step was asked for"),)
        discarded = "; ".join(self.workshop.artefacts.discarded)
        counted = f"compilations: {self.compilations}" + (f"; discarded {discarded}" if discarded else "")
        return (
            *(_evidence_of(job, requested) for job in jobs),
            Evidence(name="compile", requested=requested, active=any(job.served for job in jobs), detail=counted),
        )

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits until nothing is being prepared; whether it came to that."""
        with self._changed:
            return self._changed.wait_for(lambda: not any(job.is_queued for job in self._jobs.values()), timeout_s)

    def close(self) -> None:
        """Ends what is being prepared, with its processes. Adopted steps go on serving."""
        atexit.unregister(self.close)
        self.workshop.stop.set()
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join()

    def _job_for(self, call: BoundCall, sizes: Sizes) -> Job:
        """The job of the bucket of these sizes, which may be known already; a rejected one where there is no bucket."""
        try:
            bucket = bucket_for(call.target, sizes, self.options.exact_shapes)
        except CompileRefused as error:
            job = Job(target=call.target, bucket=Bucket(batch=sizes.batch, area_lat=0), sizes=sizes)
            job.reject(error.message)
        else:
            job = Job(target=call.target, bucket=bucket, sizes=sizes)
            with self._changed:
                job = self._jobs.setdefault((call.key, bucket), job)
        with self._changed:
            return self._known.setdefault((call.key, sizes), job)

    def _begin(self, job: Job, call: BoundCall) -> None:
        with self._changed:
            if job.is_queued or self.workshop.stop.is_set():
                return
            job.call, job.is_queued = weakref.ref(call), True
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._serve, name="compiler", daemon=True)
                self._thread.start()
                atexit.register(self.close)
        self._queue.put(job)

    def _serve(self) -> None:
        """Works through the queue until the compiler is closed."""
        while (job := self._queue.get()) is not None:
            try:
                self.workshop.prepare(job)
            except FAULTS as error:
                job.reject(error.message if isinstance(error, HayateError) else f"{type(error).__name__}: {error}")
            finally:
                self._finish(job)

    def _finish(self, job: Job) -> None:
        if job.state.stage in (Stage.COMPILING, Stage.VERIFIED):  # only an error in this program ends there
            job.reject("preparing it was broken off")
        logger.info("compiled %s, %s: %s", job.target.part, _title(job), job.state)
        with self._changed:
            job.is_queued = False
            self._changed.notify_all()


def _evidence_of(job: Job, requested: str) -> Evidence:
    return Evidence(
        name=f"compile {job.target.part}",
        requested=requested,
        active=job.served > 0,
        detail=f"{_title(job)}: {job.state}; {job.served} calls served",
    )


def _title(job: Job) -> str:
    bucket = job.bucket
    if job.target.part == "text":
        return f"up to {bucket.batch} texts"
    if bucket.exact:
        batch, height, width = bucket.exact
        return f"{batch} × {8 * width}×{8 * height}"
    return f"up to {bucket.batch} inputs of {8 * int(bucket.area_lat**0.5)} pixels squared"
