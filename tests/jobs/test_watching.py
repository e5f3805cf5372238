"""Who looks, and that the worker is told once when that changes."""

from __future__ import annotations

from hayate.jobs.watching import LOOKED_S, Watching


def test_the_worker_is_told_of_changes_and_of_nothing_else() -> None:
    now, told = [0.0], []
    watching = Watching(told.append, clock=lambda: now[0])
    watching.again()
    assert told == []
    watching.looked()
    watching.looked()
    assert told == [True]
    now[0] = LOOKED_S - 0.1
    watching.again()
    assert told == [True]
    now[0] = LOOKED_S + 0.1
    watching.again()
    assert told == [True, False]
    watching.readers(True)
    now[0] = 1000.0
    watching.again()
    assert told == [True, False, True]
    watching.forgotten()  # a new worker
    assert told == [True, False, True, True]
    watching.readers(False)
    assert told == [True, False, True, True, False]
