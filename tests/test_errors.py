"""The error tree: the drawing in the docstring is the code."""

from __future__ import annotations

import inspect
import re

import pytest

from hayate import errors
from hayate.errors import HayateError, UnknownName, clip, nearest

DRAWN = re.compile(r"^([│├└─ ]*)(\w+) +exit (\d+), HTTP (\d+)", re.MULTILINE)


def test_the_drawn_tree_is_the_real_one() -> None:
    drawn = {}
    parents: list[str] = []
    for indent, name, exit_code, status in DRAWN.findall(errors.__doc__ or ""):
        depth = len(indent) // 4
        parents[depth:] = [name]
        drawn[name] = (parents[depth - 1] if depth else "Exception", int(exit_code), int(status))
    classes = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, HayateError)]
    real = {each.__name__: (each.__bases__[0].__name__, each.exit_code, each.http_status) for each in classes}
    assert drawn == real


def test_a_message_is_one_line_with_its_hint() -> None:
    assert str(HayateError("it failed", hint="try again")) == "it failed (try again)"
    assert str(HayateError("it failed")) == "it failed"


@pytest.mark.parametrize(("name", "first"), [("euler A", "Euler a"), ("DPM 2M", "DPM++ 2M"), ("hun", "Heun")])
def test_the_nearest_names_come_first_whatever_their_case(name: str, first: str) -> None:
    known = ("DDIM", "DPM++ 2M", "Euler", "Euler a", "Heun", "LMS")
    assert nearest(name, known)[0] == first
    assert len(nearest(name, known)) == 3


def test_long_names_stay_short_and_no_names_are_said() -> None:
    assert len(str(UnknownName("sampler", "x" * 100_000, ["Euler"]))) < 200
    assert "none are known" in str(UnknownName("sampler", "x", []))
    assert len(clip("x" * 100)) == 60
