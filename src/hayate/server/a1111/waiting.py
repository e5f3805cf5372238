"""A synchronous call and its job: it waits for the job's end, and takes the job with it when its caller goes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from fastapi import HTTPException, Request

from hayate.errors import UnknownJob
from hayate.jobs.desk import Desk
from hayate.jobs.records import JobRecord, NewJob, State, error_of
from hayate.server.a1111.service import CLIENT, Service

GONE = 499
"""The caller closed the connection; nobody reads this status, but logs do."""


async def finished(desk: Desk, job: JobRecord, request: Request) -> JobRecord:
    """The job when it has ended, done or cancelled.

    A caller that closes the connection ends the job within a step.
    Raises: HayateError, that of a job that failed; HTTPException where the caller is gone.
    """
    ended = asyncio.ensure_future(desk.wait(job.id))
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({ended, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            raise HTTPException(GONE, "the caller closed the connection")
        return _checked(ended.result())
    finally:
        for each in (ended, gone):
            each.cancel()
        await asyncio.gather(ended, gone, return_exceptions=True)
        if ended.cancelled():
            with contextlib.suppress(UnknownJob):
                await asyncio.to_thread(desk.cancel, job.id)


async def done(service: Service, kind: str, body: Mapping[str, Any], request: Request) -> JobRecord:
    """A job of that kind, queued and waited for. Raises: as `finished` does, and what queueing raises."""
    job = await service.beside(service.desk.submit, NewJob(kind=kind, body=body, client=CLIENT))
    return await finished(service.desk, job, request)


def _checked(job: JobRecord) -> JobRecord:
    if job.state is State.FAILED and job.failure is not None:
        raise error_of(job.failure)
    return job


async def _gone(request: Request) -> None:
    """Returns when the caller has closed the connection; the body has been read by now."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
