"""`hayate models`: broken files are listed with the reason, and inspection reads names and shapes only."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hayate.cli.main import main
from hayate.models.config import Family
from tests.tiny_models import write_tiny


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    write_tiny(tmp_path / "sub" / "tiny.safetensors", Family.SD1)
    (tmp_path / "page.safetensors").write_text("<!doctype html><html></html>")
    return tmp_path


def test_the_list_has_every_file_with_its_family_or_its_problem(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "list", "--models-dir", str(folder), "--json"]) == 0
    models = {model["name"]: model for model in json.loads(capsys.readouterr().out)["models"]}
    assert models["sub/tiny.safetensors"]["family"] == "sd1"
    assert models["page.safetensors"]["family"] is None
    assert "web page" in models["page.safetensors"]["problem"]
    assert main(["models", "list", "--models-dir", str(folder)]) == 0
    assert capsys.readouterr().out.count("\n") == len(models)


def test_a_model_is_inspected_by_name_or_by_path(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "inspect", "tiny", "--models-dir", str(folder), "--json"]) == 0
    by_name = json.loads(capsys.readouterr().out)
    assert main(["models", "inspect", str(folder / "sub" / "tiny.safetensors"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == by_name
    assert (by_name["family"], by_name["prediction"], by_name["inpainting"]) == ("sd1", "epsilon", False)
    assert by_name["config"]["unet"]["in_channels"] == 4


@pytest.mark.parametrize(("name", "code"), [("tinny", 2), ("page", 3)])
def test_a_wrong_or_broken_model_is_one_line(
    folder: Path, name: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "inspect", name, "--models-dir", str(folder)]) == code
    shown = capsys.readouterr()
    assert (shown.out, shown.err.count("\n")) == ("", 1)
