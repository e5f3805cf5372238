"""/v1/jobs: handing jobs in, watching them, ending them."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Response

from hayate.errors import UsageError
from hayate.jobs.desk import Desk
from hayate.jobs.records import JobRecord, NewJob, State
from hayate.server.v1.chosen import with_chosen
from hayate.server.v1.doors import NamedJob, TheDesk, ThePreferences, TheSettings
from hayate.server.v1.input_names import with_input_paths
from hayate.server.v1.schemas import JobsView, JobView, NewJobBody, job_view

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

Answers = dict[int | str, dict[str, Any]]
FULL: Answers = {503: {"description": "too many jobs wait, or the server ends; see Retry-After"}}
REUSED: Answers = {409: {"description": "the key was another body's"}}
REFUSED: Answers = {422: {"description": "not what can be done; the hint says what could"}}
MISSING: Answers = {404: {"description": "there is none of this name"}}


def asked_job(
    new: NewJobBody,
    settings: TheSettings,
    preferences: ThePreferences,
    *,
    idempotency_key: Annotated[str | None, Header(max_length=200, min_length=1)] = None,
) -> NewJob:
    """The job that a request asks for. Raises: UsageError."""
    check_json(new.body)
    body = with_input_paths(with_chosen(new.kind, new.body, preferences.chosen), settings)
    client = new.client or "api"
    return NewJob(kind=new.kind, body=body, priority=new.priority, key=idempotency_key, client=client)


@router.post("", status_code=202, responses={**REFUSED, **REUSED, **FULL})
def submit(asked: Annotated[NewJob, Depends(asked_job)], response: Response, desk: TheDesk) -> JobView:
    """Takes a job. With an `Idempotency-Key`, the same request again is the same job."""
    return taken(desk.submit(asked), response)


@router.get("", responses=REFUSED)
def list_jobs(
    desk: TheDesk,
    state: Annotated[list[State] | None, Query()] = None,
    kind: Annotated[list[str] | None, Query(max_length=20)] = None,
    before: Annotated[str, Query(max_length=64, description="the `next` of the page before")] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> JobsView:
    """The newest jobs first, a page at a time."""
    records = desk.jobs(states=state or (), kinds=kind or (), before=before, limit=limit)
    is_last = len(records) < limit
    return JobsView(jobs=[_as_it_stands(each, desk) for each in records], next=None if is_last else records[-1].id)


@router.get("/{id}", responses=MISSING)
def show(job: NamedJob, desk: TheDesk) -> JobView:
    """A job as it stands; `progress` is there while it runs."""
    return _as_it_stands(job, desk)


@router.delete("/{id}", responses={**MISSING, **REFUSED})
def cancel(
    job: NamedJob,
    desk: TheDesk,
    forget: Annotated[bool, Query(description="forget a job that has ended, and its unsaved pictures")] = False,
) -> JobView:
    """Ends a job: one that waits at once, one that runs within a step. One that has ended stays as it is."""
    if forget:
        desk.delete(job.id)
        return job_view(job)
    return _as_it_stands(desk.cancel(job.id), desk)


@router.post("/{id}/skip", responses=MISSING)
def skip(job: NamedJob, desk: TheDesk) -> JobView:
    """Gives up the picture that is being made, and goes on with the next one."""
    return _as_it_stands(desk.skip(job.id), desk)


def _as_it_stands(job: JobRecord, desk: Desk) -> JobView:
    return job_view(job, desk.progress(job.id) if job.state is State.RUNNING else None)


def taken(record: JobRecord, response: Response) -> JobView:
    """The answer to a job that was handed in: where it is found from now on."""
    response.headers["Location"] = f"/v1/jobs/{record.id}"
    return job_view(record)


def check_json(body: dict[str, Any]) -> None:
    """Refuses what Python reads as JSON and nobody else does: NaN, infinity, halves of characters.

    Raises: UsageError.
    """
    try:
        json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        raise UsageError(
            "the body has a text or a number that JSON can't hold", hint="send UTF-8 and numbers"
        ) from None
