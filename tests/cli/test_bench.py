"""`hayate bench`, as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from hayate.cli.main import main
from hayate.models.config import Family
from tests.tiny_models import write_tiny


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HAYATE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


@pytest.fixture
def small(tmp_path: Path) -> list[str]:
    """Words that make a measurement short."""
    path = tmp_path / "tiny.safetensors"
    write_tiny(path, Family.SD1)
    return ["--model", str(path), "--size", "64x64", "--steps", "2", "--rounds", "2", "--time-limit", "1s"]


def measured(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    capsys.readouterr()
    assert main(["bench", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_measurement_says_everything_that_was_seen(small: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    found = measured(capsys, "quick", *small, "--attention", "math", "--label", "by hand")
    assert (found["id"], found["preset"], found["label"]) == (1, "quick", "by hand")
    assert found["asked"] == {"attention": "math"}
    assert found["is_repeated"]
    assert found["difference"]["psnr_db"] is None or found["difference"]["psnr_db"] > 60
    summary = found["summary"]["it_per_s"]
    speeds = [run["it_per_s"] for run in found["runs"]]
    assert summary["low"] == pytest.approx(min(speeds), rel=1e-3)
    assert summary["high"] == pytest.approx(max(speeds), rel=1e-3)
    assert found["first"]["load"] > 0
    for run in found["runs"]:
        parts = sum(run[phase] for phase in ("load", "encode", "sample", "decode"))
        assert parts <= run["total"] * 1.01
        assert run["it_per_s"] == pytest.approx(2 / run["sample"], rel=0.02)
    assert found["memory"]["peak_bytes"] > 0
    assert any(row["name"] == "attention" and row["active"] for row in found["evidence"])


def test_the_same_words_as_the_reference_give_the_same_bits(
    small: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    eager = ["--dtype", "fp32", "--attention", "sdp", "--layers", "plain", "--layout", "contiguous"]
    assert measured(capsys, *small, *eager)["difference"] == {"psnr_db": None, "ssim": 1.0, "max_levels": 0}


def test_a_setting_of_lossy_pictures_does_not_touch_what_is_compared(
    small: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HAYATE_FORMAT", "jpeg")
    eager = ["--dtype", "fp32", "--attention", "sdp", "--layers", "plain", "--layout", "contiguous"]
    assert measured(capsys, *small, *eager)["difference"]["psnr_db"] is None


def test_history_compare_export_and_report_tell_the_same(
    small: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for label in ("a", "b"):
        assert main(["bench", "quick", *small, "--label", label, "--no-reference"]) == 0
    capsys.readouterr()
    assert main(["bench", "history"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert main(["bench", "compare", "a", "b"]) == 0
    assert "as fast as number 1" in capsys.readouterr().out
    assert main(["bench", "export"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["label"] for line in lines] == ["a", "b"]
    assert main(["bench", "export", "b", "--format", "markdown", "-o", str(tmp_path / "t.md")]) == 0
    assert len((tmp_path / "t.md").read_text().splitlines()) == 3
    assert main(["bench", "report", "-o", str(tmp_path / "r.html")]) == 0
    page = (tmp_path / "r.html").read_text()
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert "default-src 'none'" in page


def test_a_picture_is_a_preset(small: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["generate", "a (red:1.2) sun", "--model", small[1], "--size", "64x64", "--steps", "3", "--seed", "9"]
    assert main([*words, "--sampler", "Euler a", "--cfg", "5", "-o", str(tmp_path / "p.png")]) == 0
    found = measured(capsys, str(tmp_path / "p.png"), "--model", small[1], "--rounds", "1", "--time-limit", "1s")
    work = found["work"]
    assert (work["steps"], work["sampler"], work["cfg"], work["width_px"]) == (3, "Euler a", 5.0, 64)
    with Image.open(tmp_path / "p.png") as picture:
        assert work["infotext"] == picture.info["parameters"]


def test_what_did_not_act_is_not_recorded(small: list[str], capsys: pytest.CaptureFixture[str], data: Path) -> None:
    assert main(["bench", *small, "--inputs-at-once", "8"]) == 1
    error = capsys.readouterr().err
    assert "not recorded: inputs at once 8" in error
    assert error.count("\n") == 1
    assert not (data / "history.sqlite3").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["quikc"], "nearest: quick"),
        (["history"], "hayate bench quick"),
        (["report"], "hayate bench quick"),
        (["compare", "1", "2"], "no measurement '1'"),
        (["export", "--format", "csv"], "jsonl or markdown"),
        (["--time-limit", "0"], "--time-limit"),
        (["--rounds", "0"], "rounds"),
        (["sdxl"], "needs a model of sdxl"),
        (["--random", "sd3"], "nearest"),
        (["--random", "sd15", "--model", "x"], "two models"),
        (["nothing.png"], "nothing.png"),
        (["--attention", "sdq"], "nearest: sdp"),
    ],
)
def test_what_can_not_be_is_one_line_with_a_hint(
    capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["bench", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_damaged_history_is_named_and_the_measurement_kept(
    small: list[str], capsys: pytest.CaptureFixture[str], data: Path
) -> None:
    data.mkdir()
    (data / "history.sqlite3").write_bytes(b"damage" * 500)
    assert main(["bench", *small, "--no-reference"]) == 0
    assert "the history was damaged" in capsys.readouterr().err
    assert len(list(data.glob("*.damaged-*"))) == 1
    assert main(["bench", "history"]) == 0
