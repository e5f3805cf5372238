"""What the page shows of a chosen model before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hayate.errors import HayateError, UnknownName
from hayate.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """A model's family and size; nothing of it where its file can't be read."""

    family: str = ""
    size_px: int | None = None
    """The side that it was trained for, which a job without a size takes."""
    problem: str = ""
    hint: str = ""
    """What to do about the problem."""


def model_facts(name: str, settings: Settings) -> ModelFacts:
    """What the header of the file says; of a merge that of A, whose architecture it has. Cost: 1 to 10 ms."""
    from hayate.weights.detect import detect
    from hayate.weights.folders import BUILT_IN
    from hayate.weights.read import read_header

    try:
        path = _first_file(name or BUILT_IN, settings)
        header = read_header(path)
        config = detect(header.tensors, header.metadata, source=path.name)
    except HayateError as error:
        return ModelFacts(problem=error.message, hint=error.hint)
    return ModelFacts(family=config.family.value, size_px=config.native_size_px)


def _first_file(name: str, settings: Settings) -> Path:
    """The model's file, or that of the first model of a recipe. Raises: HayateError."""
    from hayate.weights.builtin import builtin_model
    from hayate.weights.folders import find_model
    from hayate.weights.recipes import recipe_named

    folder, built_in = settings.models_dir, builtin_model()
    try:
        return find_model(name, folder, built_in, allows_paths=False)
    except UnknownName:
        recipe = recipe_named(name, folder, built_in, allows_paths=False)
    return find_model(recipe.inputs[0], folder, built_in, allows_paths=False)
