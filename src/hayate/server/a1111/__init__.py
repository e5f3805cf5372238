"""A1111's API, as its clients know it: /sdapi/v1, and what front ends use beside it.

Source: AUTOMATIC1111 v1.10.1, docs/compat.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter

if TYPE_CHECKING:
    from hayate.jobs.desk import Desk
    from hayate.server.a1111.service import Serving
    from hayate.server.listings import Listings
    from hayate.server.preferences import Preferences
    from hayate.settings import Settings

__all__ = ["a1111_router"]


def a1111_router(
    desk: Desk,
    settings: Settings,
    options: Serving,
    preferences: Preferences | None = None,
    listings: Listings | None = None,
) -> APIRouter:
    """All routes, over a desk that the caller starts and closes."""
    from hayate.server.a1111.router import make_router

    return make_router(desk, settings, options, preferences, listings)
