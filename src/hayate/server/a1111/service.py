"""What the routes of A1111's API share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from hayate.jobs.desk import Desk
from hayate.server.a1111.names import Names
from hayate.server.a1111.tasks import Tasks
from hayate.server.library import Library
from hayate.server.preferences import Preferences
from hayate.settings import Settings

CLIENT = "a1111"


class Serving(Protocol):
    """What the API has to know of how the server was started."""

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
    library: Library
    tasks: Tasks
    serving: Serving

    def names(self) -> Names:
        """Names for one call, which gathers its own notes."""
        return Names(self.library, substitutes=self.settings.a1111_unknown_names == "substitute")
