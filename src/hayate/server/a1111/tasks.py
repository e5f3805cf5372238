"""The names that callers give their calls (`force_task_id`), and the jobs that these became."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

from hayate.jobs.desk import Desk
from hayate.jobs.records import JobRecord, State

MOST_TASKS = 10_000


class Tasks:
    """Which job a task is; the latest of a name counts, and the oldest names are forgotten.

    A name is no idempotency key: callers use one again for another picture.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._lock = threading.Lock()
        self._jobs: OrderedDict[str, str] = OrderedDict()

    def remember(self, task: str, job: str) -> None:
        """A task has become a job."""
        with self._lock:
            self._jobs[task] = job
            self._jobs.move_to_end(task)
            while len(self._jobs) > MOST_TASKS:
                self._jobs.popitem(last=False)

    def find(self, task: str) -> JobRecord:
        """The job of a task, or the one that has this id.

        Raises: UnknownJob.
        """
        with self._lock:
            id_ = self._jobs.get(task, task)
        return self._desk.job(id_)

    def name(self, job: str) -> str:
        """What the caller calls a job, else its id."""
        with self._lock:
            return next((task for task, id_ in reversed(self._jobs.items()) if id_ == job), job)

    def pending(self) -> Sequence[str]:
        """The tasks that run or wait, in their order."""
        running = self._desk.jobs(states=(State.RUNNING,))
        with self._lock:
            names = {job: task for task, job in self._jobs.items()}
        return [names.get(each.id, each.id) for each in (*running, *self._desk.queued())]
