"""What was chosen outlives the server, is never half written, and points at no place on the disk."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hayate.errors import UnknownName, UsageError
from hayate.server.preferences import Preferences
from hayate.settings import SETTINGS, Settings, load_settings

VALUES = {"steps": st.integers(1, 1000), "cfg": st.floats(0, 100), "rng": st.sampled_from(["GPU", "CPU", "NV"])}


@pytest.fixture
def base(tmp_path: Path) -> Settings:
    return load_settings({"data_dir": tmp_path})


def test_choices_lie_over_the_settings_and_are_taken_back_with_nothing(tmp_path: Path, base: Settings) -> None:
    kept = Preferences(tmp_path, base)
    kept.change(settings={"steps": 7, "rng": "CPU"}, names={"model": "mine"})
    kept.change(settings={"rng": None}, others={"x": 1}, page={"theme": "dark"})

    again = Preferences(tmp_path, base)
    assert (again.settings().steps, again.settings().rng) == (7, base.rng)
    assert (again.chosen.model, again.chosen.others, again.chosen.page) == ("mine", {"x": 1}, {"theme": "dark"})
    again.change(names={"model": None}, others={"x": None})
    assert (again.chosen.model, again.chosen.others) == (None, {})


@given(changes=st.lists(st.fixed_dictionaries({}, optional={k: v | st.none() for k, v in VALUES.items()}), max_size=5))
def test_what_is_read_is_what_was_written_whatever_the_order(
    tmp_path_factory: pytest.TempPathFactory, changes: list[dict[str, Any]]
) -> None:
    folder = tmp_path_factory.mktemp("kept")
    base = load_settings({"data_dir": folder})
    kept, expected = Preferences(folder, base), {}
    for each in changes:
        kept.change(settings=each)
        expected = {key: value for key, value in {**expected, **each}.items() if value is not None}
    assert kept.chosen.settings == expected
    assert Preferences(folder, base).chosen == kept.chosen


@pytest.mark.parametrize("key", [each.key for each in SETTINGS if each.is_fixed])
def test_no_place_is_chosen(tmp_path: Path, base: Settings, key: str) -> None:
    kept = Preferences(tmp_path, base)

    with pytest.raises(UsageError, match=key):
        kept.change(settings={"steps": 7, key: "/tmp/elsewhere"})
    with pytest.raises(UnknownName, match="step"):
        kept.change(settings={"stepps": 7})
    assert kept.settings() == base
    assert list(tmp_path.glob("options*")) == []


def test_a_device_that_was_chosen_for_one_worker_waits_while_there_are_several(
    tmp_path: Path, base: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    Preferences(tmp_path, base).change(settings={"device": "cpu", "steps": 7})
    several = Preferences(tmp_path, replace(base, devices="cuda:0,cuda:1"))
    assert several.chosen.settings == {"steps": 7}
    assert "waits: devices has the workers' own" in caplog.text
    with pytest.raises(UsageError, match="device can't be changed from here"):
        several.change(settings={"device": "cuda:0"})
    several.change(settings={"steps": 8})
    assert several.settings().steps == 8
    assert Preferences(tmp_path, base).chosen.settings == {"device": "cpu", "steps": 8}


def test_changes_of_many_threads_are_all_kept(tmp_path: Path, base: Settings) -> None:
    kept = Preferences(tmp_path, base)
    threads = [threading.Thread(target=kept.change, kwargs={"others": {f"key{number}": number}}) for number in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert json.loads((tmp_path / "options.json").read_text())["others"] == {
        f"key{number}": number for number in range(8)
    }


def test_a_file_that_may_not_be_read_is_left_as_it_is(tmp_path: Path, base: Settings) -> None:
    (tmp_path / "options.json").mkdir()

    assert Preferences(tmp_path, base).settings() == base
    assert (tmp_path / "options.json").is_dir()
