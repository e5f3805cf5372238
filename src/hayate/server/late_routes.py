"""Routes that are made when they are first asked for: those of the APIs would keep the page waiting for 0.3 s."""

from __future__ import annotations

import threading
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

EARLY = ("/static/", "/healthz", "/readyz", "/metrics", "/ui/status")
"""What a browser loads with the page, and who watches over the process; the page itself is early too."""


class LateRoutes:
    """What makes the rest of the routes, once; safe from any thread."""

    def __init__(self, make: Callable[[], None]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self.are_made = False

    def make(self) -> None:
        """Returns when they are made; whoever comes meanwhile waits for that."""
        with self._lock:
            if not self.are_made:
                self._make()
                self.are_made = True

    def make_after(self, seconds: float) -> None:
        """Makes them in a thread, when the first page has been answered."""
        timer = threading.Timer(seconds, self.make)
        timer.daemon = True
        timer.start()


class MakesLateRoutes:
    """Lets what is early pass, and everything else once all routes are made."""

    def __init__(self, app: ASGIApp, late: LateRoutes) -> None:
        self.app = app
        self.late = late

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self.late.are_made and not _is_early(scope["path"]):
            await run_in_threadpool(self.late.make)
        await self.app(scope, receive, send)


def _is_early(path: str) -> bool:
    return path == "/" or path.startswith(EARLY)
