"""The outcome of a search as a picture and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from hayate.bench.pareto import Point, pareto_svg
from hayate.runtime.profiles import said
from hayate.tune.search import Outcome
from hayate.tune.verdict import Row


def row_object(row: Row) -> dict[str, Any]:
    """A line of the table as JSON can hold it."""
    trial = row.trial
    return {
        "name": row.name,
        "verdict": row.verdict.value,
        "reason": row.reason,
        "asked": None if row.asked is None else said(row.asked),
        "it_per_s": None if trial is None else trial.speed.as_object(),
        "first_s": None if trial is None else round(trial.first_s, 3),
        "peak_bytes": None if trial is None else trial.peak_bytes,
        "is_repeated": None if trial is None else trial.is_repeated,
        "difference": None if row.difference is None else asdict(row.difference),
    }


def front_svg(outcome: Outcome, rows: int) -> str | None:
    """Speed against picture difference of everything that was tried and is sound; None where there is nothing to show.

    `rows` is how many U-Net batches the picture takes that the user wants.
    """
    points = [
        Point(label=row.name, speed=60 / row.trial.picture_s(rows), psnr_db=row.difference.psnr_db)
        for row in outcome.rows
        if row.trial is not None and row.difference is not None and row.verdict.is_sound
    ]
    return pareto_svg(points, unit="pictures a minute") if points else None
