"""The history: nothing is lost, whatever happens to its file."""

from __future__ import annotations

import json
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hayate.bench.comparison import compared, comparison_text
from hayate.bench.history import FILE_NAME, History, NewerHistory, as_markdown
from hayate.errors import OutputError, UsageError


def measurement(speed: float = 10.0, **more: Any) -> dict[str, Any]:
    figure = {"median": speed, "low": 0.9 * speed, "high": 1.1 * speed}
    return {
        "at": "2026-11-25T10:00:00Z",
        "label": "",
        "preset": "quick",
        "model": {"name": "m", "hash": "0123456789", "family": "sd1", "is_random": False},
        "work": {"width_px": 64, "height_px": 64, "batch_size": 1, "batch_count": 1, "steps": 4},
        "machine": {"processor": {"model": "a CPU", "cores": 2}, "gpus": [], "versions": {"torch": "2.13"}},
        "asked": {},
        "choices": {"attention": {"value": "native", "reason": "r"}},
        "first": {"total": 1.0},
        "summary": {"it_per_s": figure, "images_per_minute": figure},
        "difference": None,
        **more,
    }


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(path=tmp_path / "data" / FILE_NAME)


def test_what_was_added_is_found_by_number_by_label_and_as_the_last(history: History) -> None:
    numbers = [history.add(measurement(speed, label=label)) for speed, label in ((1, "a"), (2, "b"), (3, "a"))]
    assert numbers == [1, 2, 3]
    speeds = [each["summary"]["it_per_s"]["median"] for each in history.find(["1", "a", "last", "b"])]
    assert speeds == [1, 3, 3, 2]
    assert [each["id"] for each in history.latest(2)] == [2, 3]
    with pytest.raises(UsageError, match=r"no measurement '9'.*there are 3, up to number 3"):
        history.find(["9"])


def test_an_empty_history_says_how_to_begin(history: History) -> None:
    assert history.latest(5) == []
    with pytest.raises(UsageError, match="hayate bench quick"):
        history.find(["last"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(damage=st.binary(min_size=1, max_size=3000), place=st.floats(0, 1))
def test_a_damaged_file_is_set_aside_named_and_whole(tmp_path: Path, damage: bytes, place: float) -> None:
    path = tmp_path / FILE_NAME
    for old in tmp_path.iterdir():
        old.unlink()
    history = History(path=path)
    for _ in range(20):
        history.add(measurement())
    content = bytearray(path.read_bytes())
    start = int(place * (len(content) - 1))
    content[start : start + len(damage)] = damage
    path.write_bytes(content)
    try:
        number = history.add(measurement(77.0))
    except (NewerHistory, OutputError):  # the damage hit the version or the locking page: refused, untouched
        assert path.read_bytes() == content
        return
    assert history.find([str(number)])[0]["summary"]["it_per_s"]["median"] == 77.0
    aside = [each for each in tmp_path.iterdir() if ".damaged-" in each.name]
    assert bool(aside) == bool(history.notes)
    if aside:
        assert aside[0].read_bytes() == content
        assert str(aside[0]) in history.notes[0]


def test_a_file_that_is_no_database_is_set_aside(history: History) -> None:
    history.path.parent.mkdir()
    history.path.write_text("once upon a time" * 100)
    assert history.add(measurement()) == 1
    assert "damaged" in history.notes[0]
    assert [each.read_text() for each in history.path.parent.glob("*.damaged-*")] == ["once upon a time" * 100]


def test_a_newer_history_is_left_alone(history: History) -> None:
    history.add(measurement())
    with sqlite3.connect(history.path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    before = history.path.read_bytes()
    with pytest.raises(NewerHistory, match="newer Hayate"):
        history.latest(1)
    assert history.path.read_bytes() == before


def test_a_place_that_can_not_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="can't be opened"):
        History(path=tmp_path / "file" / FILE_NAME).latest(1)


def test_many_writers_lose_nothing(history: History) -> None:
    history.add(measurement())
    threads = [threading.Thread(target=lambda: [history.add(measurement()) for _ in range(10)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each["id"] for each in history.latest(100)] == list(range(1, 42))


def test_markdown_has_a_row_each_and_escapes_bars() -> None:
    table = as_markdown([{"id": 4, **measurement(label="a|b")}, {"id": 5, **measurement()}])
    lines = table.splitlines()
    assert len(lines) == 4
    assert "a\\|b" in lines[2]
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1


def test_a_comparison_says_how_sure_it_is_and_what_differs() -> None:
    first = {"id": 1, **measurement(10.0)}
    other = measurement(20.0, choices={"attention": {"value": "math", "reason": "asked for"}})
    second = {"id": 2, **other}
    found = compared(first, second)
    assert found["ratio"] == 2.0
    assert found["ratio_range"] == [pytest.approx(18 / 11, abs=1e-4), pytest.approx(22 / 9, abs=1e-4)]
    assert found["is_certain"]
    assert not found["caveats"]
    assert found["differing"] == {"attention": ("native", "math")}
    assert not compared(first, {"id": 3, **measurement(10.5)})["is_certain"]
    elsewhere = measurement(work={**first["work"], "steps": 9}, machine={"gpus": [{"name": "H100"}]})
    text = comparison_text(first, {"id": 4, **elsewhere})
    assert "other machines" in text
    assert "other work: steps" in text
    json.dumps(found)
