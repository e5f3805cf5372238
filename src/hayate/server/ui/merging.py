"""What the merger's tab asks: the ways to merge, a form as a recipe, and the recipe that a file was made by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from hayate.errors import UsageError, clip
from hayate.server.ui.recipes import RatioFields, RecipeFields, recipe_of
from hayate.settings import Settings
from hayate.weights.builtin import builtin_model
from hayate.weights.folders import find_model
from hayate.weights.merge_blocks import PRESETS, SD_BLOCKS, XL_BLOCKS
from hayate.weights.merge_nodes import METHODS
from hayate.weights.merge_recipe import parse_recipe
from hayate.weights.read import read_header

RECIPE = "sd_merge_recipe"
"""A1111's metadata of a merged file, a JSON text."""
_Text = Annotated[str, Field(max_length=20_000)]


class Way(BaseModel):
    """One way to merge, as the form must know it."""

    id: str
    title: str
    fewest_models: int
    most_models: int
    ratios: int
    calcs: list[str]
    options: dict[str, float]
    """Its further numbers, with what they are unless they are given."""


class Ways(BaseModel):
    """Everything that the merger's form is built from."""

    methods: list[Way]
    sd_blocks: list[str]
    xl_blocks: list[str]
    presets: dict[str, list[float]]
    """By name, over SD's blocks."""


class RatioForm(BaseModel):
    """One ratio of the form."""

    number: float | None = None
    blocks: _Text = ""
    rules: _Text = ""


class LoraForm(BaseModel):
    """A LoRA that goes into the weights."""

    name: _Text
    strength: float = 1.0


class RecipeForm(BaseModel):
    """The merger's form as the page sends it."""

    method: _Text = "merge"
    calc: _Text = "normal"
    models: list[_Text] = Field(default=[], max_length=8)
    ratios: list[RatioForm] = Field(default=[], max_length=2)
    options: dict[str, float] = {}
    loras: list[LoraForm] = Field(default=[], max_length=32)

    def fields(self) -> RecipeFields:
        return RecipeFields(
            method=self.method,
            calc=self.calc,
            models=tuple(self.models),
            ratios=tuple(RatioFields(**ratio.model_dump()) for ratio in self.ratios),
            options=tuple(self.options.items()),
            loras=tuple((lora.name, lora.strength) for lora in self.loras),
        )


class Expression(BaseModel):
    """A recipe that can be read."""

    expression: str
    models: list[str]
    """Each once, A first."""
    loras: list[str]


class MadeBy(BaseModel):
    """How a file was merged, in its own words."""

    model: str
    expression: str | None
    """None where it was merged by a program that keeps no expression, or was not merged."""
    recipe: dict[str, object] | None


def merging_router(settings: Settings) -> APIRouter:
    """The routes of the merger's tab."""
    router = APIRouter(prefix="/ui/merge", tags=["page"])

    @router.get("/ways")
    def ways() -> Ways:
        return _ways()

    @router.post("/recipe")
    def recipe(form: RecipeForm) -> Expression:
        """Raises: UsageError, UnknownName."""
        return _expression(recipe_of(form.fields()).text)

    @router.get("/recipe")
    async def made_by(model: str) -> MadeBy:
        """Raises: UnknownName, ModelFileError."""
        return await run_in_threadpool(_made_by, model, settings)

    return router


def _ways() -> Ways:
    methods = [
        Way(
            id=id_,
            title=each.title,
            fewest_models=each.models[0],
            most_models=each.models[1],
            ratios=each.ratios,
            calcs=list(each.calcs),
            options=dict(each.options),
        )
        for id_, each in METHODS.items()
    ]
    presets = {name: [round(value, 4) for value in values] for name, values in PRESETS.items()}
    return Ways(methods=methods, sd_blocks=list(SD_BLOCKS), xl_blocks=list(XL_BLOCKS), presets=presets)


def _expression(text: str) -> Expression:
    read = parse_recipe(text)
    return Expression(expression=read.text, models=list(read.inputs), loras=list(read.loras))


def _made_by(model: str, settings: Settings) -> MadeBy:
    path = find_model(model, settings.models_dir, builtin_model(), allows_paths=False)
    if not path.is_file():
        raise UsageError(f"{clip(model)!r} is no file", hint="only safetensors files say how they were merged")
    saved = _saved(path)
    expression = None if saved is None else saved.get("expression")
    return MadeBy(model=model, expression=expression if isinstance(expression, str) else None, recipe=saved)


def _saved(path: Path) -> dict[str, object] | None:
    """The recipe in a file's metadata; one that is no JSON is none."""
    try:
        saved = json.loads(read_header(path).metadata.get(RECIPE, ""))
    except (ValueError, RecursionError):
        return None
    return saved if isinstance(saved, dict) else None
