"""The application: every route there is, behind everything that guards it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial

from fastapi import APIRouter, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware

from hayate import __version__
from hayate.errors import UnknownJob
from hayate.jobs.desk import Desk
from hayate.server.extension_routes import PREFIX, ExtensionRoutes
from hayate.server.failures import FailureDoor, install_failures
from hayate.server.late_routes import LateRoutes, MakesLateRoutes
from hayate.server.lifecycle import Lifecycle
from hayate.server.metrics import CountsRequests, Metrics
from hayate.server.openapi import openapi_document
from hayate.server.options import ServeOptions
from hayate.server.picture_files import Thumbnails
from hayate.server.preferences import Preferences
from hayate.server.security import Doorkeeper, Guard, PolicyHeaders
from hayate.settings import Settings

SUMMARY = "Stable Diffusion as fast as this machine allows: A1111's API, jobs that are never lost, and the page."


def create_app(
    desk: Desk,
    settings: Settings,
    options: ServeOptions | None = None,
    *,
    lifecycle: Lifecycle | None = None,
    preferences: Preferences | None = None,
    is_page_first: bool = False,
) -> FastAPI:
    """The server over a desk, which the caller starts and closes.

    With `is_page_first` A1111's routes are made when they are first asked for, or the caller makes them.
    In tests its clients must call it by a name of this machine, such as `TestClient(app, base_url="http://localhost")`.
    """
    options = options or ServeOptions()
    app = FastAPI(
        title="Hayate",
        version=__version__,
        summary=SUMMARY,
        docs_url=None,  # they would load scripts from elsewhere
        redoc_url=None,
        lifespan=_with_lifecycle,
    )
    app.openapi = partial(openapi_document, app, options.subpath)
    app.state.desk = desk
    app.state.settings = settings
    app.state.options = options
    app.state.lifecycle = lifecycle or Lifecycle()
    app.state.thumbnails = Thumbnails()
    app.state.metrics = Metrics(desk)
    app.state.preferences = preferences or Preferences(settings.data_dir / "server", settings)
    install_failures(app)
    _add_routes(app, _early_routers(desk, settings, options))
    app.mount(PREFIX, ExtensionRoutes())

    def add_late() -> None:
        _add_routes(app, _late_routers(app, desk, settings, options))

    app.state.late_routes = LateRoutes(add_late)
    _add_guards(app, options)
    if not is_page_first:
        app.state.late_routes.make()
    return app


def _add_routes(app: FastAPI, routers: Iterable[APIRouter]) -> None:
    for router in routers:
        app.include_router(router)


def _early_routers(desk: Desk, settings: Settings, options: ServeOptions) -> Iterator[APIRouter]:
    """The page, and whether the server lives."""
    from hayate.server.v1 import health

    yield health.router
    if options.has_page:
        from hayate.server.ui.front import front_router

        yield front_router(desk, settings, options.theme)


def _late_routers(app: FastAPI, desk: Desk, settings: Settings, options: ServeOptions) -> Iterator[APIRouter]:
    """The APIs, and what the page's tabs ask for when they are opened."""
    from hayate.server.a1111 import a1111_router
    from hayate.server.doctor_desk import DoctorDesk, HousePractice
    from hayate.server.documentation import documentation_router
    from hayate.server.listings import Listings
    from hayate.server.v1.router import v1_router

    app.state.listings = Listings(settings)
    app.state.doctor = DoctorDesk(settings.data_dir, HousePractice(app.state.preferences), app.state.listings.refresh)
    yield v1_router()
    yield a1111_router(desk, settings, options, app.state.preferences, app.state.listings)
    yield documentation_router()
    if options.has_page:
        from hayate.server.ui.router import ui_router
        from hayate.server.ui.tools import tools_router

        yield ui_router(settings)
        yield tools_router(desk, settings)


def _add_guards(app: FastAPI, options: ServeOptions) -> None:
    """The last one added is the first that a request meets."""
    app.add_middleware(MakesLateRoutes, late=app.state.late_routes)
    app.add_middleware(RequestBodyLimitMiddleware, max_body_size=options.body_cap_bytes)
    app.add_middleware(Doorkeeper, options=options)
    if options.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=options.origins,
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID"],
            allow_credentials=True,
            expose_headers=["Location", "Retry-After"],
        )
    app.add_middleware(Guard, options=options)
    app.add_middleware(FailureDoor)
    app.add_middleware(CountsRequests, metrics=app.state.metrics)
    if options.subpath:
        from hayate.server.below_path import BelowPath

        app.add_middleware(BelowPath, path=options.subpath)
    app.add_middleware(PolicyHeaders)


@asynccontextmanager
async def _with_lifecycle(app: FastAPI) -> AsyncIterator[None]:
    """Open streams of events learn of the end through the lifecycle, which needs the running loop."""
    lifecycle: Lifecycle = app.state.lifecycle
    lifecycle.begin()
    counting = asyncio.create_task(_count_jobs(app))
    yield
    lifecycle.end()
    await counting


async def _count_jobs(app: FastAPI) -> None:
    """Until the server ends."""
    lifecycle: Lifecycle = app.state.lifecycle
    async with aclosing(lifecycle.until_end(app.state.desk.events(watches=False))) as events:
        async for event in events:
            with suppress(UnknownJob):  # forgotten meanwhile
                await app.state.metrics.note_event(event)
