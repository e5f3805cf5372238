"""The search: the default plan, then one switch at a time, and at the end the winner against the default again."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from hayate.errors import UsageError
from hayate.request import TextToImage
from hayate.runtime.asked import Asked
from hayate.runtime.profiles import said
from hayate.tune.pool import TrialFailed, Worker
from hayate.tune.space import Candidate, Place, Refused, candidates, groups
from hayate.tune.trial import Task, Trial
from hayate.tune.verdict import Judge, Row, Verdict

FEWEST_STEPS = 2
SHARE = 1 / 30
"""Of the budget, what one run may take: so many steps of the picture are made."""
HOPELESS = 1.5
"""Who is so many times slower than the best in its first steps is given up."""
PATIENCE = 4.0
"""How many times the default's first picture a trial may take before it is taken for hung."""
RUNS, RACES = 3, 3
OnRow = Callable[[Row], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """What to tune for."""

    request: TextToImage
    place: Place
    rows: int
    """U-Net batches of the request as it is."""
    budget_s: float
    min_psnr_db: float = 35.0
    patience_s: float = 20.0
    """The least time that a trial has before it is taken for hung."""
    open: Asked = field(default_factory=Asked)
    """What every candidate keeps: the promise, and what was asked beside the tuned switches."""

    def check(self) -> None:
        """Raises: UsageError."""
        if self.budget_s < 5:
            raise UsageError(f"a budget of {self.budget_s:g} s is too short to try anything", hint="3m is usual")


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What was found, as far as the time went."""

    rows: list[Row] = field(default_factory=list)
    best: Row | None = None
    """The fastest sound row, the default's if nothing beat it; None where not even that could be made."""
    ratios: list[float] = field(default_factory=list)
    """How many times as fast as the default plan the winner was, in each turn of the last race."""
    steps: int = 0
    """Steps of the pictures that were made."""
    is_interrupted: bool = False

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios) if self.ratios else 1.0


class Search:
    """Finds the fastest configuration whose picture is sound, within a budget of time."""

    def __init__(
        self,
        aim: Aim,
        worker: Callable[[], Worker] = Worker,
        *,
        on_row: OnRow = lambda row: None,
        on_event: Callable[[str], None] = lambda what: None,
    ) -> None:
        self._aim = aim
        self._new_worker = worker
        self._on_row = on_row
        self._on_event = on_event
        self._ends_at = time.monotonic() + aim.budget_s
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """Everything that the budget allows; what is known when somebody interrupts it counts.

        Raises: UsageError for a budget that allows nothing, TrialFailed where the default plan itself fails.
        """
        self._aim.check()
        with ExitStack() as stack:
            worker = stack.enter_context(self._new_worker())
            try:
                judge, default = self._begin(worker)
                self._search(worker, judge)
                best = self.outcome.best
                if best is not None and best.verdict is not Verdict.DEFAULT:
                    self._race(stack, worker, default, best)
            except KeyboardInterrupt:
                self.outcome.is_interrupted = True
        return self.outcome

    @property
    def left_s(self) -> float:
        return self._ends_at - time.monotonic()

    def _begin(self, worker: Worker) -> tuple[Judge, Row]:
        """The default plan and the reference picture, with as many steps as the budget bears."""
        self._on_event("the default plan")
        default = replace(self._aim.open, ignores_profile=True)
        probe = worker.trial(self._task(default, FEWEST_STEPS, runs=0), self.left_s)
        wanted = max(1, self._aim.rows)
        room_s = self._aim.budget_s * SHARE - probe.decode_s
        steps = max(FEWEST_STEPS, min(self._steps, int(room_s * probe.speed.median)))
        trial = probe
        if steps > FEWEST_STEPS:
            trial = worker.trial(self._task(default, steps, runs=self._runs(steps)), self.left_s)
        self.outcome.steps = steps
        self._on_event("the same picture in fp32")
        judge = Judge(
            reference=self._reference(worker, steps),
            promise=self._aim.place.promise,
            min_psnr_db=self._aim.min_psnr_db,
            rows=wanted,
        )
        row = judge.judge("default plan", default, trial, None)
        self._tell(row)
        self.outcome.best = row if row.verdict.is_sound else None
        return judge, row

    def _search(self, worker: Worker, judge: Judge) -> None:
        if judge.reference is None:
            return  # there is nothing that a candidate could be held to
        for group in groups(self._aim.place):
            best = self.outcome.best
            start = best.asked if best is not None and best.asked is not None else self._aim.open
            for found in list(candidates(group, replace(start, ignores_profile=True), self._aim.place)):
                if isinstance(found, Refused):
                    self._tell(Row(name=found.name, verdict=Verdict.REFUSED, reason=found.reason))
                else:
                    self._try(worker, judge, found)

    def _try(self, worker: Worker, judge: Judge, candidate: Candidate) -> None:
        best = self.outcome.best.trial if self.outcome.best else None
        limit_s = self._limit_s(best, candidate)
        if limit_s is None:
            reason = "the budget is spent" if not candidate.compile_limit_s else "compiling takes longer than is left"
            self._tell(Row(name=candidate.name, verdict=Verdict.SKIPPED, reason=reason, asked=candidate.asked))
            return
        self._on_event(candidate.name)
        steps = self.outcome.steps
        task = self._task(candidate.asked, steps, runs=self._runs(steps))
        hopeless_s = HOPELESS / best.speed.median if best else None
        task = replace(task, hopeless_row_s=hopeless_s, compile_limit_s=self._compile_s(candidate))
        try:
            trial = worker.trial(task, limit_s)
        except TrialFailed as error:
            self._tell(Row(name=candidate.name, verdict=Verdict.FAILED, reason=error.message, asked=candidate.asked))
            return
        finally:
            if candidate.compile_limit_s:
                worker.close()  # a compiler that is still at work would take the time of the trials to come
        row = judge.judge(candidate.name, candidate.asked, trial, best)
        self._tell(row)
        if row.verdict is Verdict.FASTER or (best is None and row.verdict.is_sound):
            self.outcome.best = row

    def _limit_s(self, best: Trial | None, candidate: Candidate) -> float | None:
        """How long a trial may take; None where there is no time for it, the last race being kept free."""
        if best is None:
            return self.left_s if self.left_s > 1 else None
        left_s, needed_s = self.left_s - self._race_s(best), self._trial_s(best)
        if left_s < needed_s + candidate.compile_limit_s:
            return None
        patience_s = max(self._aim.patience_s, PATIENCE * best.first_s) + self._compile_s(candidate)
        return min(left_s, patience_s)

    def _race_s(self, best: Trial) -> float:
        """What is kept free for the last race, if there will be one."""
        is_new = self.outcome.best is not None and self.outcome.best.verdict is not Verdict.DEFAULT
        return 2 * (best.first_s + RACES * best.picture_s(best.rows)) if is_new else 0.0

    def _trial_s(self, best: Trial) -> float:
        return best.first_s + self._runs(self.outcome.steps) * best.picture_s(best.rows)

    def _compile_s(self, candidate: Candidate) -> float:
        """How long a compiled step is waited for: as long as the trial and the race leave time for."""
        best = self.outcome.best.trial if self.outcome.best else None
        if not candidate.compile_limit_s or best is None:
            return 0.0
        return max(0.0, self.left_s - self._race_s(best) - 2 * self._trial_s(best))

    def _race(self, stack: ExitStack, worker: Worker, default: Row, best: Row) -> None:
        """Both in turn, A B A B; the winner is given up where it does not win again."""
        self._on_event("the winner against the default plan, in turn")
        is_roomy = self._aim.place.facts.device.torch.type == "cpu"
        pair = (worker, stack.enter_context(self._new_worker())) if is_roomy else (worker, worker)
        rows = self._aim.rows
        assert default.asked is not None
        assert best.asked is not None
        for _ in range(RACES):
            if self.left_s <= 0:
                break
            try:
                times = [
                    each.trial(self._task(asked, self.outcome.steps, runs=1), self.left_s).picture_s(rows)
                    for each, asked in zip(pair, (default.asked, best.asked), strict=True)
                ]
            except TrialFailed as error:
                if self.outcome.ratios or "longer" in error.message:
                    break
                self._give_up(default, best, error.message)
                return
            self.outcome.ratios.append(times[0] / times[1])
        if not self.outcome.ratios:
            self._give_up(default, best, "no time was left to race it against the default plan")
        elif self.outcome.ratio <= 1:
            self._give_up(
                default, best, f"only {self.outcome.ratio:.2f}× the default plan when both were timed in turn"
            )

    def _give_up(self, default: Row, best: Row, reason: str) -> None:
        self._tell(replace(best, verdict=Verdict.SLOWER, reason=reason))
        self.outcome.best, self.outcome.ratios = default, []

    def _reference(self, worker: Worker, steps: int) -> Any:
        try:
            return worker.reference(replace(self._task(Asked(), steps, runs=0), is_reference=True), self.left_s)
        except TrialFailed as error:
            self._tell(Row(name="fp32 eager", verdict=Verdict.FAILED, reason=error.message))
            return None

    def _task(self, asked: Asked, steps: int, *, runs: int) -> Task:
        request = {key: value for key, value in asdict(self._aim.request).items() if value not in (None, ())}
        return Task(request={**request, "steps": steps, "batch_count": 1}, asked=said(asked), runs=runs)

    @property
    def _steps(self) -> int:
        return self._aim.request.steps or 20

    def _runs(self, steps: int) -> int:
        """Runs after the first: none where the budget bore the fewest steps only, unless bits must be compared."""
        return RUNS if steps > FEWEST_STEPS else int(self._aim.place.promise == "deterministic")

    def _tell(self, row: Row) -> None:
        self.outcome.rows.append(row)
        self._on_row(row)
