"""What is thought of a trial: whether it may be chosen, and if not, why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from hayate.bench.equivalence import Difference, compare
from hayate.runtime.asked import Asked
from hayate.tune.trial import Trial


class Verdict(Enum):
    """The outcome of a trial."""

    DEFAULT = "default"
    FASTER = "faster"
    SLOWER = "slower"
    HOPELESS = "hopeless"
    REFUSED = "refused"
    FAILED = "failed"
    LIED = "did not act"
    WRONG = "wrong picture"
    UNSTEADY = "other bits"
    SKIPPED = "not tried"

    @property
    def is_sound(self) -> bool:
        """Whether what was tried does what it says, fast or not."""
        return self in (Verdict.DEFAULT, Verdict.FASTER, Verdict.SLOWER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table."""

    name: str
    verdict: Verdict
    reason: str
    asked: Asked | None = None
    trial: Trial | None = None
    difference: Difference | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Holds trials to the reference picture and the promise."""

    reference: np.ndarray | None
    """[B, H, W, 3] uint8: fp32 eager's; None where it could not be made, and then only the default is sound."""
    promise: str
    min_psnr_db: float
    rows: int
    """U-Net batches of the picture that the user wants."""
    gain: float = 1.02
    """How many times as fast as the best so far something must be to take its place."""

    def judge(self, name: str, asked: Asked, trial: Trial, best: Trial | None) -> Row:
        """What is thought of a trial beside the best so far, which is None for the default plan itself."""
        difference = None if self.reference is None else compare(self._pictures(trial), self.reference)
        verdict, reason = self._verdict(trial, difference, best)
        return Row(name=name, verdict=verdict, reason=reason, asked=asked, trial=trial, difference=difference)

    def _verdict(self, trial: Trial, difference: Difference | None, best: Trial | None) -> tuple[Verdict, str]:
        if trial.lacking:
            return Verdict.LIED, "; ".join(trial.lacking)
        if difference is not None and not difference.at_least_db(self.min_psnr_db):
            return Verdict.WRONG, f"{difference}; the bound is {self.min_psnr_db:g} dB"
        if self.promise == "deterministic" and trial.is_repeated is False:
            return Verdict.UNSTEADY, "two runs gave other bits"
        return self._pace(trial, best)

    def _pace(self, trial: Trial, best: Trial | None) -> tuple[Verdict, str]:
        if best is None:
            return Verdict.DEFAULT, "what is planned without tuning"
        ratio = best.picture_s(self.rows) / trial.picture_s(self.rows)
        verdict = Verdict.FASTER if ratio >= self.gain else Verdict.SLOWER
        return Verdict.HOPELESS if trial.is_hopeless else verdict, f"{ratio:.2f}× the best so far"

    def _pictures(self, trial: Trial) -> np.ndarray:
        pictures = np.load(trial.pictures, allow_pickle=False)
        assert self.reference is not None
        return pictures[: len(self.reference)]
