"""One configuration measured as its user meets it: whole pictures, from the request to the file."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hayate.bench.equivalence import Difference, compare
from hayate.bench.machine import fingerprint
from hayate.bench.proof import NotActive, unproved
from hayate.bench.protocol import Figure, Limits, rounds
from hayate.bench.reference import reference_pictures
from hayate.errors import Cancelled
from hayate.pipeline.denoise import StepCallback
from hayate.pipeline.hooked import NOBODY
from hayate.pipeline.report import Report
from hayate.pipeline.session import make_pictures
from hayate.pipeline.workspace import Workspace
from hayate.request import TextToImage
from hayate.runtime.asked import Asked
from hayate.runtime.device import resolve_device
from hayate.runtime.probe import memory_use
from hayate.runtime.profiles import said
from hayate.settings import Settings, lossless

PHASES = ("load", "encode", "sample", "decode", "save")
COMPILE_LIMIT_S = 1800.0
OnEvent = Callable[[str], None]
"""Told in words what begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be measured."""

    request: TextToImage
    asked: Asked = field(default_factory=Asked)
    preset: str = ""
    label: str = ""
    is_random: bool = False
    """Whether the model's weights are random: then its pictures are noise, and only the speed means something."""
    is_compared: bool = True
    """Whether the picture is compared with that of fp32 eager, which must be made first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """One run of the whole sentence."""

    seconds: Mapping[str, float]
    """Per phase, and `total` by the clock on the wall, which the overlap of phases makes smaller than their sum."""
    report: Report
    pictures: np.ndarray
    """[B, H, W, 3] uint8"""

    @property
    def it_per_s(self) -> float:
        return self.report.rows / max(self.report.seconds["sample"], 1e-9)


def measure(
    order: Order,
    settings: Settings,
    limits: Limits,
    on_event: OnEvent = lambda what: None,
    *,
    on_row: StepCallback = lambda done, rows: None,
) -> dict[str, Any]:
    """The measurement of a configuration, as JSON can hold it; bench.history keeps such objects.

    The first picture, with loading, is a figure of its own and the warm-up. Where something is compiled, the step is
    awaited and warmed up once more. Then come the runs.
    `on_row` is the loop's callback in every run, and may raise Cancelled.
    Raises: NotActive where something that was asked for did not act; HayateError.
    """
    limits.check()
    settings = lossless(settings)
    with tempfile.TemporaryDirectory() as name, Workspace(settings, is_lasting=False) as workspace:
        bench = _Bench(order=order, settings=settings, workspace=workspace, folder=Path(name), on_row=on_row)
        on_event("first picture")
        first = bench.run()
        compile_s = None
        if first.report.plan["choices"]["compile"]["value"] != "off":
            on_event("waiting for the compiled step")
            compile_s = workspace.settle(COMPILE_LIMIT_S)
            bench.run()
        made: list[Made] = []
        speeds: list[float] = []
        for number in rounds(limits, speeds):
            on_event(f"run {number + 1}")
            made.append(bench.run())
            speeds.append(made[-1].it_per_s)
        if lacking := unproved(order.asked, made[-1].report.plan, made[-1].report.speed["evidence"]):
            raise NotActive(f"not recorded: {'; '.join(lacking)}", hint="leave out what can't act here: hayate plan")
        memory = memory_use(resolve_device(order.request.device or settings.device).torch)
    difference = _difference(order, settings, made[-1], on_event) if order.is_compared else None
    return _object(order, first, made, compile_s) | {"memory": memory, "difference": difference}


@dataclass(slots=True, kw_only=True)
class _Bench:
    order: Order
    settings: Settings
    workspace: Workspace
    folder: Path
    on_row: StepCallback
    runs: int = 0

    def run(self) -> Made:
        self.runs += 1
        target = self.folder / str(self.runs)
        started = time.perf_counter()
        report = make_pictures(
            self.order.request,
            self.settings,
            target,
            self.on_row,
            self.order.asked,
            workspace=self.workspace,
            hooked=NOBODY,
        )
        if report.is_stopped:
            raise Cancelled("the measurement was cancelled", hint="nothing of it was kept")
        seconds = {**report.seconds, "total": time.perf_counter() - started}
        pictures = np.stack([np.asarray(Image.open(each.path)) for each in report.pictures])
        return Made(seconds=seconds, report=report, pictures=pictures)


def _difference(order: Order, settings: Settings, made: Made, on_event: OnEvent) -> dict[str, Any]:
    """The pictures of the first batch against fp32 eager's."""
    on_event("the same picture in fp32, for comparison")
    request = replace(order.request, batch_count=1, seed=made.report.pictures[0].seed)
    expected = reference_pictures(request, settings)
    return asdict(compare(made.pictures[: len(expected)], expected))


def _object(order: Order, first: Made, made: list[Made], compile_s: float | None) -> dict[str, Any]:
    report = made[-1].report
    runs = [{**_rounded(each.seconds), "it_per_s": round(each.it_per_s, 4)} for each in made]
    count = len(report.pictures)
    totals = [each.seconds["total"] for each in made]
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "label": order.label,
        "preset": order.preset,
        "model": {
            "name": report.model["Model"],
            "hash": report.model["Model hash"],
            "family": report.model["family"],
            "is_random": order.is_random,
        },
        "work": _work(report),
        "machine": fingerprint(),
        "asked": {name: value for name, value in said(order.asked).items() if name != "ignores_profile"},
        "choices": report.plan["choices"],
        "dtype": report.plan["dtype"],
        "first": _rounded(first.seconds),
        "compile_s": compile_s,
        "runs": runs,
        "summary": {
            "it_per_s": Figure.of([each.it_per_s for each in made]).as_object(),
            "images_per_minute": Figure.of([60 * count / total for total in totals]).as_object(),
            "total_s": Figure.of(totals).as_object(),
            "phases": {
                phase: Figure.of([each.seconds[phase] for each in made]).as_object()["median"] for phase in PHASES
            },
        },
        "is_repeated": len(made) > 1 and all(np.array_equal(each.pictures, made[0].pictures) for each in made),
        "evidence": report.speed["evidence"],
        "notes": list(report.notes),
    }


def _work(report: Report) -> dict[str, Any]:
    plan = report.plan
    keys = ("steps", "sampler", "schedule", "cfg", "batch_size", "batch_count")
    width_px, height_px = plan["size_px"]
    size = {"width_px": width_px, "height_px": height_px}
    return {**size, **{key: plan[key] for key in keys}, "infotext": report.pictures[0].infotext}


def _rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    return {phase: round(value, 4) for phase, value in seconds.items()}


def difference_of(measurement: Mapping[str, Any]) -> Difference | None:
    """The difference that a measurement holds."""
    found = measurement.get("difference")
    return Difference(**found) if found else None
