"""How something is timed: how often, until when, and what a figure is."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from hayate.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a series of runs is long enough."""

    rounds: int = 5
    """At least so many, unless the time is up."""
    most_rounds: int = 20
    spread: float = 0.03
    """Half the runs must lie within this share of their median, or there are more."""
    time_s: float = 300.0
    """No run begins when so much time has gone; the first is always made."""

    def check(self) -> None:
        """Raises: UsageError for limits that allow nothing."""
        if self.time_s <= 0:
            raise UsageError(f"a time limit of {self.time_s:g} s leaves no time to measure", hint="such as 2m or 90s")
        if not 1 <= self.rounds <= 1000:
            raise UsageError(f"{self.rounds} rounds can't be", hint="1 to 1000; 5 is usual")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A measured number: the median of its runs, with the lowest and the highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        return cls(median=statistics.median(values), low=min(values), high=max(values))

    def as_object(self) -> dict[str, float]:
        return {"median": _round(self.median), "low": _round(self.low), "high": _round(self.high)}

    def __str__(self) -> str:
        return f"{self.median:.4g} ({self.low:.4g}–{self.high:.4g})"


def rounds(limits: Limits, values: Sequence[float], clock: Callable[[], float] = time.monotonic) -> Iterator[int]:
    """The numbers of the runs to make; the caller appends each run's figure to `values` as it goes."""
    started = clock()
    for number in range(max(limits.rounds, limits.most_rounds)):
        if number and clock() - started >= limits.time_s:
            return
        if number >= limits.rounds and middle_spread(values) <= limits.spread:
            return
        yield number


def middle_spread(values: Sequence[float]) -> float:
    """The range of the middle half of the values, as a share of their median."""
    if len(values) < 2:
        return float("inf")
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / statistics.median(values)


def seconds_of(text: str, flag: str) -> float:
    """Seconds of a duration such as "90", "90s", "2m" or "1.5h".

    Raises: UsageError.
    """
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    number, unit = (text[:-1], units[text[-1]]) if text and text[-1] in units else (text, 1.0)
    try:
        seconds = float(number) * unit
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 1e6:  # NaN and infinities fail too
        raise UsageError(f"{flag} {text[:30]!r} is no time that could be spent", hint="such as 90s, 2m or 1h")
    return seconds


def _round(value: float) -> float:
    return float(f"{value:.5g}")
