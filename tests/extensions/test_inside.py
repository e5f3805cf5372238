"""A hook that does not come back is ended by an exception, and nothing of ours is."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from hayate.errors import Cancelled
from hayate.extensions.inside import Inside, Stopped
from hayate.extensions.inside import inside as of_process
from hayate.extensions.session import Session
from hayate.extensions.standing import Hook
from tests.extensions.folders import session_in, write_extension

PATIENCE_S = 20.0


@pytest.fixture
def hook(tmp_path: Path) -> Hook:
    write_extension(tmp_path, "slow", "", {"prompts": {"it": "act"}})
    return Session.open(tmp_path, tmp_path / "data").hooks("prompts")[0]


class Running:
    """Something that runs in a thread of its own, and what became of it."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.outcome: object = None
        self.is_inside = threading.Event()
        self._work = work
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self.is_inside.wait(PATIENCE_S)

    def ended(self) -> object:
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        return self.outcome

    def _run(self) -> None:
        try:
            self.outcome = self._work()
        except BaseException as error:  # noqa: BLE001 - what came is the outcome
            self.outcome = type(error)


def spin(begun: Callable[[], Running]) -> None:
    running = begun()
    while True:
        running.is_inside.set()


def started(run: Callable[[Callable[[], Running]], object]) -> Running:
    """`run` in a thread, told how to find what it is."""
    made: list[Running] = []
    there = threading.Event()

    def begun() -> Running:
        assert there.wait(PATIENCE_S)
        return made[0]

    class Named(Running):
        def __init__(self) -> None:
            made.append(self)
            there.set()
            super().__init__(lambda: run(begun))

    return Named()


def test_a_loop_without_end_is_ended(hook: Hook) -> None:
    inside = Inside()
    running = started(lambda begun: inside.run(hook, lambda: spin(begun)))
    inside.stop()
    assert running.ended() is Stopped
    assert inside.stuck() == ()


def test_what_catches_every_exception_does_not_catch_it(hook: Hook) -> None:
    inside = Inside()

    def stubborn(begun: Callable[[], Running]) -> None:
        while True:
            try:
                spin(begun)
            except Exception:  # noqa: BLE001 - as authors write it
                continue

    running = started(lambda begun: inside.run(hook, lambda: stubborn(begun)))
    inside.stop()
    assert running.ended() is Stopped


def test_one_that_waits_in_c_is_known_to_be_stuck(hook: Hook) -> None:
    inside, goes_on = Inside(), threading.Lock()
    goes_on.acquire()

    def waits(begun: Callable[[], Running]) -> None:
        begun().is_inside.set()
        goes_on.acquire()

    running = started(lambda begun: inside.run(hook, lambda: waits(begun)))
    assert inside.stuck() == ()
    inside.stop()
    assert inside.stuck() == (hook,)
    goes_on.release()
    assert running.ended() is Stopped
    assert inside.stuck() == ()


def test_nothing_is_thrown_into_what_a_hook_calls_of_ours(hook: Hook) -> None:
    inside, goes_on = Inside(), threading.Event()

    def paint(begun: Callable[[], Running]) -> str:
        begun().is_inside.set()
        assert goes_on.wait(PATIENCE_S)
        return "painted"

    running = started(lambda begun: inside.run(hook, lambda: inside.ours(paint, begun)))
    inside.stop()
    assert inside.stuck() == ()
    goes_on.set()
    assert running.ended() == "painted"


def test_whoever_is_in_no_hook_is_left_in_peace(hook: Hook) -> None:
    inside = Inside()
    assert inside.run(hook, lambda: 3) == 3
    assert inside.ours(lambda: 4) == 4
    inside.stop()
    assert sum(range(100_000)) == 4_999_950_000


def test_a_visit_is_over_wherever_the_exception_reaches_it(hook: Hook) -> None:
    """At every place of a visit where one can come, another thread stops what runs: nothing is left of it, or follows.

    CPython looks for exceptions of other threads at a function's start and after a call of C.
    """
    places, outcome, is_over = 0, "", False
    while not is_over:
        inside, outcome, is_over = visited(hook, stopped_at=places)
        assert outcome in ("whole", "stopped")
        assert inside.stuck() == ()
        assert inside.run(hook, lambda: 3) == 3
        places += 1
    assert outcome == "whole"
    assert places > 10


def visited(hook: Hook, *, stopped_at: int) -> tuple[Inside, str, bool]:
    """What a visit gives that is stopped at one of its places, and whether it has fewer."""
    inside, left = Inside(), stopped_at
    stopper = threading.Thread(target=inside.stop)

    def look(_: FrameType, event: str, __: object) -> None:
        nonlocal left
        if event in ("call", "c_return"):
            if left == 0:
                stopper.start()
                stopper.join(0.01)  # not for ever: it waits where the visit holds the lock
            left -= 1

    def visit(begun: Callable[[], Running]) -> str:
        begun().is_inside.set()
        sys.setprofile(look)
        try:
            assert inside.run(hook, lambda: len(str(10**200)) == 201)
            outcome = "whole"
        except Stopped:
            outcome = "stopped"
        sys.setprofile(None)
        return outcome

    outcome = str(started(visit).ended())
    if is_over := stopper.ident is None:
        stopper.start()
    stopper.join(PATIENCE_S)
    return inside, outcome, is_over


def test_a_hook_may_ask_whether_its_job_was_cancelled() -> None:
    of_process.check()
    of_process.cancel()
    try:
        with pytest.raises(Cancelled):
            of_process.check()
    finally:
        of_process.cancel(False)
    of_process.check()


def test_the_extension_of_an_ended_hook_is_left_out_and_named(tmp_path: Path) -> None:
    write_extension(tmp_path, "slow", "", {"prompts": {"it": "act"}})
    with session_in(tmp_path, tmp_path / "data") as session:
        (hook,) = session.hooks("prompts")
        running = started(lambda begun: session.call(hook, lambda: spin(begun)))
        of_process.stop()
        assert running.ended() is Cancelled
        assert session.problems()["slow"] == "its prompts it did not end when the job was cancelled"
        assert session.hooks("prompts") == ()


def test_one_that_failed_elsewhere_is_left_out_here(tmp_path: Path) -> None:
    write_extension(tmp_path, "slow", "", {"prompts": {"it": "act"}})
    with session_in(tmp_path, tmp_path / "data") as session:
        session.leave_out({"slow": "it did not end", "gone": "it failed"})
        assert (session.hooks("prompts"), session.failed()) == ((), {"slow": "it did not end"})
