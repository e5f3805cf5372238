"""The page's routes: itself, its files, and the JSON that only it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Cookie, Header, Query, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, Field

from hayate.errors import UnknownName
from hayate.jobs.desk import Desk
from hayate.jobs.records import State
from hayate.prompt.styles import Style
from hayate.request import MAX_PROMPT_CHARACTERS
from hayate.server.ui.choices import SOURCES, choices_of
from hayate.server.ui.handed_in import handed_in
from hayate.server.ui.model_facts import model_facts
from hayate.server.ui.page import THEMES, page_file
from hayate.server.ui.pasting import fill_from_picture, fill_from_text
from hayate.server.ui.static_files import StaticFile, static_files
from hayate.server.ui.strings import choose_language
from hayate.server.ui.style_sheet import delete_style, save_style, with_styles
from hayate.server.ui.tokens import count_prompts
from hayate.server.ui.tools import tools_router
from hayate.settings import Settings

LANGUAGE_COOKIE = "hayate_language"
THEME_COOKIE = "hayate_theme"


def ui_router(desk: Desk, settings: Settings, options: object = None) -> APIRouter:
    """Every route of the page, over one desk; `options` are how the server listens, which a page need not know."""
    del options
    router = APIRouter(include_in_schema=False)
    _add_page(router, settings)
    _add_lists(router, settings)
    _add_status(router, desk)
    _add_prompts(router, settings)
    _add_styles(router, settings)
    router.include_router(tools_router(desk, settings))
    return router


def _add_page(router: APIRouter, settings: Settings) -> None:
    @router.get("/", response_class=HTMLResponse)
    def page(
        request: Request,
        accept_language: Annotated[str, Header()] = "",
        hayate_language: Annotated[str | None, Cookie()] = None,
        hayate_theme: Annotated[str, Cookie()] = "auto",
    ) -> Response:
        language = choose_language(hayate_language, accept_language)
        theme = hayate_theme if hayate_theme in THEMES else "auto"
        return _sent(page_file(language, theme, settings), request, "Cookie, Accept-Language, Accept-Encoding")

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


class Prompts(BaseModel):
    """What stands in the boxes."""

    prompt: str = Field("", max_length=MAX_PROMPT_CHARACTERS)
    negative_prompt: str = Field("", max_length=MAX_PROMPT_CHARACTERS)
    styles: list[str] = Field([], max_length=100)
    steps: int = Field(20, ge=1, le=1000)


class PastedText(BaseModel):
    """A "parameters" text, or the name of a picture that was handed in."""

    text: str = Field("", max_length=2**20)
    image: str = Field("", max_length=200)


def _add_prompts(router: APIRouter, settings: Settings) -> None:
    @router.post("/ui/tokens")
    def tokens(asked: Prompts) -> Mapping[str, Any]:
        """For each of the two prompts the tokens used and how many fit."""
        counts = count_prompts(asked.prompt, asked.negative_prompt, asked.styles, asked.steps, settings)
        return {"counts": [{"used": used, "capacity": capacity} for used, capacity in counts]}

    @router.post("/ui/paste")
    def paste(asked: PastedText) -> Mapping[str, Any]:
        """What a picture's parameters do to the form."""
        if asked.image:
            return asdict(fill_from_picture(handed_in(asked.image, settings), settings))
        return asdict(fill_from_text(asked.text, settings))

    @router.get("/ui/model")
    def model(name: Annotated[str, Query(max_length=1000)] = "") -> Mapping[str, Any]:
        """The family of a model and the size that it was trained for."""
        return asdict(model_facts(name, settings))


class NamedStyle(BaseModel):
    """A style, by its name alone where it is to be deleted."""

    name: str = Field(max_length=1000)
    prompt: str = Field("", max_length=MAX_PROMPT_CHARACTERS)
    negative_prompt: str = Field("", max_length=MAX_PROMPT_CHARACTERS)


def _add_styles(router: APIRouter, settings: Settings) -> None:
    @router.post("/ui/styles/apply")
    def apply(asked: Prompts) -> Mapping[str, str]:
        """Both prompts with the styles put in."""
        prompt, negative = with_styles(asked.prompt, asked.negative_prompt, asked.styles, settings)
        return {"prompt": prompt, "negative_prompt": negative}

    @router.post("/ui/styles")
    def save(asked: NamedStyle) -> Mapping[str, str]:
        """Adds a style, or changes the one of that name."""
        save_style(Style(**asked.model_dump()), settings)
        return {"name": asked.name}

    @router.post("/ui/styles/delete")
    def delete(asked: NamedStyle) -> Mapping[str, str]:
        """Takes a style out of the file."""
        delete_style(asked.name, settings)
        return {"name": asked.name}
