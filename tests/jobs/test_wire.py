"""Dataclasses as JSON and back: the same again, and nothing else than they say."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hayate.errors import HayateError, UnknownName, UsageError
from hayate.jobs.messages import (
    Am,
    Answered,
    Ask,
    Begin,
    Cancel,
    Doing,
    Ended,
    Hello,
    LeftOut,
    Showing,
    Skip,
    Watch,
    line_of,
    message_of,
)
from hayate.jobs.records import (
    Failure,
    Picture,
    Progress,
    Result,
    State,
    WorkerPhase,
    WorkerState,
    error_of,
    failure_of,
)
from hayate.jobs.wire import as_object, read_object
from hayate.request import Hires, StartImage, TextToImage
from hayate.runtime.asked import Asked
from hayate.settings import load_settings

NUMBERS = st.floats(0.01, 8, allow_nan=False)
STARTS = st.builds(
    StartImage, path=st.text(), denoising=NUMBERS, mask=st.none() | st.text(), padding_px=st.none() | st.integers(0, 9)
)
REQUESTS = st.builds(
    TextToImage,
    prompt=st.text(),
    styles=st.lists(st.text(), max_size=3).map(tuple),
    steps=st.none() | st.integers(1, 100),
    cfg=st.none() | NUMBERS,
    hires=st.none() | st.builds(Hires, scale=NUMBERS, steps=st.none() | st.integers(1, 9)),
    start=st.none() | STARTS,
)
ASKED = st.builds(
    Asked,
    guidance_interval=st.none() | st.tuples(NUMBERS, NUMBERS),
    compile_parts=st.lists(st.sampled_from(["unet", "vae"]), max_size=2).map(tuple),
    checks_nan=st.booleans(),
)


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    name: str
    count: int = 0
    share: float | None = None
    is_there: bool = False
    colours: tuple[Colour, ...] = ()
    box: tuple[int, int] = (0, 0)
    more: dict[str, float] = field(default_factory=dict)
    place: Path | None = None
    anything: Any = None


@given(value=REQUESTS | ASKED | STARTS)
def test_through_json_and_back_is_the_same(value: Any) -> None:
    text = json.dumps(as_object(value))
    assert read_object(type(value), json.loads(text), "it") == value


def test_what_is_as_by_default_is_left_out_and_what_only_equals_it_is_not() -> None:
    assert as_object(Thing(name="x")) == {"name": "x"}
    assert as_object(Thing(name="x", share=0.0, place=Path("/a"))) == {"name": "x", "share": 0.0, "place": "/a"}
    assert as_object(Thing(name="x", count=False)) == {"name": "x", "count": False}  # another type is another value


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({}, "it has no name"),
        ({"name": 3}, "it: name: 3 is not a text"),
        ({"name": "x", "count": True}, "it: count: True is not a whole number"),
        ({"name": "x", "count": 1.5}, "it: count: 1.5 is not a whole number"),
        ({"name": "x", "share": "1"}, "it: share: '1' is not a number"),
        ({"name": "x", "is_there": 1}, "it: is_there: 1 is not true or false"),
        ({"name": "x", "colours": "red"}, "it: colours: 'red' is not a list"),
        ({"name": "x", "colours": ["rde"]}, "unknown it: colours 'rde'"),
        ({"name": "x", "box": [1]}, "it: box has 1 values"),
        ({"name": "x", "more": {"a": "b"}}, "it: more.a: 'b' is not a number"),
        ({"name": "x", "more": [1]}, "it: more: \\[1\\] is no object"),
        ({"name": None}, "it: name: None is not a text"),
        ([], "it is no object"),
        ({"name": "x", "cuont": 1}, "unknown field of it 'cuont' \\(nearest: count"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(words: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_object(Thing, words, "it")


def test_whole_numbers_serve_as_numbers() -> None:
    found = read_object(Thing, {"name": "x", "share": 2, "colours": ["blue"], "place": "/a"}, "it")
    assert (found.share, found.colours, found.place) == (2.0, (Colour.BLUE,), Path("/a"))
    assert isinstance(found.share, float)


PICTURE = Picture(path="/a", seed=-1, subseed=2, infotext="é\n", width_px=64, height_px=8, is_saved=False)


@pytest.mark.parametrize(
    "message",
    [
        Hello(settings=load_settings({}, environment={}), model="a b"),
        Begin(job="1", kind="generate", body={"request": {"prompt": "\n"}}, results="/r"),
        Cancel(job="1"),
        Skip(job="1"),
        Watch(is_watched=True),
        Ask(number=3, question="plan", arguments={"request": {}}),
        Am(state=WorkerState(phase=WorkerPhase.BUSY, pid=3, seconds={"import": 1.5}, facts={"a": None})),
        Doing(progress=Progress(job="1", phase="sampling", share=0.5, it_per_s=3.0, details={"rows": [1]})),
        Showing(job="1", jpeg="AAAA"),
        LeftOut(extension="loops", problem="it did not end"),
        Ended(job="1", state=State.DONE, result=Result(pictures=(PICTURE,), facts={"x": {"y": [1]}})),
        Ended(job="1", state=State.FAILED, failure=Failure(type="UsageError", message="m", hint="h", status=422)),
        Answered(number=3, answer={"a": [1]}),
    ],
)
def test_a_message_is_one_line_and_comes_back(message: Any) -> None:
    line = line_of(message)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert message_of(line) == message


@pytest.mark.parametrize("line", [b"", b"{", b"nonsense\n", b"{}\n", b"[]\n", b'{"is": "Unheard"}\n'])
def test_what_is_no_message_is_an_error_and_nothing_else(line: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError, HayateError)):
        message_of(line)


def test_an_error_comes_back_as_what_it_was() -> None:
    error = UnknownName("sampler", "Eulr", ["Euler", "Heun"])
    again = error_of(failure_of(error))
    assert isinstance(again, UnknownName)
    assert (str(again), again.http_status) == (str(error), 422)
    unknown = error_of(Failure(type="ZeroDivisionError", message="unexpected", status=500))
    assert type(unknown) is HayateError
    assert unknown.http_status == 500
