"""Recipes that were saved: in texts of their own, and in the metadata of merged models."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hayate.errors import BrokenFile, ModelFileError, OutputError, UnknownName, UsageError, clip
from hayate.weights import merge_recipe
from hayate.weights.folders import BUILT_IN, RECIPES, find_model, find_recipe, recipe_files, unknown_model
from hayate.weights.merge_nodes import Model
from hayate.weights.merge_recipe import MAX_CHARACTERS, Recipe, expanded, parse_recipe, quoted
from hayate.weights.read import read_header
from hayate.weights.write import new_file

RECIPE, MODELS = "sd_merge_recipe", "sd_merge_models"
"""A1111's keys of a merged model's metadata."""
_METHODS = {"weighted sum": ("merge", 2), "add difference": ("add_difference", 3), "no interpolation": ("", 1)}
"""A1111's names of its ways to merge."""
_LOOKS_LIKE_ONE = re.compile(r"\s*[A-Za-z_]\w*\s*\(.*,.*\)\s*", re.DOTALL)
_RANKS = ("primary", "secondary", "tertiary")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeEntry:
    """One saved recipe of a folder."""

    name: str
    """Its path inside the folder, without the extension."""
    path: Path
    text: str | None
    problem: str | None
    """Why it can't be used, or None."""


def list_recipes(folder: Path, built_in: Path | None = None, *, follows_links: bool = True) -> tuple[RecipeEntry, ...]:
    """Every saved recipe in `folder` and below, sorted by name; wrong ones with the reason."""
    return tuple(
        _entry(name, path, folder, built_in, follows_links)
        for name, path in recipe_files(folder, follows_links=follows_links).items()
    )


def is_recipe(name: str) -> bool:
    """Whether a name is written as a recipe is, even if not a right one."""
    return merge_recipe.is_recipe(name) or _LOOKS_LIKE_ONE.fullmatch(name) is not None


def recipe_named(name: str, folder: Path, built_in: Path | None = None, *, allows_paths: bool = True) -> Recipe:
    """The recipe that a model's name is, if no model has it: written as one, or that of a saved one.

    Raises: as `full_recipe`.
    """
    if is_recipe(name):
        return full_recipe(name, folder, built_in, allows_paths=allows_paths)
    path = find_recipe(name, folder, allows_paths=allows_paths)
    if path is None:
        raise unknown_model(name, folder, built_in, follows_links=allows_paths)
    return full_recipe(read_recipe(path), folder, built_in, allows_paths=allows_paths)


def full_recipe(text: str, folder: Path, built_in: Path | None = None, *, allows_paths: bool = True) -> Recipe:
    """The recipe that a text is, with the saved ones that it names written out.

    So the text stays the same recipe, whatever becomes of their files. A model of a name goes before a recipe of it.
    Raises: UsageError, UnknownName, ModelFileError.
    """

    def saved(model: Model) -> str | None:
        try:
            path = find_model(model.name, folder, built_in, allows_paths=allows_paths)
        except UnknownName:
            recipe = find_recipe(model.name, folder, allows_paths=allows_paths)
            if recipe is None:
                raise
            return read_recipe(recipe)
        return text_in(path) if model.is_saved else None

    return expanded(parse_recipe(text), saved)


def read_recipe(path: Path) -> str:
    """The text of a saved recipe. Raises: BrokenFile, UsageError."""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_CHARACTERS + 1).strip()
    except UnicodeDecodeError as error:
        raise BrokenFile(f"{path} is no text", hint="a recipe is one, such as merge(A, B, 0.35)") from error
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror or error}", hint="check the path") from error
    if not text:
        raise BrokenFile(f"{path} is empty", hint="write a recipe into it, such as merge(A, B, 0.35)")
    return text


def save_recipe(recipe: Recipe, path: Path, *, may_replace: bool = False) -> None:
    """Saves a recipe as a text. Raises: OutputError."""
    if path.suffix.lower() not in RECIPES:
        raise OutputError(f"{path} has no ending of a recipe", hint=f"call it {path.stem}.recipe")
    content = (recipe.text + "\n").encode()
    with new_file(path, len(content), may_replace=may_replace) as file:
        file.write(content)


def text_in(path: Path) -> str:
    """The recipe in a merged model's metadata: an expression, or what A1111 wrote there, as one.

    Raises: UsageError where there is none, or one that an expression can't say; ModelFileError.
    """
    metadata = read_header(path).metadata
    saved, models = (loaded(metadata.get(key)) for key in (RECIPE, MODELS))
    if not isinstance(saved, dict):
        raise UsageError(f"{path} has no recipe in its metadata", hint="only merged models have, and not all of them")
    if isinstance(saved.get("expression"), str):
        return saved["expression"]
    return _from_a1111(saved, models if isinstance(models, dict) else {}, path)


def loaded(text: str | None) -> Any:
    """What metadata say; a text that is no JSON says nothing."""
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return None


def _entry(name: str, path: Path, folder: Path, built_in: Path | None, follows_links: bool) -> RecipeEntry:
    try:
        recipe = full_recipe(read_recipe(path), folder, built_in, allows_paths=follows_links)
        for model in recipe.inputs:
            find_model(model, folder, built_in, allows_paths=follows_links)
    except (UsageError, ModelFileError) as error:
        return RecipeEntry(name=name, path=path, text=None, problem=str(error))
    return RecipeEntry(name=name, path=path, text=recipe.text, problem=None)


def _from_a1111(saved: Mapping[str, Any], models: Mapping[str, Any], path: Path) -> str:
    """Source: A1111 behaviour, "Add merge recipe metadata"."""
    for field in ("bake_in_vae", "discard_weights"):
        if saved.get(field) not in (None, "", "None"):
            hint = "merge without it, and use `hayate models bake`"
            raise UsageError(f"the recipe in {path} has {field}: {clip(str(saved[field]))!r}", hint=hint)
    found = _METHODS.get(str(saved.get("interp_method")).casefold())
    names = [_name_of(models.get(str(saved.get(f"{rank}_model_hash")))) for rank in _RANKS[: found[1] if found else 0]]
    if found is None or None in names:
        raise UsageError(f"the recipe in {path} does not tell its models and method", hint="write it anew")
    listed = ", ".join(quoted(name) for name in names if name is not None)
    return f"{found[0]}({listed}, {saved.get('multiplier')})" if found[0] else listed


def _name_of(model: Any) -> str | None:
    """The name of a model that a recipe's metadata describe."""
    name = model.get("name") if isinstance(model, dict) else None
    return name.replace("\\", "/").rpartition("/")[2] if isinstance(name, str) and name != BUILT_IN else None
