"""Work beside the sampling: pictures become files in a thread of their own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

Result = TypeVar("Result")


class Worker(Generic[Result]):
    """Does one thing after another in a thread, in the order in which they are put.

    Leaving the `with` block waits for all that was put, whatever made us leave: on Ctrl-C and after an error too, no
    finished picture is lost. Errors come out in order, the first one at the next `put` or at the end; what was put
    behind it is still tried, since it is another picture.
    """

    def __init__(self, *, waiting: int = 8) -> None:
        """`waiting` is how many things may be unfinished when `put` returns: pictures that are held in memory."""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="save")
        self._futures: deque[Future[Result]] = deque()
        self._waiting = waiting
        self._results: list[Result] = []
        self._errors: list[BaseException] = []

    @property
    def results(self) -> tuple[Result, ...]:
        """What came of everything that is done, in order."""
        return tuple(self._results)

    def put(self, work: Callable[[], Result]) -> None:
        """Queues `work`, waiting while too much is queued.

        Raises: the first error of what was put before; `work` is done nevertheless.
        """
        self._futures.append(self._thread.submit(work))
        while self._futures and (len(self._futures) > self._waiting or self._futures[0].done()):
            self._take()
        if self._errors:
            raise self._errors.pop(0)

    def __enter__(self) -> Worker[Result]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=True)
        while self._futures:
            self._take()
        if error is not None:
            for each in self._errors:
                error.add_note(f"while saving: {each}")
        elif self._errors:
            raise self._errors[0]

    def _take(self) -> None:
        future = self._futures.popleft()
        failure = future.exception()
        if failure is None:
            self._results.append(future.result())
        else:
            self._errors.append(failure)
