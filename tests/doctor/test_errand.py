"""Fixes in a process of their own do what they do in this one, and an end in the middle loses nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from hayate.doctor.errand import fix_apart, undo_apart
from hayate.doctor.finding import Action, Certainty, Finding, Fix, Gain, Job, Kind, Severity
from hayate.doctor.fixing import Report
from hayate.doctor.undo import Ledger
from hayate.errors import EngineError


def finding(*actions: Action) -> Finding:
    gain = Gain(kind=Kind.SPEED, text="much", certainty=Certainty.REASONED)
    fix = Fix(text="Do it.", actions=actions)
    return Finding(severity=Severity.MINOR, found="x", why="y", gain=gain, fix=fix, check="a check")


def test_what_is_done_is_told_line_by_line_and_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAYATE_CONFIG", str(tmp_path / "settings.toml"))
    (tmp_path / "settings.toml").write_text("# mine\n")
    told: list[Report] = []
    setting = Action(job=Job.WRITE_SETTING, subject="threads", value="4")
    gone = Action(job=Job.SET_ASIDE, subject=str(tmp_path / "gone.json"))
    reports = fix_apart([finding(setting, gone)], tmp_path / "data", told.append)
    assert [(each.check, each.is_done) for each in reports] == [("a check", True), ("a check", False)]
    assert list(reports) == told
    assert "gone.json is not there any more" in reports[1].text
    assert (tmp_path / "settings.toml").read_text() == "# mine\nthreads = 4\n"
    assert undo_apart(["another check"], tmp_path / "data", told.append) == ()
    (report,) = undo_apart([], tmp_path / "data", told.append)
    assert report.is_done
    assert (tmp_path / "settings.toml").read_text() == "# mine\n"
    assert Ledger(tmp_path / "data").read() == ()


def test_it_goes_on_when_nobody_hears_any_more(tmp_path: Path) -> None:
    """As when the server that began it was ended."""
    actions = [asdict(Action(job=Job.MAKE_FOLDER, subject=str(tmp_path / name))) for name in ("a", "b", "c")]
    orders = {"data_dir": str(tmp_path / "data"), "fix": [{"check": "x", "action": each} for each in actions]}
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "hayate.doctor.errand"]
    subprocess.run(command, input=json.dumps(orders).encode(), stdout=writing, stderr=subprocess.DEVNULL, check=False)
    os.close(writing)
    assert all((tmp_path / name).is_dir() for name in ("a", "b", "c"))
    assert all(done.after for done in Ledger(tmp_path / "data").read())


def test_a_process_that_ends_in_the_middle_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "python"
    program.write_text(
        '#!/bin/sh\ncat > /dev/null\necho \'{"check": "a check", "text": "one", "is_done": true}\'\n'
        "echo 'out of memory' >&2\nexit 9\n"
    )
    program.chmod(0o755)
    if sys.platform == "win32":
        pytest.skip("a program of this test is a shell script")
    monkeypatch.setattr(sys, "executable", str(program))
    told: list[Report] = []
    with pytest.raises(EngineError, match="cut short: out of memory"):
        fix_apart([finding()], tmp_path, told.append)
    assert [each.text for each in told] == ["one"]
