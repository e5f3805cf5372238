"""What is refused before a model is looked at, and how it is said."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hayate.errors import UsageError
from hayate.request import BOUNDS, TextToImage, validate


def test_only_the_prompt_is_needed() -> None:
    validate(TextToImage(prompt=""))
    validate(TextToImage(prompt="海" * 100_000, negative_prompt="a", width_px=64, height_px=4096, seed=-1, cfg=1))
    missing = dataclasses.MISSING
    required = [
        each.name
        for each in dataclasses.fields(TextToImage)
        if each.default is missing and each.default_factory is missing
    ]
    assert required == ["prompt"]


def test_every_number_has_bounds() -> None:
    numbers = {field.name for field in dataclasses.fields(TextToImage) if "int" in field.type or "float" in field.type}
    assert numbers == set(BOUNDS)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"width_px": 500}, "width 500 is not a multiple of 8 (nearest: 496)"),
        ({"width_px": 100_000}, "width 100000 is out of range (--size takes 64 to 4096)"),
        ({"height_px": 0}, "64 to 4096"),
        ({"steps": 1.5}, "steps 1.5 is not a whole number"),
        ({"steps": 0}, "--steps takes 1 to 1000"),
        ({"steps": 10**400}, "steps 1000000"),
        ({"cfg": math.nan}, "cfg nan is out of range"),
        ({"cfg": math.inf}, "cfg inf is out of range"),
        ({"batch_size": 65}, "--batch-size takes 1 to 64"),
        ({"seed": -2}, "seed -2 is out of range"),
        ({"seed": 2**64}, "seed 18446744073709551616"),
        ({"subseed_strength": 1.01}, "0 to 1"),
        ({"sigma_min": 15.0, "sigma_max": 14.0}, "sigma_min is not below sigma_max"),
        ({"prompt": "a" * 1_000_000}, "the prompt has 1000000 characters (at most 100000 are read)"),
        ({"negative_prompt": "a\0"}, "the negative prompt has a zero character"),
        ({"model": "m" * 5000}, "the model has 5000 characters"),
    ],
)
def test_a_mistake_gives_one_line_with_a_hint(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as raised:
        validate(TextToImage(**{"prompt": "a boat", **fields}))
    message = str(raised.value)
    assert words in message
    assert raised.value.hint
    assert len(message) < 200


@given(name=st.sampled_from(sorted(BOUNDS)), value=st.integers() | st.floats())
def test_what_passes_is_within_its_bounds(name: str, value: float) -> None:
    try:
        validate(TextToImage(prompt="", **{name: value}))  # type: ignore[arg-type]
    except UsageError:
        return
    assert BOUNDS[name].low <= value <= BOUNDS[name].high
    multiple = BOUNDS[name].multiple
    assert not multiple or (isinstance(value, int) and value % multiple == 0)
