"""The merger's form as a recipe: what its fields say, written as the expression that files and jobs take."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from hayate.errors import UnknownName, UsageError, clip
from hayate.weights.merge_blocks import read_ratio
from hayate.weights.merge_nodes import METHODS
from hayate.weights.merge_recipe import Recipe, parse_recipe, quoted

ALONE = "none"
"""A1111's "No interpolation": model A as it is, to be converted or to get another VAE."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioFields:
    """One ratio: a number for the whole model, or texts that say it block by block."""

    number: float | None = None
    blocks: str = ""
    """26 or 20 numbers, a preset's name, or "IN00-03=0.2"; where it holds the base, the number is not read."""
    rules: str = ""
    """SuperMerger's elemental rules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeFields:
    """What the merger's form holds."""

    method: str = "merge"
    calc: str = "normal"
    models: tuple[str, ...] = ()
    """A, B, C and more; empty ones beyond those that the method takes are left out."""
    ratios: tuple[RatioFields, ...] = (RatioFields(number=0.3),)
    options: tuple[tuple[str, float], ...] = ()
    loras: tuple[tuple[str, float], ...] = ()


def recipe_of(fields: RecipeFields) -> Recipe:
    """The recipe that the fields describe.

    Raises: UsageError, UnknownName for what can't be merged so.
    """
    text = quoted(_model(fields.models, 0)) if fields.method == ALONE else _blend(fields)
    if fields.loras:
        uses = ", ".join(f"{quoted(name.strip())}, {_number(strength, name)}" for name, strength in fields.loras)
        text = f"lora({text}, {uses})"
    return parse_recipe(text)


def _blend(fields: RecipeFields) -> str:
    method = METHODS.get(fields.method)
    if method is None:
        raise UnknownName("way to merge", fields.method, (ALONE, *METHODS))
    low, high = method.models
    given = [name for name in fields.models[low:high] if name.strip()]
    models = [*(_model(fields.models, place) for place in range(low)), *given]
    return f"{fields.method}({', '.join([*map(quoted, models), *_arguments(fields, method.ratios)])})"


def _arguments(fields: RecipeFields, count: int) -> Iterator[str]:
    """The numbers, then the keys; what says nothing is left out."""
    ratios = [*fields.ratios, *[RatioFields()] * count][:count]
    names = ("alpha", "beta")[:count]
    bases = [_base(ratio, name) for ratio, name in zip(ratios, names, strict=True)]
    is_whole = None not in bases
    yield from (base if is_whole else f"{name}={base}" for name, base in zip(names, bases, strict=True) if base)
    for key, ratio in zip(("mbw", "mbw_beta"), ratios, strict=False):
        if ratio.blocks.strip():
            yield f"{key}={_text(ratio.blocks)}"
    if ratios and ratios[0].rules.strip():
        yield f"rules={_text(ratios[0].rules)}"
    if fields.calc != "normal":
        yield f"calc={_text(fields.calc)}"
    known = METHODS[fields.method].options
    for name, value in fields.options:
        if name not in known:
            raise UnknownName(f"key of {fields.method}", name, known)
        if value != known[name]:
            yield f"{name}={_number(value, name)}"


def _base(ratio: RatioFields, name: str) -> str | None:
    """The number that holds where no block weight does; None where the block weights have their own."""
    if ratio.blocks.strip() and _has_base(ratio.blocks):
        return None
    return None if ratio.number is None else _number(ratio.number, name)


def _has_base(blocks: str) -> bool:
    try:
        read_ratio(None, blocks)
    except UsageError:
        return False  # without a base, or wrong altogether, which the recipe's own reader says better
    return True


def _model(models: tuple[str, ...], place: int) -> str:
    name = models[place].strip() if place < len(models) else ""
    if not name:
        raise UsageError(f"model {'ABCDEFGH'[place]} is not chosen", hint="choose one from the list")
    return name


def _number(value: float, what: str) -> str:
    if not math.isfinite(value):
        raise UsageError(f"{what} {value} is no number", hint="write one such as 0.35")
    return f"{value:.6g}"


def _text(text: str) -> str:
    """A text as a value in an expression, which knows no escapes."""
    line = ", ".join(each.strip() for each in text.splitlines() if each.strip())
    if '"' in line and "'" in line:
        raise UsageError(f"{clip(line, 40)!r} holds both kinds of quotes", hint="no block and no tensor needs one")
    return f'"{line}"' if '"' not in line else f"'{line}'"
