"""How far the work is, and giving it up: A1111's routes know one job at a time, the one that has run longest."""

from __future__ import annotations

import base64
from typing import Any

from fastapi import APIRouter

from hayate.errors import UnknownJob
from hayate.jobs.records import JobRecord, Progress, State
from hayate.server.a1111.images import data_url
from hayate.server.a1111.info import timestamp
from hayate.server.a1111.replies import InternalProgressReply, PendingTasksReply, ProgressReply
from hayate.server.a1111.requests import InternalProgressRequest
from hayate.server.a1111.route import A1111Route, AsciiJson
from hayate.server.a1111.service import Service

PICTURE_KINDS = ("generate", "upscale")
"""What the global routes may give up: a measurement or a merge has a route of its own."""


def progress_routes(service: Service) -> APIRouter:
    """The routes of the work that goes on; none of them waits for it."""
    router = APIRouter(route_class=A1111Route, tags=["A1111"])

    @router.get("/sdapi/v1/progress", response_model=ProgressReply)
    def progress(skip_current_image: bool = False) -> AsciiJson:
        """How far the running job is, with its preview."""
        return AsciiJson(_progress(service, has_image=not skip_current_image))

    @router.post("/sdapi/v1/interrupt")
    def interrupt() -> AsciiJson:
        """Ends what runs within a step, on every worker; what is finished of it is kept."""
        for job in _running(service):
            service.desk.cancel(job.id)
        return AsciiJson({})

    @router.post("/sdapi/v1/skip")
    def skip() -> AsciiJson:
        """Gives up the pictures that are being made; their jobs go on with the next."""
        for job in _running(service):
            service.desk.skip(job.id)
        return AsciiJson(None)

    @router.post("/internal/progress", response_model=InternalProgressReply)
    def internal_progress(asked: InternalProgressRequest) -> AsciiJson:
        """How far one task is: a `force_task_id`, or a job's id."""
        return AsciiJson(_task_progress(service, asked))

    @router.get("/internal/pending-tasks", response_model=PendingTasksReply)
    def pending_tasks() -> AsciiJson:
        """What runs and what waits."""
        tasks = service.tasks.pending()
        return AsciiJson({"size": len(tasks), "tasks": list(tasks)})

    return router


def _running(service: Service) -> list[JobRecord]:
    return list(service.desk.jobs(states=(State.RUNNING,), kinds=PICTURE_KINDS))


def _progress(service: Service, *, has_image: bool) -> dict[str, Any]:
    now, job = _now(service)
    preview = now.preview if now is not None and has_image else None
    return {
        "progress": 0.0 if now is None else min(1.0, now.share),
        "eta_relative": (now.eta_s if now is not None else None) or 0.0,
        "state": _state(service, now, job),
        "current_image": None if preview is None else base64.b64encode(preview.jpeg).decode("ascii"),
        "textinfo": None if now is None else now.phase,
        "current_task": None if job is None else service.tasks.name(job.id),
    }


def _now(service: Service) -> tuple[Progress | None, JobRecord | None]:
    """What runs; it may end between two questions."""
    now = service.desk.progress()
    if now is None:
        return None, None
    try:
        return now, service.desk.job(now.job)
    except UnknownJob:
        return None, None


def _state(service: Service, now: Progress | None, job: JobRecord | None) -> dict[str, Any]:
    """A1111's own state; a job count of 0 is what its clients take for idle."""
    is_ending = job is not None and job.is_cancel_asked
    return {
        "skipped": False,
        "interrupted": is_ending,
        "stopping_generation": False,
        "job": "" if job is None else service.tasks.name(job.id),
        "job_count": 0 if now is None else max(1, now.pictures),
        "job_timestamp": "0" if job is None else timestamp(job),
        "job_no": 0 if now is None else now.picture,
        "sampling_step": 0 if now is None else now.row,
        "sampling_steps": 0 if now is None else now.rows,
    }


def _task_progress(service: Service, asked: InternalProgressRequest) -> dict[str, Any]:
    """Of a task that nobody knows: neither active, queued nor completed."""
    reply: dict[str, Any] = dict.fromkeys(("active", "queued", "completed"), False)
    reply |= dict.fromkeys(("progress", "eta", "live_preview"))
    reply |= {"id_live_preview": asked.id_live_preview, "textinfo": "Waiting..."}
    try:
        job = service.tasks.find(asked.id_task)
    except UnknownJob:
        return reply
    reply["completed"] = job.state.is_terminal
    if job.state is State.QUEUED:
        place, count = _place(service, job)
        return reply | {"queued": True, "textinfo": f"In queue: {place}/{count}"}
    if job.state is State.RUNNING:
        return reply | {"active": True, **_active(service, job, asked)}
    return reply


def _place(service: Service, job: JobRecord) -> tuple[int, int]:
    waiting = [each.id for each in service.desk.queued()]
    return (waiting.index(job.id) + 1 if job.id in waiting else 1), max(1, len(waiting))


def _active(service: Service, job: JobRecord, asked: InternalProgressRequest) -> dict[str, Any]:
    now = service.desk.progress(job.id)
    if now is None:
        return {"progress": 0.0, "textinfo": None}
    found: dict[str, Any] = {"progress": min(1.0, now.share), "eta": now.eta_s, "textinfo": now.phase}
    preview = now.preview
    if asked.live_preview and preview is not None and preview.number != asked.id_live_preview:
        found |= {"live_preview": data_url(preview.jpeg), "id_live_preview": preview.number}
    return found
