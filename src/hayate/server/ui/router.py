"""The page's routes: itself, its files, and the JSON that only it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Cookie, Header, Query
from fastapi.responses import HTMLResponse, Response

from hayate.errors import UnknownName
from hayate.jobs.desk import Desk
from hayate.jobs.records import State
from hayate.server.options import ServeOptions
from hayate.server.ui.choices import SOURCES, choices_of
from hayate.server.ui.page import THEMES, render_page
from hayate.server.ui.static_files import static_files
from hayate.server.ui.strings import choose_language
from hayate.server.ui.tools import tools_router
from hayate.settings import Settings

LANGUAGE_COOKIE = "hayate_language"
THEME_COOKIE = "hayate_theme"


def ui_router(desk: Desk, settings: Settings, options: ServeOptions | None = None) -> APIRouter:
    """Every route of the page, over one desk."""
    del options
    router = APIRouter(include_in_schema=False)
    _add_page(router, settings)
    _add_lists(router, settings)
    _add_status(router, desk)
    router.include_router(tools_router(desk, settings))
    return router


def _add_page(router: APIRouter, settings: Settings) -> None:
    @router.get("/", response_class=HTMLResponse)
    def page(
        accept_language: Annotated[str, Header()] = "",
        hayate_language: Annotated[str | None, Cookie()] = None,
        hayate_theme: Annotated[str, Cookie()] = "auto",
    ) -> HTMLResponse:
        language = choose_language(hayate_language, accept_language)
        theme = hayate_theme if hayate_theme in THEMES else "auto"
        html = render_page(language, theme, asdict(settings))
        return HTMLResponse(html, headers={"Cache-Control": "no-cache", "Vary": "Cookie, Accept-Language"})

    @router.get("/static/{path:path}")
    def static(path: str, if_none_match: Annotated[str, Header()] = "") -> Response:
        file = static_files().get(path)
        if file is None:
            return Response(status_code=404)
        headers = {"Cache-Control": "no-cache", "ETag": file.tag}
        if file.tag in if_none_match:
            return Response(status_code=304, headers=headers)
        return Response(file.content, media_type=file.media_type, headers=headers)


def _add_lists(router: APIRouter, settings: Settings) -> None:
    @router.get("/ui/choices")
    def choices(source: Annotated[list[str] | None, Query()] = None) -> Mapping[str, list[Any]]:
        """Lists that controls choose from; without a name all of them."""
        for name in source or ():
            if name not in SOURCES:
                raise UnknownName("list", name, SOURCES)
        return {name: [asdict(each) for each in choices_of(name, settings)] for name in source or SOURCES}


def _add_status(router: APIRouter, desk: Desk) -> None:
    @router.get("/ui/status")
    def status() -> Mapping[str, Any]:
        """What the worker is at, what runs, and how many jobs wait."""
        running = desk.jobs(states=(State.RUNNING,), limit=1)
        return {
            "worker": asdict(desk.worker()),
            "running": running[0].id if running else None,
            "running_kind": running[0].kind if running else None,
            "queued": len(desk.queued()),
        }
