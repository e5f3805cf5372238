"""Which threads are in an extension's code, and how one is fetched from there that does not come back by itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from hayate.errors import Cancelled
from hayate.extensions.standing import Hook

Result = TypeVar("Result")


class Stopped(BaseException):
    """Thrown into a hook whose job was cancelled; not an Exception, lest the extension catches it."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Visit:
    """A call into somebody's code: an extension's hook, or what that calls of ours, which is None."""

    hook: Hook | None
    is_stopped: bool = False


class Inside:
    """The visits of every thread, each within the one before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._visits: dict[int, list[_Visit]] = {}
        self._is_cancelled = False

    def run(self, hook: Hook | None, work: Callable[[], Result]) -> Result:
        """What `work` gives, which is a hook's code, or ours (None) where a hook calls it.

        Raises: Stopped, where `stop` has ended it.
        """
        thread = threading.get_ident()
        depth = len(self._visits.get(thread, ()))
        # An exception of another thread's may come from the middle of entering to the middle of leaving.
        try:
            try:
                self._enter(thread, hook)
                return work()
            finally:
                self._leave(thread, depth)
        finally:
            self._leave(thread, depth)  # the first one was left where it had come to; none comes after that

    def ours(self, work: Callable[..., Result], *words: object) -> Result:
        """`work`, which is ours, wherever it is called: nothing is thrown into it."""
        return self.run(None, lambda: work(*words)) if threading.get_ident() in self._visits else work(*words)

    def stop(self) -> None:
        """Throws `Stopped` into every hook that is at work now; one that waits in C hears of it when that returns."""
        with self._lock:  # no thread comes or goes meanwhile: it finds the exception here, or has left
            for thread, visits in self._visits.items():
                if (visit := visits[-1]).hook is not None and not visit.is_stopped:
                    visit.is_stopped = True
                    throw(thread, Stopped)

    def stuck(self) -> tuple[Hook, ...]:
        """The hooks that were stopped and are at work still."""
        with self._lock:
            tops = [visits[-1] for visits in self._visits.values()]
            return tuple(visit.hook for visit in tops if visit.hook is not None and visit.is_stopped)

    def cancel(self, is_cancelled: bool = True) -> None:
        """Lets `check` of whoever is inside raise, or no more."""
        self._is_cancelled = is_cancelled

    def check(self) -> None:
        """For hooks that take their time. Raises: Cancelled."""
        if self._is_cancelled:
            raise Cancelled("the job was cancelled", hint="what was finished is kept")

    def _enter(self, thread: int, hook: Hook | None) -> None:
        with self._lock:
            self._visits.setdefault(thread, []).append(_Visit(hook=hook))

    def _leave(self, thread: int, depth: int) -> None:
        """Ends the visits from a depth on, with what was thrown into them and has not come yet."""
        with self._lock:
            visits = self._visits.get(thread, [])
            if any(visit.is_stopped for visit in visits[depth:]):
                self._take(thread)
            del visits[depth:]
            if not visits:
                self._visits.pop(thread, None)

    def _take(self, thread: int) -> None:
        """Receives here what may be on its way to this thread.

        It is thrown once more, in place of one that has not come. Taken back, it would leave CPython 3.11 looking for
        it at every call from then on, and caught for ever in the first one that a debugger traces.
        """
        try:
            throw(thread, Stopped)
            while True:
                pass
        except Stopped:
            pass


def throw(thread: int, kind: type[BaseException]) -> None:
    """Raises an exception in a thread at its next line of Python, in place of one that has not come yet."""
    import ctypes  # only now: nobody else needs it

    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(kind))


inside = Inside()
"""Of this process."""
