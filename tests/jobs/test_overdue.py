"""A cancelled job that goes on: a hook of it is ended, then given up, and our own steps never are."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hayate.extensions.inside import Stopped, inside
from hayate.extensions.session import Session
from hayate.extensions.standing import Hook
from hayate.jobs.overdue import Overdue
from hayate.jobs.signals import Signals
from tests.extensions.folders import write_extension

PATIENCE_S = 0.02
LIMIT_S = 20.0
JOB = "job"


class Counted(Signals):
    """Signals that end the job by themselves when they were looked at so often."""

    def __init__(self, most_looks: int) -> None:
        super().__init__()
        self.looks, self._most_looks = 0, most_looks
        self.has_ended = threading.Event()

    def is_running(self, job: str) -> bool:
        self.looks += 1
        if self.looks > self._most_looks:
            self.end(job)
        if super().is_running(job):
            return True
        if job == JOB:
            self.has_ended.set()
        return False


@pytest.fixture
def hook(tmp_path: Path) -> Iterator[Hook]:
    write_extension(tmp_path, "slow", "", {"prompts": {"it": "act"}})
    yield Session.open(tmp_path, tmp_path / "data").hooks("prompts")[0]
    inside.cancel(False)


def waiting(hook: Hook, goes_on: threading.Lock, *, is_in_ours: bool = False) -> threading.Thread:
    """A thread that waits in C, in an extension's hook or in what that has called of ours."""
    is_there = threading.Event()

    def wait() -> None:
        is_there.set()
        with goes_on:
            pass

    def visit() -> None:
        try:
            inside.run(hook, lambda: inside.ours(wait) if is_in_ours else wait())
        except Stopped:
            return

    thread = threading.Thread(target=visit, daemon=True)
    thread.start()
    assert is_there.wait(LIMIT_S)
    return thread


def test_a_hook_that_nothing_ends_is_given_up_once(hook: Hook) -> None:
    given_up: list[tuple[str, Hook]] = []
    signals, goes_on = Counted(most_looks=10**6), threading.Lock()

    def give_up(job: str, which: Hook) -> None:
        given_up.append((job, which))
        signals.end(job)

    signals.begin(JOB)
    overdue = Overdue(PATIENCE_S, signals, give_up)
    with goes_on:
        thread = waiting(hook, goes_on)
        overdue.watch("another")
        for _ in range(3):  # as by somebody who clicks again
            overdue.watch(JOB)
        assert signals.has_ended.wait(LIMIT_S)
    thread.join(LIMIT_S)
    assert given_up == [(JOB, hook)]


def test_our_own_steps_are_left_in_peace(hook: Hook) -> None:
    given_up: list[Hook] = []
    signals, goes_on = Counted(most_looks=6), threading.Lock()
    signals.begin(JOB)
    overdue = Overdue(PATIENCE_S, signals, lambda job, which: given_up.append(which))
    with goes_on:
        thread = waiting(hook, goes_on, is_in_ours=True)
        overdue.watch(JOB)
        assert signals.has_ended.wait(LIMIT_S)
    thread.join(LIMIT_S)
    assert (given_up, thread.is_alive()) == ([], False)


def test_whoever_ends_a_job_first_ends_it_alone() -> None:
    signals = Signals()
    signals.begin(JOB)
    assert [signals.end("other"), signals.end(JOB), signals.end(JOB)] == [False, True, False]
