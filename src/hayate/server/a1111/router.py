"""Every route of A1111's API in one router."""

from __future__ import annotations

from fastapi import APIRouter

from hayate.jobs.desk import Desk
from hayate.server.a1111.extras import extras_routes
from hayate.server.a1111.generate import generate_routes
from hayate.server.a1111.lists import list_routes
from hayate.server.a1111.machine import machine_routes
from hayate.server.a1111.networks import network_routes
from hayate.server.a1111.options import option_routes
from hayate.server.a1111.progress import progress_routes
from hayate.server.a1111.service import Service, Serving
from hayate.server.a1111.tasks import Tasks
from hayate.server.listings import Listings
from hayate.server.preferences import Preferences
from hayate.settings import Settings


def make_router(
    desk: Desk,
    settings: Settings,
    serving: Serving,
    preferences: Preferences | None = None,
    listings: Listings | None = None,
) -> APIRouter:
    """The routes, over the lists and the choices that the server's other routes have too, or of their own."""
    service = Service(
        desk=desk,
        settings=settings,
        preferences=preferences or Preferences(settings.data_dir / "server", settings),
        listings=listings or Listings(settings),
        tasks=Tasks(desk),
        serving=serving,
    )
    router = APIRouter()
    for make in _ROUTES:
        router.include_router(make(service))
    return router


_ROUTES = (
    generate_routes,
    extras_routes,
    progress_routes,
    option_routes,
    list_routes,
    network_routes,
    machine_routes,
)
