"""What happens, told to whoever listens: from any thread, to any number of asynchronous readers, none of whom waits."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

from hayate.jobs.records import Event

REMEMBERED = 2000
"""Events that a reader who comes back can still be told."""
MOST_UNREAD = 1000
"""Of a reader that is slow; the oldest are left out then."""
LAST_KINDS = frozenset({"done", "failed", "cancelled"})
"""With these a job's events end."""


class Events:
    """The events of a server's life, numbered."""

    def __init__(self, on_readers: Callable[[bool], None] = lambda has_readers: None) -> None:
        """`on_readers` is told when the first reader comes and when the last one goes."""
        self._lock = threading.Lock()
        self._remembered: deque[Event] = deque(maxlen=REMEMBERED)
        self._readers: set[_Reader] = set()
        self._on_readers = on_readers
        self._number = 0
        self._is_closed = False

    def publish(self, job: str, kind: str, data: Mapping[str, Any]) -> None:
        """Tells everybody whom it concerns. Cost: one call for each of them."""
        with self._lock:
            self._number += 1
            event = Event(number=self._number, job=job, kind=kind, data=data)
            self._remembered.append(event)
            for reader in self._readers:
                if reader.job in (None, job):
                    reader.give(event)

    async def read(
        self,
        job: str | None,
        after: int | None,
        missed: Callable[[], Event | None] = lambda: None,
        *,
        watches: bool = True,
    ) -> AsyncIterator[Event]:
        """Events of one job or of all, from now on or after a number; those of one job end with its last.

        Who only counts does not watch: it is no reader that `on_readers` is told of.
        `missed` is asked, once the reader is there, for the last event of a job that has ended already.
        """
        reader = _Reader(job, asyncio.get_running_loop(), watches=watches)
        try:
            for event in self._join(reader, after):
                yield event
                if job is not None and event.kind in LAST_KINDS:
                    return
            ended = missed()
            if ended is not None:
                yield ended
                return
            async for event in reader.events():
                yield event
                if job is not None and event.kind in LAST_KINDS:
                    return
        finally:
            self._leave(reader)

    @property
    def number(self) -> int:
        """Of the newest event."""
        return self._number

    def close(self) -> None:
        """All readers come to their end, and those to come as well."""
        with self._lock:
            self._is_closed = True
            for reader in self._readers:
                reader.give(None)

    def _join(self, reader: _Reader, after: int | None) -> Iterable[Event]:
        """What is remembered for a new reader."""
        with self._lock:
            self._readers.add(reader)
            is_first = reader.watches and self._watchers() == 1
            if self._is_closed:
                reader.give(None)
            found = [] if after is None else [each for each in self._remembered if each.number > after]
        if is_first:
            self._on_readers(True)
        return [event for event in found if reader.job in (None, event.job)]

    def _leave(self, reader: _Reader) -> None:
        with self._lock:
            was_there = reader in self._readers
            self._readers.discard(reader)
            is_last = was_there and reader.watches and not self._watchers()
        if is_last:
            self._on_readers(False)

    def _watchers(self) -> int:
        return sum(reader.watches for reader in self._readers)


class _Reader:
    """One who listens, in its own loop."""

    def __init__(self, job: str | None, loop: asyncio.AbstractEventLoop, *, watches: bool) -> None:
        self.job, self.watches = job, watches
        self._loop = loop
        self._unread: deque[Event | None] = deque(maxlen=MOST_UNREAD)
        self._is_woken = asyncio.Event()

    def give(self, event: Event | None) -> None:
        """From any thread; None is the end."""
        self._unread.append(event)
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._is_woken.set)

    async def events(self) -> AsyncIterator[Event]:
        while True:
            await self._is_woken.wait()
            self._is_woken.clear()
            while self._unread:
                event = self._unread.popleft()
                if event is None:
                    return
                yield event
