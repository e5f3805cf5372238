"""Whether somebody looks at the previews: the worker is told when that changes, and makes none for nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

LOOKED_S = 10.0
"""How long whoever asked for the progress counts as looking."""


class Watching:
    """Readers of events look for as long as they listen; who asks for the progress looks for a while."""

    def __init__(self, tell: Callable[[bool], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        """`tell` is called when somebody begins to look, and when nobody does any more."""
        self._tell, self._clock = tell, clock
        self._lock = threading.Lock()
        self._has_readers = self._is_told = False
        self._looked_at = float("-inf")

    def readers(self, has_readers: bool) -> None:
        """There are readers now, or none."""
        self._has_readers = has_readers
        self.again()

    def looked(self) -> None:
        """Somebody has asked for the progress."""
        self._looked_at = self._clock()
        self.again()

    def forgotten(self) -> None:
        """A new worker was told nothing."""
        with self._lock:
            self._is_told = False
        self.again()

    def again(self) -> None:
        """Tells if it has changed; time alone may have done that."""
        with self._lock:
            is_watched = self._has_readers or self._clock() - self._looked_at < LOOKED_S
            if is_watched != self._is_told:
                self._is_told = is_watched
                self._tell(is_watched)
