"""What the page shows of a chosen model before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass

from hayate.errors import HayateError
from hayate.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """A model's family and size; nothing of it where its file can't be read."""

    family: str = ""
    size_px: int | None = None
    """The side that it was trained for, which a job without a size takes."""
    problem: str = ""


def model_facts(name: str, settings: Settings) -> ModelFacts:
    """What the header of the file says; of a merge that of A, whose architecture it has. Cost: 1 to 10 ms."""
    from hayate.weights.builtin import builtin_model
    from hayate.weights.detect import detect
    from hayate.weights.folders import BUILT_IN, find_model
    from hayate.weights.merge_recipe import is_recipe, parse_recipe
    from hayate.weights.read import read_header

    try:
        name = parse_recipe(name).inputs[0] if is_recipe(name) else name
        path = find_model(name or BUILT_IN, settings.models_dir, builtin_model(), allows_paths=False)
        header = read_header(path)
        config = detect(header.tensors, header.metadata, source=path.name)
    except HayateError as error:
        return ModelFacts(problem=str(error))
    return ModelFacts(family=config.family.value, size_px=config.native_size_px)
