"""What goes in and comes out of /v1, as the API's document shows it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from hayate.jobs.records import JobRecord, Picture, Progress, State, WorkerPhase, WorkerState
from hayate.server.v1.input_names import with_input_names

JobId = Annotated[str, Field(description="26 letters and digits that sort by time")]


class NewJobBody(BaseModel):
    """A job to be done."""

    model_config = ConfigDict(extra="forbid")

    kind: str = Field(
        description="generate, upscale, merge, convert, duplicates, bench, tune, load or unload", max_length=40
    )
    body: dict[str, Any] = Field(description="what the kind needs; see docs/decisions/server.md")
    priority: int = Field(default=0, ge=-1000, le=1000, description="the highest goes first")
    client: str = Field(default="", max_length=100, description="what the caller calls itself")


class FailureView(BaseModel):
    """Why a job failed."""

    type: str
    message: str
    hint: str
    status: int


class PictureView(BaseModel):
    """A picture that a job made."""

    index: int
    url: str = Field(description="its bytes; with ?thumb=256 a small one")
    name: str
    seed: int
    subseed: int
    infotext: str
    width_px: int
    height_px: int
    is_saved: bool = Field(description="whether it is among the user's outputs; others are kept for a while only")


class ProgressView(BaseModel):
    """How far the running job is."""

    phase: str
    row: int
    rows: int
    picture: int
    pictures: int
    share: float
    it_per_s: float | None
    eta_s: float | None
    preview: int | None = Field(description="number of the newest preview, which /v1/jobs/{id}/preview gives")
    details: dict[str, Any]


class JobView(BaseModel):
    """A job as it stands."""

    id: JobId
    kind: str
    state: State
    priority: int
    client: str
    attempt: int
    created_s: float
    started_s: float | None
    ended_s: float | None
    is_cancel_asked: bool
    body: dict[str, Any]
    pictures: list[PictureView]
    grid: str | None = Field(description="where all pictures are in one")
    notes: list[str]
    facts: dict[str, Any]
    failure: FailureView | None
    progress: ProgressView | None = None


class JobsView(BaseModel):
    """A page of jobs, the newest first."""

    jobs: list[JobView]
    next: str | None = Field(description="what `before` gives the next page; null at the end")


class GalleryPicture(PictureView):
    """A picture of the history."""

    job: JobId
    created_s: float


class GalleryView(BaseModel):
    """A page of the history of pictures, the newest first."""

    pictures: list[GalleryPicture]
    next: str | None


class ImageView(BaseModel):
    """A picture that jobs can start from."""

    name: str = Field(description="what start.path, start.mask and upscale's images take")


class WorkerView(BaseModel):
    """A process that computes."""

    phase: WorkerPhase
    device: str = Field(description="as the settings name it")
    pid: int | None
    seconds: dict[str, float]
    model: str
    facts: dict[str, Any]
    restarts: int


def job_view(record: JobRecord, progress: Progress | None = None) -> JobView:
    """A record for the outside; `progress` is taken where it is this job's."""
    result = record.result
    is_running = progress is not None and progress.job == record.id and record.state is State.RUNNING
    return JobView(
        id=record.id,
        kind=record.kind,
        state=record.state,
        priority=record.priority,
        client=record.client,
        attempt=record.attempt,
        created_s=record.created_s,
        started_s=record.started_s,
        ended_s=record.ended_s,
        is_cancel_asked=record.is_cancel_asked,
        body=with_input_names(record.body),
        pictures=[picture_view(record.id, index, each) for index, each in enumerate(result.pictures)] if result else [],
        grid=f"/v1/jobs/{record.id}/grid" if result and result.grid else None,
        notes=list(result.notes) if result else [],
        facts=dict(result.facts) if result else {},
        failure=failure_view(record),
        progress=progress_view(progress) if progress is not None and is_running else None,
    )


def picture_view(job: str, index: int, picture: Picture) -> PictureView:
    return PictureView(
        index=index,
        url=f"/v1/jobs/{job}/pictures/{index}",
        name=picture.path.replace("\\", "/").rpartition("/")[2],
        seed=picture.seed,
        subseed=picture.subseed,
        infotext=picture.infotext,
        width_px=picture.width_px,
        height_px=picture.height_px,
        is_saved=picture.is_saved,
    )


def failure_view(record: JobRecord) -> FailureView | None:
    failure = record.failure
    if failure is None:
        return None
    return FailureView(type=failure.type, message=failure.message, hint=failure.hint, status=failure.status)


def progress_view(progress: Progress) -> ProgressView:
    return ProgressView(
        phase=progress.phase,
        row=progress.row,
        rows=progress.rows,
        picture=progress.picture,
        pictures=progress.pictures,
        share=progress.share,
        it_per_s=progress.it_per_s,
        eta_s=progress.eta_s,
        preview=progress.preview.number if progress.preview else None,
        details=dict(progress.details),
    )


def worker_view(state: WorkerState) -> WorkerView:
    return WorkerView(
        phase=state.phase,
        device=state.device,
        pid=state.pid,
        seconds=dict(state.seconds),
        model=state.model,
        facts=dict(state.facts),
        restarts=state.restarts,
    )
