"""What the routes of A1111's API share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from anyio import CapacityLimiter, to_thread

from hayate.jobs.desk import Desk
from hayate.server.a1111.names import Names
from hayate.server.a1111.tasks import Tasks
from hayate.server.listings import Listings
from hayate.server.preferences import Preferences
from hayate.settings import Settings

CLIENT = "a1111"
HEAVY_THREADS = 4

_T = TypeVar("_T")


class Serving(Protocol):
    """What the API has to know of how the server was started."""

    @property
    def port(self) -> int: ...

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        ...

    @property
    def has_page(self) -> bool: ...

    @property
    def may_stop(self) -> bool:
        """Whether callers may end the server."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The desk, the user's folders, and what was chosen."""

    desk: Desk
    settings: Settings
    preferences: Preferences
    listings: Listings
    tasks: Tasks
    serving: Serving
    heavy: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(HEAVY_THREADS))

    async def beside(self, work: Callable[..., _T], *arguments: Any) -> _T:
        """What `work` makes of the arguments, beside the loop: pictures in base64, files, and the queue's disk.

        It has threads of its own, so that hundreds of callers can't take those that answer small questions.
        """
        return await to_thread.run_sync(lambda: work(*arguments), limiter=self.heavy)

    def names(self) -> Names:
        """Names for one call, which gathers its own notes."""
        return Names(self.listings, substitutes=self.settings.a1111_unknown_names == "substitute")
