"""How often is measured, and what a figure is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hayate.bench.protocol import Figure, Limits, middle_spread, rounds, seconds_of
from hayate.errors import UsageError


def run(limits: Limits, figures: list[float], seconds_each: float = 1.0) -> int:
    """How many runs are made, when each takes so long and gives the next of `figures`."""
    values: list[float] = []
    clock = [0.0]
    for number in rounds(limits, values, lambda: clock[0]):
        clock[0] += seconds_each
        values.append(figures[number % len(figures)])
    return len(values)


def test_steady_runs_end_after_the_fewest() -> None:
    assert run(Limits(), [10.0]) == 5


def test_unsteady_runs_go_on_to_the_most() -> None:
    assert run(Limits(most_rounds=12), [10.0, 20.0]) == 12


def test_more_runs_end_when_the_middle_half_is_close() -> None:
    figures = [10.0, 14.0, 6.0, 10.0, 12.0, *[10.0] * 15]
    count = run(Limits(spread=0.03), figures)
    assert 5 < count < 20
    assert middle_spread(figures[:count]) <= 0.03 < middle_spread(figures[: count - 1])


def test_no_run_begins_after_the_time_but_one_is_always_made() -> None:
    assert run(Limits(time_s=2.5), [10.0], seconds_each=1.0) == 3
    assert run(Limits(time_s=0.5), [10.0], seconds_each=100.0) == 1


@given(st.lists(st.floats(0.001, 1000), min_size=1, max_size=30))
def test_a_figure_lies_in_its_range(values: list[float]) -> None:
    figure = Figure.of(values)
    assert figure.low == min(values) <= figure.median <= figure.high == max(values)
    assert sum(each <= figure.median for each in values) * 2 >= len(values)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("2m", 120), ("1.5h", 5400), ("0.5", 0.5)])
def test_durations(text: str, seconds: float) -> None:
    assert seconds_of(text, "--budget") == seconds


@pytest.mark.parametrize("text", ["", "0", "0m", "-1", "m", "nan", "inf", "1d", "two", "1e9h"])
def test_what_is_no_duration_is_one_line_with_a_hint(text: str) -> None:
    with pytest.raises(UsageError, match=r"--budget.*such as"):
        seconds_of(text, "--budget")


@pytest.mark.parametrize("limits", [Limits(time_s=0), Limits(rounds=0), Limits(rounds=1001)])
def test_limits_that_allow_nothing_are_refused(limits: Limits) -> None:
    with pytest.raises(UsageError):
        limits.check()
