"""Fixes do what they say, can be taken back to the last byte, and never take away what came later."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from hayate.doctor.finding import Action, Certainty, Finding, Fix, Gain, Job, Kind, Severity
from hayate.doctor.fixing import Report, fix, fix_one, remedies, undo
from hayate.doctor.remedies.package import PackageRemoval
from hayate.doctor.remedies.setting import SettingLine
from hayate.doctor.undo import Done, Ledger
from hayate.errors import Busy, OutputError, UsageError
from hayate.extensions.state import StateFile
from hayate.settings import load_settings


def finding(*actions: Action) -> Finding:
    return Finding(
        severity=Severity.WORTHWHILE,
        found="something",
        why="It matters.",
        gain=Gain(kind=Kind.SPEED, text="much", certainty=Certainty.REASONED),
        fix=Fix(text="Do it.", actions=actions),
        check="a check",
    )


class Place:
    """A user's folder, with what can be done there."""

    def __init__(self, folder: Path, python: str = sys.executable) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.settings = folder / "settings.toml"
        self.ledger = Ledger(self.data_dir)
        self.known = remedies(self.data_dir, {"HAYATE_CONFIG": str(self.settings)}, python)
        self.told: list[Report] = []

    def fix(self, *actions: Action) -> tuple[Report, ...]:
        return fix([finding(*actions)], self.known, self.ledger, self.told.append)

    def undo(self) -> tuple[Report, ...]:
        return undo(self.known, self.ledger, self.told.append)

    def files(self) -> dict[str, bytes]:
        """Everything of the user's, without the doctor's own folder."""
        found = (path for path in self.folder.rglob("*") if path.is_file() and self.data_dir not in path.parents)
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in found}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def quick_conversion(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what is about files and not about their content: a conversion that needs no process of its own."""

    def convert(path: Path, target: Path, conversion: object) -> None:
        del conversion
        target.write_bytes(b"made of " + path.name.encode())

    monkeypatch.setattr("hayate.doctor.remedies.pickle.convert_file", convert)


def pickle_in(folder: Path) -> Path:
    path = folder / "old.ckpt"
    torch.save({"state_dict": {"model.diffusion_model.a": torch.arange(6.0)}}, path)
    return path


def test_a_pickle_becomes_a_safetensors_file_and_comes_back(place: Place) -> None:
    path = pickle_in(place.folder)
    before = place.files()
    (report,) = place.fix(Action(job=Job.CONVERT_PICKLE, subject=str(path)))
    assert report.is_done
    assert set(place.files()) == {"old.safetensors", "old.ckpt.aside"}
    assert load_file(path.with_suffix(".safetensors"))["model.diffusion_model.a"].tolist() == [0, 1, 2, 3, 4, 5]
    (report,) = place.undo()
    assert report.is_done
    assert place.files() == before
    assert place.ledger.read() == ()


@pytest.mark.usefixtures("quick_conversion")
def test_a_conversion_that_was_changed_since_stays(place: Place) -> None:
    path = pickle_in(place.folder)
    place.fix(Action(job=Job.CONVERT_PICKLE, subject=str(path)))
    path.with_suffix(".safetensors").write_bytes(b"merged meanwhile")
    (report,) = place.undo()
    assert report.is_done
    assert place.files()["old.safetensors"] == b"merged meanwhile"
    assert "old.ckpt" in place.files()


def test_a_conversion_is_refused_where_its_result_is_there(place: Place) -> None:
    path = pickle_in(place.folder)
    path.with_suffix(".safetensors").write_bytes(b"mine")
    before = place.files()
    (report,) = place.fix(Action(job=Job.CONVERT_PICKLE, subject=str(path)))
    assert not report.is_done
    assert "old.safetensors is there already" in report.text
    assert place.files() == before
    assert place.ledger.read() == ()


def test_a_pickle_that_asks_for_more_than_tensors_is_left(place: Place) -> None:
    path = place.folder / "evil.ckpt"
    path.write_bytes(b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00exit\x85R.")
    before = place.files()
    (report,) = place.fix(Action(job=Job.CONVERT_PICKLE, subject=str(path)))
    assert not report.is_done
    assert place.files() == before
    assert place.ledger.read() == ()


@pytest.mark.usefixtures("quick_conversion")
def test_one_that_fails_costs_no_other(place: Place) -> None:
    path = pickle_in(place.folder)
    gone = Action(job=Job.CONVERT_PICKLE, subject=str(place.folder / "gone.ckpt"))
    reports = place.fix(gone, Action(job=Job.CONVERT_PICKLE, subject=str(path)))
    assert [report.is_done for report in reports] == [False, True]
    assert list(reports) == place.told


@pytest.mark.usefixtures("quick_conversion")
@pytest.mark.parametrize("cut_after", ["planned", "converted", "moved"])
def test_a_conversion_that_was_cut_short_can_be_taken_back(place: Place, cut_after: str) -> None:
    path = pickle_in(place.folder)
    before = place.files()
    planned = place.known[Job.CONVERT_PICKLE].plan(Action(job=Job.CONVERT_PICKLE, subject=str(path)))
    place.ledger.add(planned)  # written down, then the process is ended in the middle
    if cut_after == "converted":
        path.with_suffix(".safetensors").write_bytes(b"whole, but not recorded as done")
    if cut_after == "moved":
        place.known[Job.CONVERT_PICKLE].do(planned)
    (report,) = place.undo()
    assert report.is_done
    assert {name: content for name, content in place.files().items() if name != "old.safetensors"} == before


VALUES = (("threads", "4"), ("dtype", "auto"), ("checkpoints_cache_bytes", "12884901888"), ("offload", "auto"))
LINES = st.lists(
    st.sampled_from(
        ("# a comment", "", "steps = 30 # more", "threads = 2", "dtype = 'fp32'  # why", "sampler = 'Euler'", "cfg=7.5")
    ),
    unique=True,
).map("\n".join)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=LINES, ends=st.sampled_from(("", "\n")), wish=st.sampled_from(VALUES))
def test_a_setting_is_read_as_written_and_the_file_comes_back(
    content: str, ends: str, wish: tuple[str, str], tmp_path: Path
) -> None:
    key, value = wish
    place = Place(tmp_path)
    before = content + ends if content else ""
    place.settings.write_text(before)
    (report,) = place.fix(Action(job=Job.WRITE_SETTING, subject=key, value=value))
    assert report.is_done, report.text
    assert str(getattr(load_settings(file=place.settings, environment={}), key)) == value
    kept = [line for line in content.split("\n") if not line.startswith(key)]
    assert [line for line in place.settings.read_text().split("\n") if line in kept or line.startswith("#")][
        : len(kept)
    ] == kept
    (report,) = place.undo()
    assert report.is_done
    assert place.settings.read_text() in (before, before + "\n")


def test_a_settings_file_is_made_where_there_is_none(place: Place) -> None:
    place.fix(Action(job=Job.WRITE_SETTING, subject="threads", value="4"))
    assert place.settings.read_text() == "threads = 4\n"
    place.undo()
    assert load_settings(file=place.settings, environment={}).threads == 0


def test_a_setting_that_was_changed_since_stays(place: Place) -> None:
    place.settings.write_text("threads = 8\n")
    place.fix(Action(job=Job.WRITE_SETTING, subject="threads", value="4"))
    place.settings.write_text("threads = 6\n")
    (report,) = place.undo()
    assert not report.is_done
    assert place.settings.read_text() == "threads = 6\n"
    assert len(place.ledger.read()) == 1  # it can still be taken back when the user has changed it again


def test_a_setting_of_the_environment_is_left_to_the_user(tmp_path: Path) -> None:
    environment = {"HAYATE_CONFIG": str(tmp_path / "s.toml"), "HAYATE_THREADS": "9"}
    with pytest.raises(UsageError, match="HAYATE_THREADS"):
        SettingLine(environment).plan(Action(job=Job.WRITE_SETTING, subject="threads", value="4"))


def test_a_broken_settings_file_is_not_written_to(place: Place) -> None:
    place.settings.write_text("stepz = 3\n")
    (report,) = place.fix(Action(job=Job.WRITE_SETTING, subject="threads", value="4"))
    assert not report.is_done
    assert place.settings.read_text() == "stepz = 3\n"


def test_a_profile_is_set_aside_and_put_back(place: Place) -> None:
    profile = place.folder / "profiles" / "p.json"
    profile.parent.mkdir()
    profile.write_text("{}")
    before = place.files()
    place.fix(Action(job=Job.SET_ASIDE, subject=str(profile)))
    assert place.files() == {}
    place.undo()
    assert place.files() == before


def test_a_new_profile_is_not_written_over(place: Place) -> None:
    profile = place.folder / "p.json"
    profile.write_text("old")
    place.fix(Action(job=Job.SET_ASIDE, subject=str(profile)))
    profile.write_text("new")
    (report,) = place.undo()
    assert not report.is_done
    assert profile.read_text() == "new"


def test_a_folder_is_made_with_those_above_and_goes_again(place: Place) -> None:
    (place.folder / "models").mkdir()
    folder = place.folder / "models" / "a" / "b"
    place.fix(Action(job=Job.MAKE_FOLDER, subject=str(folder)))
    assert folder.is_dir()
    place.undo()
    assert (place.folder / "models").is_dir()
    assert not folder.parent.exists()


def test_a_folder_in_use_stays(place: Place) -> None:
    folder = place.folder / "models"
    place.fix(Action(job=Job.MAKE_FOLDER, subject=str(folder)))
    (folder / "mine.safetensors").write_bytes(b"x")
    (report,) = place.undo()
    assert not report.is_done
    assert (folder / "mine.safetensors").exists()


@pytest.mark.skipif(os.name == "nt", reason="the pip of this test is a shell script")
def test_a_package_goes_and_comes_back_at_its_version(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    place = Place(tmp_path, str(python))
    place.fix(Action(job=Job.REMOVE_PACKAGE, subject="left-over", value="3.1"))
    place.undo()
    asked = (tmp_path / "asked").read_text().splitlines()
    assert [line.split("--disable-pip-version-check ")[1] for line in asked] == [
        "uninstall --yes left-over",
        "install --no-deps left-over==3.1",
    ]


def test_a_pip_that_fails_is_told(tmp_path: Path) -> None:
    removal = PackageRemoval(str(tmp_path / "no-python"))
    place = Place(tmp_path)
    place.known = {Job.REMOVE_PACKAGE: removal}
    (report,) = place.fix(Action(job=Job.REMOVE_PACKAGE, subject="left-over", value="3.1"))
    assert not report.is_done
    assert "uninstall left-over" in report.text
    assert place.ledger.read() == ()


def test_an_extension_is_disabled_and_enabled_again(place: Place) -> None:
    state = StateFile(place.data_dir)
    state.write(state.read().switched("another", is_on=False))
    (report,) = place.fix(Action(job=Job.SWITCH_OFF, subject="slow-one"))
    assert report.is_done
    assert state.read().disabled == {"another", "slow-one"}
    (report,) = place.undo()
    assert report.is_done
    assert state.read().disabled == {"another"}


def test_an_extension_that_is_disabled_already_is_not_enabled_by_an_undo(place: Place) -> None:
    state = StateFile(place.data_dir)
    state.write(state.read().switched("slow-one", is_on=False))
    (report,) = place.fix(Action(job=Job.SWITCH_OFF, subject="slow-one"))
    assert not report.is_done
    assert place.undo() == ()
    assert state.read().disabled == {"slow-one"}


def test_an_extension_that_was_enabled_since_is_no_fault(place: Place) -> None:
    state = StateFile(place.data_dir)
    place.fix(Action(job=Job.SWITCH_OFF, subject="slow-one"))
    state.write(state.read().switched("slow-one", is_on=True))
    (report,) = place.undo()
    assert (report.is_done, "already" in report.text) == (True, True)
    assert place.ledger.read() == ()


def test_the_fixes_of_one_check_are_taken_back_alone(place: Place) -> None:
    fix_one("settings", Action(job=Job.WRITE_SETTING, subject="threads", value="4"), place.known, place.ledger)
    fix_one("folder", Action(job=Job.MAKE_FOLDER, subject=str(place.folder / "new")), place.known, place.ledger)
    reports = undo(place.known, place.ledger, place.told.append, ["settings"])
    assert [report.check for report in reports] == ["settings"]
    assert place.settings.read_text() == ""
    assert (place.folder / "new").is_dir()
    assert [done.check for done in place.ledger.read()] == ["folder"]


def test_the_newest_is_taken_back_first(place: Place) -> None:
    place.settings.write_text("")
    for value in ("2", "3", "4"):
        place.fix(Action(job=Job.WRITE_SETTING, subject="threads", value=value))
    assert [report.is_done for report in place.undo()] == [True] * 3
    assert place.settings.read_text() == ""


def test_nothing_is_done_where_nothing_can_be_written_down(place: Place) -> None:
    place.data_dir.write_text("a file where the folder should be")
    path = pickle_in(place.folder)
    with pytest.raises(OutputError, match="can't be written"):
        place.fix(Action(job=Job.CONVERT_PICKLE, subject=str(path)))
    assert path.exists()
    assert not path.with_suffix(".safetensors").exists()


def test_two_processes_fix_one_after_the_other(place: Place) -> None:
    with Ledger(place.data_dir).alone(), pytest.raises(Busy, match="already"):
        place.fix(Action(job=Job.WRITE_SETTING, subject="threads", value="4"))
    assert not place.settings.exists()
    place.fix(Action(job=Job.WRITE_SETTING, subject="threads", value="4"))
    with Ledger(place.data_dir).alone(), pytest.raises(Busy):
        place.undo()
    assert place.settings.exists()


@pytest.mark.parametrize("content", ["{", '[{"job": "fly"}]', "[1]", '{"a": 1}', '[{"job": "make a folder"}]'])
def test_a_damaged_record_is_kept_and_said(place: Place, content: str) -> None:
    place.ledger.path.parent.mkdir(parents=True)
    place.ledger.path.write_text(content)
    with pytest.raises(UsageError, match=r"undo\.json"):
        place.undo()
    assert place.ledger.path.read_text() == content


def test_a_record_says_what_when_and_for_which_check(place: Place) -> None:
    place.fix(Action(job=Job.MAKE_FOLDER, subject=str(place.folder / "models")))
    (done,) = place.ledger.read()
    assert (done.check, done.job) == ("a check", Job.MAKE_FOLDER)
    assert done.at.endswith("+00:00")
    assert json.loads(place.ledger.path.read_text())[0]["subject"] == str(place.folder / "models")
    assert Done(**dataclasses.asdict(done)) == done
