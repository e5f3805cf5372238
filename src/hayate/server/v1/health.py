"""/healthz and /readyz: for whoever watches over the process."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from hayate import __version__
from hayate.jobs.records import WorkerPhase
from hayate.server.metrics import CONTENT_TYPE, Metrics
from hayate.server.v1.doors import TheDesk, TheLifecycle
from hayate.server.v1.schemas import WorkerView, worker_view

router = APIRouter(tags=["health"])
READY = frozenset({WorkerPhase.LOADING, WorkerPhase.IDLE, WorkerPhase.BUSY})


class Health(BaseModel):
    """That the server answers."""

    name: Literal["hayate"] = "hayate"
    version: str = __version__


class Readiness(BaseModel):
    """Whether a worker can compute."""

    is_ready: bool
    phase: WorkerPhase
    """Of the worker that is furthest."""


@router.get("/healthz")
async def health() -> Health:
    """The server answers, whatever its worker does."""
    return Health()


@router.get("/readyz", responses={503: {"model": Readiness, "description": "the workers start, or the server ends"}})
async def readiness(response: Response, desk: TheDesk, lifecycle: TheLifecycle) -> Readiness:
    """Whether jobs are computed: 503 while the workers start, or the server ends."""
    phases = [worker.phase for worker in desk.workers()]
    phase = next((each for each in phases if each in READY), phases[0])
    is_ready = phase in READY and not lifecycle.is_ending
    response.status_code = 200 if is_ready else 503
    return Readiness(is_ready=is_ready, phase=phase)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(request: Request) -> Response:
    """What was counted, for Prometheus."""
    counted: Metrics = request.app.state.metrics
    return Response(counted.page(), media_type=CONTENT_TYPE)


@router.get("/v1/worker")
async def worker(desk: TheDesk) -> WorkerView:
    """What the first worker is at, how its start went, and what it computes with."""
    return worker_view(desk.workers()[0])


@router.get("/v1/workers")
async def workers(desk: TheDesk) -> list[WorkerView]:
    """The same of every worker: there is one for each device."""
    return [worker_view(each) for each in desk.workers()]
