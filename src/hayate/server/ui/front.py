"""The page itself, its files and what it shows at its foot: all that a browser asks for before anything is clicked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Cookie, Header, Request
from fastapi.responses import HTMLResponse, Response

from hayate.extensions.current import current
from hayate.jobs.desk import Desk
from hayate.jobs.records import State
from hayate.server.ui.lent_controls import lent_controls
from hayate.server.ui.page import THEMES, page_file
from hayate.server.ui.static_files import StaticFile, static_files
from hayate.server.ui.strings import choose_language
from hayate.settings import Settings


def front_router(desk: Desk, settings: Settings, theme: str = "") -> APIRouter:
    """The routes that are there first; `theme` is for visitors who have chosen none, "" is what their system says."""
    router = APIRouter(include_in_schema=False)
    _add_page(router, settings, theme or THEMES[0])
    _add_status(router, desk)
    return router


def _add_page(router: APIRouter, settings: Settings, default_theme: str) -> None:
    @router.get("/", response_class=HTMLResponse)
    def page(
        request: Request,
        accept_language: Annotated[str, Header()] = "",
        hayate_language: Annotated[str | None, Cookie()] = None,
        hayate_theme: Annotated[str, Cookie()] = "",
    ) -> Response:
        language = choose_language(hayate_language, accept_language)
        theme = hayate_theme if hayate_theme in THEMES else default_theme
        session = current()
        session.refresh()
        lent = lent_controls(session, language)
        return _sent(page_file(language, theme, settings, lent), request, "Cookie, Accept-Language, Accept-Encoding")

    @router.get("/static/{path:path}")
    def static(path: str, request: Request) -> Response:
        file = static_files().get(path)
        return Response(status_code=404) if file is None else _sent(file, request, "Accept-Encoding")


def _sent(file: StaticFile, request: Request, vary: str) -> Response:
    """The file, packed where the browser can unpack it, or nothing where it has it already."""
    headers = {"Cache-Control": "no-cache", "ETag": file.tag, "Vary": vary}
    if file.tag in request.headers.get("If-None-Match", ""):
        return Response(status_code=304, headers=headers)
    if "gzip" not in request.headers.get("Accept-Encoding", ""):
        return Response(file.content, media_type=file.media_type, headers=headers)
    return Response(file.packed, media_type=file.media_type, headers={**headers, "Content-Encoding": "gzip"})


def _add_status(router: APIRouter, desk: Desk) -> None:
    @router.get("/ui/status")
    def status() -> Mapping[str, Any]:
        """What the workers are at, what runs, and how many jobs wait."""
        running = desk.jobs(states=(State.RUNNING,))
        return {
            "workers": [asdict(each) for each in desk.workers()],
            "running": [{"id": each.id, "kind": each.kind} for each in reversed(running)],
            "queued": len(desk.queued()),
        }
