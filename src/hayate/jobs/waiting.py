"""Who waits for the end of a job: told once, when it is there, and asked nothing meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from hayate.jobs.records import JobRecord


class Waiting:
    """Asynchronous callers by the job that they wait for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._futures: dict[str, list[asyncio.Future[JobRecord]]] = {}

    async def wait(self, id_: str, look: Callable[[], JobRecord]) -> JobRecord:
        """The job when it has ended; `look` gives it as it is. Raises: what `look` raises."""
        future: asyncio.Future[JobRecord] = asyncio.get_running_loop().create_future()
        with self._lock:
            self._futures.setdefault(id_, []).append(future)
        try:
            job = look()  # after the place is taken, so that an end in between is not missed
            return job if job.state.is_terminal else await future
        finally:
            with self._lock:
                left = [each for each in self._futures.get(id_, ()) if each is not future]
                if left:
                    self._futures[id_] = left
                else:
                    self._futures.pop(id_, None)

    def ended(self, job: JobRecord) -> None:
        """From any thread: `job` has ended."""
        with self._lock:
            futures = tuple(self._futures.get(job.id, ()))
        for future in futures:
            loop = future.get_loop()
            if not loop.is_closed():
                loop.call_soon_threadsafe(_settle, future, job)

    def give_up(self, error: Exception) -> None:
        """From any thread: nothing more will end here."""
        with self._lock:
            futures = [each for those in self._futures.values() for each in those]
        for future in futures:
            loop = future.get_loop()
            if not loop.is_closed():
                loop.call_soon_threadsafe(_fail, future, error)


def _fail(future: asyncio.Future[JobRecord], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def _settle(future: asyncio.Future[JobRecord], job: JobRecord) -> None:
    if not future.done():
        future.set_result(job)
