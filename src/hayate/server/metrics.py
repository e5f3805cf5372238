"""What the server counts, for Prometheus: jobs, their seconds, the queue, the worker, requests."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hayate import __version__
from hayate.jobs.desk import Desk
from hayate.jobs.events import LAST_KINDS
from hayate.jobs.records import Event, JobRecord, State, WorkerPhase

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
JOB_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
HTTP_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2.5, 10, 60)


class Metrics:
    """One registry of its own, so that several servers in one process don't count each other's."""

    def __init__(self, desk: Desk) -> None:
        self.registry = CollectorRegistry()
        self._desk = desk
        self._ended = Counter("hayate_jobs_total", "Jobs that have ended.", ("kind", "state"), registry=self.registry)
        self._taken = Counter("hayate_jobs_taken_total", "Jobs that were taken.", registry=self.registry)
        self._job_s = Histogram(
            "hayate_job_seconds",
            "From a job's start to its end.",
            ("kind",),
            buckets=JOB_SECONDS,
            registry=self.registry,
        )
        self._wait_s = Histogram(
            "hayate_job_wait_seconds", "From handing in to the start.", buckets=JOB_SECONDS, registry=self.registry
        )
        self._speeds: dict[str, float] = {}
        self._speed = Gauge(
            "hayate_iterations_per_second", "Of the running jobs; 0 without one.", registry=self.registry
        )
        self._pictures = Counter("hayate_pictures_total", "Pictures that were made.", registry=self.registry)
        self._http_s = Histogram(
            "hayate_http_seconds",
            "From a request to its answer's first byte.",
            ("method", "route", "status"),
            buckets=HTTP_SECONDS,
            registry=self.registry,
        )
        self.registry.register(_Now(desk))

    def page(self) -> bytes:
        """All of it in Prometheus' text."""
        return generate_latest(self.registry)

    async def note_event(self, event: Event) -> None:
        """Counts what happened to a job. Raises: UnknownJob where it was forgotten meanwhile."""
        if event.kind == "queued" and event.data.get("attempt", 0) == 0:
            self._taken.inc()
        elif event.kind == "queued":  # again, after a crash
            self._stand_still(event.job)
        elif event.kind == "progress":
            self._speeds[event.job] = event.data.get("it_per_s") or 0
            self._speed.set(sum(self._speeds.values()))
        elif event.kind in LAST_KINDS:
            self._stand_still(event.job)
            self._note_end(await run_in_threadpool(self._desk.job, event.job))

    def _stand_still(self, job: str) -> None:
        self._speeds.pop(job, None)
        self._speed.set(sum(self._speeds.values()))

    def note_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts an answer."""
        self._http_s.labels(method, route, str(status)).observe(seconds)

    def _note_end(self, job: JobRecord) -> None:
        self._ended.labels(job.kind, job.state.value).inc()
        if job.started_s is not None and job.ended_s is not None:
            self._job_s.labels(job.kind).observe(max(0.0, job.ended_s - job.started_s))
            self._wait_s.observe(max(0.0, job.started_s - job.created_s))
        if job.result is not None:
            self._pictures.inc(len(job.result.pictures))


class CountsRequests:
    """Notes how long each answer took, under its route and not its address: ids would be a series each."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started_s = time.perf_counter()

        async def send_noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "none")
                seconds = time.perf_counter() - started_s
                self.metrics.note_request(_method(scope["method"]), route, message["status"], seconds)
            await send(message)

        await self.app(scope, receive, send_noting)


class _Now(Collector):
    """What is read when it is asked for: the queue, the running job, the worker."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def collect(self) -> Iterator[Metric]:
        workers = self._desk.workers()
        info = GaugeMetricFamily("hayate_build_info", "Which Hayate this is.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
        unfinished = GaugeMetricFamily("hayate_jobs", "Jobs that have not ended.", labels=["state"])
        for state in (State.QUEUED, State.RUNNING):
            unfinished.add_metric([state.value], self._desk.count(state))
        yield unfinished
        yield GaugeMetricFamily(
            "hayate_worker_restarts",
            "How often workers were started anew.",
            value=sum(each.restarts for each in workers),
        )
        phases = GaugeMetricFamily("hayate_worker_phase", "How many workers are at it.", labels=["phase"])
        for phase in WorkerPhase:
            phases.add_metric([phase.value], sum(each.phase is phase for each in workers))
        yield phases


def _method(method: str) -> str:
    """HTTP's own methods by name; callers may invent others without end."""
    return method if method in ("GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS") else "other"
