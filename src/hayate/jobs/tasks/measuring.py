"""Bench and tune as jobs: their tables are the progress' details while they grow."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from hayate.bench.measure import Order
from hayate.bench.orders import measure_and_keep
from hayate.bench.presets import PRESETS, QUICK
from hayate.bench.protocol import Limits
from hayate.errors import Cancelled, EngineError, UnknownName
from hayate.flags import given
from hayate.jobs.bodies import Bench, Tune
from hayate.jobs.meter import Meter
from hayate.jobs.records import Result
from hayate.jobs.signals import Signals
from hayate.jobs.tasks.station import Outcome, Station
from hayate.pipeline.prepared import Prepared
from hayate.request import TextToImage, validate
from hayate.runtime.asked import Asked, asked_from
from hayate.settings import Settings
from hayate.tune.plot import front_svg, row_object
from hayate.tune.pool import Worker
from hayate.tune.search import Aim, Search
from hayate.tune.search import Outcome as Found
from hayate.tune.tuning import Goal, aim_for, as_object, keep, run_search
from hayate.tune.verdict import Row

MOST_ROUNDS = 20


def bench(body: Bench, station: Station) -> Outcome:
    """Measures and keeps the measurement. Raises: HayateError, Cancelled; nothing is kept then."""
    if body.preset not in PRESETS:
        raise UnknownName("preset", body.preset, PRESETS)
    meter, preset = station.meter(), PRESETS[body.preset]
    order = Order(
        request=_changed(preset.request, body),
        asked=asked_from(given.get(), Asked()),
        preset=preset.name,
        label=body.label,
        is_compared=body.is_compared,
    )
    limits = Limits(rounds=body.rounds, most_rounds=max(body.rounds, MOST_ROUNDS), time_s=body.time_s)
    station.workspace.clear()  # a measurement has the memory for itself
    begun = 0

    def on_event(what: str) -> None:
        nonlocal begun
        begun += 1
        meter.details(doing=what)
        meter.share(min(0.95, begun / (body.rounds + 3)), "measuring")

    measurement, notes = measure_and_keep(
        order, preset, station.settings, limits, on_event, on_row=lambda done, rows: station.signals.check()
    )
    return Outcome(result=Result(notes=tuple(notes), facts=measurement), model="")


def tune(body: Tune, station: Station) -> Outcome:
    """Searches and keeps what won; what is known when somebody cancels counts. Raises: HayateError, Cancelled."""
    meter = station.meter()
    meter.phase("tuning")
    request = _changed(replace(QUICK, prompt=body.prompt or QUICK.prompt), body)
    goal = Goal(budget_s=body.budget_s, promise=body.promise, min_psnr_db=body.min_psnr_db)
    station.workspace.clear()  # the trials are made in processes of their own, which need the memory
    aim, prepared = aim_for(request, station.settings, goal, asked_from(given.get(), Asked()))
    aim.check()
    search = _Tuning(aim, meter, station.signals).search()
    is_stopped = False
    try:
        outcome = run_search(search)
    except (Cancelled, EngineError):
        if not station.signals.is_cancelled:
            raise
        outcome, is_stopped = search.outcome, True
        outcome.is_interrupted = True
    return _outcome(outcome, (aim, prepared), station.settings, is_stopped=is_stopped)


class _Tuning:
    """A search that tells its table, and can be cancelled in the middle of a trial."""

    def __init__(self, aim: Aim, meter: Meter, signals: Signals) -> None:
        self._aim, self._meter, self._signals = aim, meter, signals
        self._rows: list[dict[str, Any]] = []
        self._workers: list[Worker] = []
        self._started = time.monotonic()

    def search(self) -> Search:
        self._signals.on_cancel(self._stop)
        return Search(self._aim, self._worker, on_row=self._row, on_event=self._event)

    def _worker(self) -> Worker:
        self._workers.append(Worker())
        return self._workers[-1]

    def _stop(self) -> None:
        for worker in self._workers:
            worker.stop()

    def _row(self, row: Row) -> None:
        self._rows.append(row_object(row))
        self._say()

    def _event(self, what: str) -> None:
        self._meter.details(doing=what)
        self._say()

    def _say(self) -> None:
        """Raises: Cancelled."""
        elapsed_s = time.monotonic() - self._started
        self._meter.details(rows=list(self._rows), elapsed_s=round(elapsed_s, 1), budget_s=self._aim.budget_s)
        self._meter.share(min(0.99, elapsed_s / self._aim.budget_s), "tuning")


def _outcome(found: Found, of: tuple[Aim, Prepared], settings: Settings, *, is_stopped: bool) -> Outcome:
    aim, prepared = of
    kept = keep(found, aim, prepared, settings)
    facts = {**as_object(found), "profile": kept, "plot": front_svg(found, aim.rows)}
    return Outcome(result=Result(facts=facts), is_stopped=is_stopped, model="")


def _changed(request: TextToImage, body: Bench | Tune) -> TextToImage:
    """A preset's request with what a body says otherwise. Raises: UsageError."""
    names = ("model", "vae", "steps", "sampler", "cfg", "width_px", "height_px", "batch_size", "batch_count")
    given = {name: value for name in names if (value := getattr(body, name, None)) is not None}
    request = replace(request, **given)
    validate(request)
    return request
