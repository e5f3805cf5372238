"""Every route of the asynchronous API."""

from __future__ import annotations

from fastapi import APIRouter

from hayate.server.v1 import choices, doctor, events, extensions, jobs, listings, measuring, pictures


def v1_router() -> APIRouter:
    """All of /v1 but the worker's state, which is with the health; they find what they need in the app's state."""
    router = APIRouter()
    for each in (events, jobs, pictures, listings, choices, measuring, extensions, doctor):
        router.include_router(each.router)
    return router
