"""Every route of the asynchronous API."""

from __future__ import annotations

from fastapi import APIRouter

from hayate.server.v1 import choices, events, health, jobs, library, measuring, pictures


def v1_router() -> APIRouter:
    """/v1, /healthz, /readyz and /metrics; they find the desk and the settings in the application's state."""
    router = APIRouter()
    for each in (health, events, jobs, pictures, library, choices, measuring):
        router.include_router(each.router)
    return router
