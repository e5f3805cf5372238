"""/v1/events and /v1/jobs/{id}/events: what happens, as server-sent events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Header
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from hayate.jobs.records import Event, State
from hayate.server.v1.doors import NamedJob, TheDesk, TheLifecycle
from hayate.server.v1.jobs import MISSING
from hayate.server.v1.schemas import job_view

router = APIRouter(prefix="/v1", tags=["events"])
LastEvent = Annotated[str, Header(alias="Last-Event-ID", description="sent by browsers that come back")]


@router.get("/jobs/{id}/events", response_class=EventSourceResponse, responses=MISSING)
async def job_events(
    job: NamedJob, desk: TheDesk, lifecycle: TheLifecycle, last_event_id: LastEvent = ""
) -> AsyncIterator[ServerSentEvent]:
    """What happens to a job until it ends. Begins with `job`, the job as it stands.

    Then queued, started, progress, preview and, last, done, failed or cancelled.
    """

    async def as_it_stands() -> Event:
        record = await run_in_threadpool(desk.job, job.id)
        view = job_view(record, desk.progress(job.id)).model_dump(mode="json")
        return Event(number=0, job=job.id, kind="job", data=view)

    heard = desk.events(job.id, after=_number(last_event_id))
    async with aclosing(lifecycle.until_end(heard, as_it_stands)) as events:
        async for event in events:
            yield _sent(event)
            if event.kind == "job" and State(event.data["state"]).is_terminal:
                return


@router.get("/events", response_class=EventSourceResponse)
async def all_events(
    desk: TheDesk, lifecycle: TheLifecycle, last_event_id: LastEvent = ""
) -> AsyncIterator[ServerSentEvent]:
    """What happens to all jobs, and to the worker, until the server ends."""
    async with aclosing(lifecycle.until_end(desk.events(after=_number(last_event_id)))) as events:
        async for event in events:
            yield _sent(event)


def _sent(event: Event) -> ServerSentEvent:
    data = json.dumps({**event.data, "job": event.job}, ensure_ascii=False)
    return ServerSentEvent(id=str(event.number) if event.number else None, event=event.kind, raw_data=data)


def _number(last_event_id: str) -> int | None:
    """The number of the last event that a caller saw; what is none counts as none."""
    return (
        int(last_event_id) if last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 16 else None
    )
