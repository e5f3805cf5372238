"""One configuration tried, in a process that may crash, hang or lie without harm to anything else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hayate.bench.protocol import Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a worker is told to do, as JSON can hold it."""

    request: Mapping[str, Any]
    """The fields of a `TextToImage`."""
    asked: Mapping[str, Any]
    """The fields of an `Asked` that are not left open."""
    runs: int = 1
    """Runs after the first picture."""
    hopeless_row_s: float | None = None
    """Who takes longer than this for a row need not go on."""
    compile_limit_s: float = 0.0
    """How long a compiled step is waited for."""
    is_reference: bool = False
    """Whether the picture of fp32 eager is wanted, instead of a trial."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What came of it."""

    row_s: list[float]
    """Seconds of a U-Net batch, the mean of a whole picture, for every run that was no warm-up."""
    decode_s: float
    encode_s: float
    first_s: float
    """From the request to the first picture on the disk, with loading."""
    rows: int
    """Batches of one run."""
    peak_bytes: int | None
    pictures: str
    """An .npy file: the last run's pictures."""
    is_repeated: bool | None
    """Whether two runs gave the same bits; None where there was one only."""
    lacking: list[str]
    """What was asked for and did not act."""
    notes: list[str]
    is_hopeless: bool = False
    plan: Mapping[str, Any] = field(default_factory=dict)

    @property
    def speed(self) -> Figure:
        """Units: iterations per second."""
        return Figure.of([1 / each for each in self.row_s])

    def picture_s(self, rows: int) -> float:
        """Seconds of a whole picture of so many rows."""
        return self.encode_s + rows / self.speed.median + self.decode_s
