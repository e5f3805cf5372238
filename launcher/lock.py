"""One installation at a time."""

from __future__ import annotations

import contextlib
import errno
import sys
import time
from collections.abc import Iterator

from launcher.home import Home
from launcher.telling import say


@contextlib.contextmanager
def only_one(home: Home) -> Iterator[None]:
    """Hold the installation's lock; a second start waits for the first to finish."""
    with (home.state / "lock").open("a+") as lock:
        if not try_lock(lock.fileno()):
            say("hayate: another start is installing; waiting for it\n")
            while not try_lock(lock.fileno()):
                time.sleep(1)
        yield


def try_lock(file: int) -> bool:
    """Take the lock if nobody holds it; it ends with the process."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Anything else means that locks don't work on this disk: better to go on than to wait for ever.
        return error.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
    return True
