"""How far a job is, beside the rows that a loop really makes."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hayate.errors import Cancelled
from hayate.jobs.meter import Meter
from hayate.jobs.records import Progress
from hayate.jobs.signals import Signals
from hayate.pipeline.stops import Skipped

ROW_S = 0.25


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Loop:
    """Makes the rows of a job's batches and passes as the pipeline does."""

    def __init__(self, passes: tuple[int, ...], batches: int, runs: int = 1) -> None:
        self.told: list[Progress] = []
        self.clock, self.signals = Clock(), Signals()
        self.signals.begin("job")
        self.meter = Meter("job", self.told.append, self.signals, clock=self.clock)
        self.passes, self.batches, self.runs = passes, batches, runs
        self.meter.expect(runs)

    def run(self) -> Iterator[int]:
        """Yields after each row; a batch that is skipped is left."""
        done = 0
        for _ in range(self.runs):
            self.meter.loaded(self.passes, self.batches)
            for _ in range(self.batches):
                try:
                    for rows in self.passes:
                        for row in range(1, rows + 1):
                            self.clock.now += ROW_S
                            self.meter.row(row, rows)
                            done += 1
                            yield done
                except Skipped:
                    continue
            self.meter.run_done()


PASSES = st.lists(st.integers(1, 6), min_size=1, max_size=2).map(tuple)


@given(passes=PASSES, batches=st.integers(1, 4), runs=st.integers(1, 3))
def test_the_share_is_that_of_the_rows_and_the_rest_takes_as_long_as_it_does(
    passes: tuple[int, ...], batches: int, runs: int
) -> None:
    loop = Loop(passes, batches, runs)
    whole = sum(passes) * batches * runs
    for done in loop.run():
        last = loop.told[-1]
        assert math.isclose(last.share, done / whole, abs_tol=1e-4)
        assert last.pictures == batches * runs
        if last.eta_s is not None:
            assert math.isclose(last.eta_s, (whole - done) * ROW_S, abs_tol=0.01 + 1e-4 * whole)
            assert last.it_per_s == pytest.approx(1 / ROW_S)
    assert loop.told[-1].share == 1
    assert loop.told[-1].phase == "saving"
    phases = {told.phase for told in loop.told}
    assert {"encoding", "decoding"} <= phases
    assert ("upscaling" in phases) == (len(passes) == 2)


@given(passes=PASSES, batches=st.integers(1, 4), skipped=st.integers(1, 8))
def test_a_batch_that_is_skipped_counts_as_done(passes: tuple[int, ...], batches: int, skipped: int) -> None:
    loop = Loop(passes, batches)
    for done in loop.run():
        if done == skipped:
            loop.signals.skip("job")
    shares = [told.share for told in loop.told]
    assert shares == sorted(shares)
    assert shares[-1] == 1


@given(retried=st.integers(1, 3))
def test_a_pass_that_is_made_again_never_turns_the_share_back(retried: int) -> None:
    loop = Loop((4,), 2)
    loop.meter.loaded((4,), 2)
    for _ in range(1 + retried):  # not finite: the whole pass again
        for row in range(1, 5):
            loop.meter.row(row, 4)
    shares = [told.share for told in loop.told]
    assert shares == sorted(shares)
    assert all(told.picture <= 2 for told in loop.told)


def test_it_is_told_ten_times_a_second_at_most_and_every_new_phase() -> None:
    loop = Loop((1000,), 1)
    loop.meter.loaded((1000,), 1)
    for row in range(1, 1000):
        loop.clock.now += 0.001
        loop.meter.row(row, 1000)
    assert 9 <= len(loop.told) <= 12
    loop.meter.row(1000, 1000)
    assert loop.told[-1].phase == "decoding"


def test_cancelled_and_skipped_are_raised_at_the_next_row_and_for_this_job_alone() -> None:
    loop = Loop((4,), 2)
    loop.signals.cancel("another")
    loop.signals.skip("another")
    loop.meter.loaded((4,), 2)
    loop.meter.row(1, 4)
    loop.signals.skip("job")
    with pytest.raises(Skipped):
        loop.meter.row(2, 4)
    loop.meter.row(1, 4)
    loop.signals.cancel("job")
    for ask in (lambda: loop.meter.row(2, 4), lambda: loop.meter.phase("saving"), lambda: loop.meter.share(0.5)):
        with pytest.raises(Cancelled):
            ask()
    loop.signals.begin("next")
    loop.meter.phase("loading")  # what was wanted of the one before is forgotten


def test_whoever_has_no_steps_is_woken_even_if_the_cancel_came_first() -> None:
    woken: list[str] = []
    signals = Signals()
    signals.begin("job")
    signals.on_cancel(lambda: woken.append("later"))
    signals.cancel("another")
    assert woken == []
    signals.cancel("job")
    assert woken == ["later"]
    signals.on_cancel(lambda: woken.append("at once"))
    assert woken == ["later", "at once"]
