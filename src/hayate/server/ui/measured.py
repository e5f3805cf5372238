"""What the bench tab asks beside its jobs: earlier measurements, and the page that compares them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse
from pydantic import BaseModel

from hayate.bench.history import FILE_NAME, History
from hayate.bench.rows import Row, Spread, read_row
from hayate.settings import Settings

REPORT_POLICY = "; ".join(
    (
        "default-src 'none'",
        "style-src 'unsafe-inline'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""The report has its style inside, as a file that is passed on must; in exchange it may run nothing."""


class Figure(BaseModel):
    """A figure over several runs."""

    median: float
    low: float | None
    high: float | None


class MeasurementEntry(BaseModel):
    """A measurement as the page lists it."""

    id: str
    at: str
    setting: str
    machine: str
    work: str
    it_per_s: Figure | None
    images_per_minute: Figure | None
    first_s: float | None
    peak_bytes: float | None
    is_compared: bool
    psnr_db: float | None
    """None, though compared, where the picture is identical."""
    lacking: list[str]


class Measurements(BaseModel):
    """The last measurements, newest first."""

    measurements: list[MeasurementEntry]
    notes: list[str]


def measured_router(settings: Settings) -> APIRouter:
    """The routes of the measurements."""
    router = APIRouter(prefix="/ui/bench", tags=["page"])

    @router.get("/measurements")
    def measurements(limit: Annotated[int, Query(ge=1, le=1000)] = 50) -> Measurements:
        history = _history(settings)
        found = [_entry(read_row(each)) for each in reversed(history.latest(limit))]
        return Measurements(measurements=found, notes=history.notes)

    @router.get("/report", response_class=HTMLResponse)
    def report(number: Annotated[list[str], Query(max_length=100)] = []) -> HTMLResponse:  # noqa: B006
        """The measurements of these numbers, or the last thirty. Raises: UsageError for one that isn't there."""
        history = _history(settings)
        found = history.find(number) if number else history.latest(30)
        from hayate.bench.report import report_page  # drawn seldom: the page must not wait for it

        page = report_page(found, "Measured by Hayate")
        return HTMLResponse(page, headers={"Content-Security-Policy": REPORT_POLICY})

    return router


def _history(settings: Settings) -> History:
    return History(path=settings.data_dir / FILE_NAME)


def _entry(row: Row) -> MeasurementEntry:
    return MeasurementEntry(
        id=row.id,
        at=row.at,
        setting=row.setting,
        machine=row.machine,
        work=row.work,
        it_per_s=_figure(row.speed),
        images_per_minute=_figure(row.images),
        first_s=row.first_s,
        peak_bytes=row.peak_bytes,
        is_compared=row.difference is not None,
        psnr_db=None if row.difference is None else row.difference.psnr_db,
        lacking=list(row.lacking),
    )


def _figure(spread: Spread | None) -> Figure | None:
    return None if spread is None else Figure(median=spread.median, low=spread.low, high=spread.high)
