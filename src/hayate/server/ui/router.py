"""The JSON that only the page needs: lists, tokens, pasted texts, styles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from hayate.errors import UnknownName
from hayate.prompt.styles import Style
from hayate.request import MAX_PROMPT_CHARACTERS
from hayate.server.ui.choices import SOURCES, choices_of
from hayate.server.ui.handed_in import handed_in
from hayate.server.ui.model_facts import model_facts
from hayate.server.ui.pasting import fill_from_picture, fill_from_text
from hayate.server.ui.style_sheet import delete_style, save_style, with_styles
from hayate.server.ui.tokens import count_prompts
from hayate.settings import Settings


def ui_router(settings: Settings) -> APIRouter:
    """What the page's fields ask for; the page itself is in `front.py`, its tools' routes in `tools.py`."""
    router = APIRouter(include_in_schema=False)
    _add_lists(router, settings)
    _add_prompts(router, settings)
    _add_styles(router, settings)
    return router


def _add_lists(router: APIRouter, settings: Settings) -> None:
    @router.get("/ui/choices")
    def choices(source: Annotated[list[str] | None, Query()] = None) -> Mapping[str, list[Any]]:
        """Lists that controls choose from; without a name all of them."""
        for name in source or ():
            if name not in SOURCES:
                raise UnknownName("list", name, SOURCES)
        return {name: [asdict(each) for each in choices_of(name, settings)] for name in source or SOURCES}


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
