"""/v1/bench and /v1/tune: what was measured on this machine, and jobs that measure more."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from hayate.jobs.records import NewJob
from hayate.server.v1.doors import TheDesk, TheSettings
from hayate.server.v1.jobs import FULL, REFUSED, check_json, taken
from hayate.server.v1.schemas import JobView

router = APIRouter(prefix="/v1", tags=["measuring"])
Limit = Annotated[int, Query(ge=1, le=1000)]


class PresetView(BaseModel):
    """A piece of work that is measured by name."""

    name: str
    doc: str


class BenchView(BaseModel):
    """What can be measured, and what was."""

    presets: list[PresetView]
    measurements: list[dict[str, Any]] = Field(description="the newest first, each as `hayate bench --json` prints it")
    notes: list[str] = Field(description="what had to be done to the history's file")


class ProfileView(BaseModel):
    """What won for a device, an architecture and a size."""

    file: str
    device: str
    architecture: str
    size_px: int
    promise: str
    title: str
    at: str
    summary: dict[str, Any]


@router.get("/bench", responses=REFUSED)
def bench_history(settings: TheSettings, limit: Limit = 50) -> BenchView:
    """The presets, and the newest measurements of this machine."""
    from hayate.bench.history import FILE_NAME, History
    from hayate.bench.presets import PRESETS

    history = History(path=settings.data_dir / FILE_NAME)
    found = history.latest(limit)[::-1]
    presets = [PresetView(name=each.name, doc=each.doc) for each in PRESETS.values()]
    return BenchView(presets=presets, measurements=found, notes=history.notes)


@router.post("/bench", status_code=202, responses={**REFUSED, **FULL})
def bench(body: dict[str, Any], response: Response, desk: TheDesk) -> JobView:
    """Measures this machine as a job; the body is that of a `bench` job, such as {"preset": "quick"}."""
    check_json(body)
    return taken(desk.submit(NewJob(kind="bench", body=body, client="api")), response)


@router.get("/tune")
def profiles(settings: TheSettings) -> list[ProfileView]:
    """What was found to win on this machine, the newest first."""
    from hayate.runtime.profiles import all_profiles

    return [
        ProfileView(
            file=each.slot.file_name,
            device=each.slot.device,
            architecture=each.slot.architecture,
            size_px=each.slot.size_px,
            promise=each.slot.promise,
            title=each.title,
            at=each.at,
            summary=dict(each.summary),
        )
        for each in all_profiles(settings.data_dir)
    ]


@router.post("/tune", status_code=202, responses={**REFUSED, **FULL})
def tune(body: dict[str, Any], response: Response, desk: TheDesk) -> JobView:
    """Searches for what wins here as a job; the body is that of a `tune` job, such as {"budget_s": 180}."""
    check_json(body)
    return taken(desk.submit(NewJob(kind="tune", body=body, client="api")), response)
