"""What an interrupted --rebuild-venv left, put right or removed."""

from __future__ import annotations

import os
from pathlib import Path

from launcher import swap
from launcher.home import Home
from launcher.lock import try_lock
from launcher.telling import say


def mend(place: Path) -> None:
    """Put the environment in its place, where an exchange of it was interrupted."""
    if swap.recover(place):
        say("hayate: the environment is in its place again, after an interrupted --rebuild-venv\n")


def tidy(home: Home) -> None:
    """Remove what an interrupted --rebuild-venv left, of a gigabyte or more; one that goes on keeps what it makes.

    Cost: where nothing is left, two looks.
    """
    place = home.place
    if place is None:
        return
    left = [each for each in (swap.side(place), swap.before(place)) if os.path.lexists(each)]
    if not left or not home.state.is_dir():
        return
    with (home.state / "lock").open("a+") as lock:
        if not try_lock(lock.fileno()):
            return
        for each in left:
            try:
                swap.remove(each)
                say(f"hayate: removed {each}, which an interrupted --rebuild-venv had left\n")
            except swap.StrangerError:
                pass  # somebody else's, and in nobody's way
            except OSError as error:
                say(f"note: an interrupted --rebuild-venv left {each}, which can't be removed: {error.strerror}\n")
