"""The routes of the tabs that are no pictures' own."""

from __future__ import annotations

from fastapi import APIRouter

from hayate.jobs.desk import Desk
from hayate.server.ui.checkpoints import checkpoints_router
from hayate.server.ui.measured import measured_router
from hayate.server.ui.merging import merging_router
from hayate.server.ui.picture_words import words_router
from hayate.server.ui.tuned import tuned_router
from hayate.settings import Settings


def tools_router(desk: Desk, settings: Settings) -> APIRouter:
    """All of them."""
    router = APIRouter()
    for each in (
        words_router(settings),
        merging_router(settings),
        checkpoints_router(settings),
        tuned_router(desk, settings),
        measured_router(settings),
    ):
        router.include_router(each)
    return router
