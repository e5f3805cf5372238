"""Controls hold what jobs say to extensions to what their manifests allow."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hayate.errors import UnknownName, UsageError
from hayate.extensions.control import Control, checked_values

CONTROLS = (
    Control(key="strength", kind="slider", default=0.5, low=0, high=1, label={"en": "Strength"}),
    Control(key="count", kind="number", default=3, low=1, high=9, step=1, label={"en": "Count"}),
    Control(key="is_soft", kind="switch", default=False, label={"en": "Soft"}),
    Control(key="mode", kind="choice", default="a", choices=("a", "b"), label={"en": "Mode"}),
    Control(key="words", kind="prompt", default="", label={"en": "Words"}),
)


def test_what_is_not_said_is_as_by_default() -> None:
    assert checked_values(CONTROLS, {"count": 4}, "it") == {
        "strength": 0.5,
        "count": 4,
        "is_soft": False,
        "mode": "a",
        "words": "",
    }


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("strength", 1.1),
        ("strength", float("nan")),
        ("strength", True),
        ("strength", "0.5"),
        ("count", 2.5),
        ("count", 10),
        ("is_soft", 1),
        ("mode", "c"),
        ("words", None),
        ("words", "x" * 20_000),
        ("nothing", 1),
    ],
)
def test_what_can_not_be_is_refused(key: str, value: Any) -> None:
    with pytest.raises(UsageError) as caught:
        checked_values(CONTROLS, {key: value}, "it")
    assert caught.value.hint


def test_an_unknown_field_gets_the_nearest() -> None:
    with pytest.raises(UnknownName, match="nearest: strength"):
        checked_values(CONTROLS, {"strengh": 1}, "it")


@given(st.dictionaries(st.sampled_from([c.key for c in CONTROLS]), st.none() | st.booleans() | st.floats() | st.text()))
def test_values_are_of_their_kind_or_refused(given_values: dict[str, Any]) -> None:
    try:
        values = checked_values(CONTROLS, given_values, "it")
    except UsageError:
        return
    kinds = {"strength": float, "count": int, "is_soft": bool, "mode": str, "words": str}
    assert all(type(value) is kinds[key] for key, value in values.items())


@pytest.mark.parametrize(
    ("key", "word", "value"),
    [("strength", "0.25", 0.25), ("count", "4", 4), ("is_soft", "yes", True), ("mode", "b", "b"), ("words", "1", "1")],
)
def test_a_command_lines_word_is_a_value(key: str, word: str, value: Any) -> None:
    control = next(each for each in CONTROLS if each.key == key)
    assert control.parsed(word, "it") == value


@pytest.mark.parametrize(("key", "word"), [("strength", "much"), ("count", "1.5"), ("is_soft", "maybe"), ("mode", "c")])
def test_a_word_that_is_none_is_refused(key: str, word: str) -> None:
    control = next(each for each in CONTROLS if each.key == key)
    with pytest.raises(UsageError):
        control.parsed(word, "it")
