"""`hayate tune` and the profile that it leaves, as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hayate.cli.main import main
from hayate.models.config import Family
from tests.tiny_models import write_tiny


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model, in a place with a history and profiles of its own; workers find it by the environment."""
    monkeypatch.setenv("HAYATE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("HAYATE_OUTPUTS_DIR", str(tmp_path / "out"))
    path = tmp_path / "tiny.safetensors"
    write_tiny(path, Family.SD1)
    return str(path)


def choice(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[dict, list[str]]:
    """What a plan says of the profile, and its notes."""
    capsys.readouterr()
    assert main(["plan", *words, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    return plan["choices"]["profile"], plan["notes"]


def test_a_winner_is_used_from_then_on_and_said_so(
    model: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    size = ("--model", model, "--size", "64x64")
    assert choice(capsys, *size)[0]["value"] == "none"
    assert main(["tune", *size, "--steps", "4", "--budget", "20s"]) == 0
    told = capsys.readouterr().out
    assert "default plan" in told
    assert "winner: " in told
    assert (tmp_path / "out" / "tune.svg").read_text().startswith("<svg")
    profile, notes = choice(capsys, *size)
    assert profile["value"] == "used"
    assert "tuned on" in profile["reason"]
    assert any(note.startswith("profile: tuned on") for note in notes)
    assert choice(capsys, *size, "--attention", "math")[0]["value"] == "not used"
    assert choice(capsys, *size, "--no-profile")[0]["value"] == "not used"
    assert choice(capsys, *size, "--promise", "deterministic")[0]["value"] == "none"
    assert main(["generate", "x", *size, "--steps", "1", "-o", str(tmp_path / "a.png")]) == 0
    assert "note: profile: tuned on" in capsys.readouterr().err
    (kept,) = (tmp_path / "data" / "profiles").iterdir()
    kept.write_text(kept.read_text().replace('"threads": "', '"threads": "9'))
    profile, notes = choice(capsys, *size)
    assert profile["value"] == "stale"
    assert any("stale: threads 9" in note for note in notes)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--budget", "0"], "no time that could be spent"),
        (["--budget", "2s"], "too short"),
        (["--promise", "exactly"], "nearest: exact"),
        (["--random", "sd15"], "two models"),
        (["--model", "nowhere.safetensors"], "nowhere"),
        (["--size", "64"], "WIDTHxHEIGHT"),
    ],
)
def test_what_can_not_be_is_one_line_with_a_hint(
    model: str, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["tune", "--model", model, *words]) in (2, 3)
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
