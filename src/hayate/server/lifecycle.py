"""The server's own life: that it was asked to end, and who waits to hear of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

from hayate.server.startup import Startup

Item = TypeVar("Item")


class Lifecycle:
    """From the start of serving to its end; `end` may be called from any thread, and more than once."""

    def __init__(self, startup: Startup | None = None) -> None:
        self.startup = startup or Startup()
        self.stop: Callable[[], None] | None = None
        """How a caller of the API ends the whole process; None where that is not allowed."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = asyncio.Event()

    def begin(self) -> None:
        """Serving begins in the running loop."""
        self._loop = asyncio.get_running_loop()

    def end(self) -> None:
        """Streams of events end, and no new ones begin."""
        if self._loop is None or self._loop.is_closed():
            self._ended.set()
        else:
            self._loop.call_soon_threadsafe(self._ended.set)

    @property
    def is_ending(self) -> bool:
        return self._ended.is_set()

    async def until_end(
        self, items: AsyncIterator[Item], opening: Callable[[], Awaitable[Item]] | None = None
    ) -> AsyncGenerator[Item, None]:
        """What `items` gives, until it ends or the server does.

        `opening` gives an item before them; it is asked once they are listened to, so that nothing is lost between.
        """
        end = asyncio.create_task(self._ended.wait())
        coming = asyncio.ensure_future(anext(items))
        try:
            if opening is not None:
                await asyncio.sleep(0)
                yield await opening()
            while not self.is_ending:
                await asyncio.wait({coming, end}, return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    return
                try:
                    item = coming.result()
                except StopAsyncIteration:
                    return
                coming = asyncio.ensure_future(anext(items))
                yield item
        finally:
            end.cancel()
            await _give_up(items, coming)


async def _give_up(items: AsyncIterator[Any], coming: asyncio.Future[Any]) -> None:
    """Closes an iterator; a step of it that is still awaited has to end first."""
    coming.cancel()
    with suppress(asyncio.CancelledError, StopAsyncIteration):
        await coming
    close = getattr(items, "aclose", None)
    if close is not None:
        await close()
