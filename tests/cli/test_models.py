"""`hayate models`: broken files are listed with the reason, and inspection reads names and shapes only."""

from __future__ import annotations

import hashlib
import json
import shlex
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

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


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two models, a copy of the first under another name, and the second one's VAE alone."""
    folder = tmp_path / "models"
    folder.mkdir()
    for seed, name in enumerate(("red", "blue")):
        write_tiny(folder / f"{name}.safetensors", Family.SD1, seed=seed)
    red, blue = (load_file(folder / f"{name}.safetensors") for name in ("red", "blue"))
    recipe = json.dumps({"type": "hayate", "expression": "merge(x, y, 0.5)"})
    save_file(dict(reversed(red.items())), folder / "crimson.safetensors", metadata={"sd_merge_recipe": recipe})
    start = "first_stage_model."
    (tmp_path / "VAE").mkdir()
    save_file(
        {name.removeprefix(start): each for name, each in blue.items() if name.startswith(start)},
        tmp_path / "VAE" / "azure.safetensors",
    )
    for key, value in {"MODELS_DIR": "models", "VAE_DIR": "VAE", "LORA_DIR": "Lora", "CACHE_DIR": "cache"}.items():
        monkeypatch.setenv(f"HAYATE_{key}", str(tmp_path / value))
    return folder


def printed(words: str, capsys: pytest.CaptureFixture[str], code: int = 0) -> str:
    assert main(["models", *shlex.split(words)]) == code
    shown = capsys.readouterr()
    return shown.err if code else shown.out


@pytest.mark.usefixtures("shelf")
def test_an_inspection_names_the_parts_the_vae_and_the_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    blue = json.loads(printed("inspect blue --json", capsys))
    assert blue["vae_is_that_of"] == ["azure.safetensors"]
    assert sum(part["size_bytes"] for part in blue["parts"].values()) < blue["size_bytes"]
    assert (blue["missing"], blue["extra"], blue["has_ema"], blue["merge_recipe"]) == ([], [], False, None)
    text = printed("inspect crimson", capsys)
    assert "merge recipe expression: merge(x, y, 0.5)" in text
    assert "azure" not in text
    assert json.loads(printed("inspect 'merge(red, blue, 0.5)' --json", capsys))["family"] == "sd1"


def test_duplicates_are_told_and_left_alone(shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in shelf.iterdir()}
    found = json.loads(printed("duplicates --json", capsys))
    assert [[Path(path).stem for path in group["paths"]] for group in found["groups"]] == [["crimson", "red"]]
    assert found["groups"][0]["is_whole"]
    assert "the same tensors" in printed("duplicates", capsys)
    assert {path: path.read_bytes() for path in shelf.iterdir()} == before
    assert "is no folder" in printed("duplicates nowhere", capsys, 2)


def test_hashes_are_those_of_hashlib_and_near_names_are_told(shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = (shelf / "red.safetensors").read_bytes()
    (found,) = json.loads(printed("hash red --json", capsys))["files"]
    digest = hashlib.sha256(data).hexdigest()
    assert (found["sha256"], found["model_hash"], found["lora_hash"]) == (digest, digest[:10], None)
    assert found["legacy_hash"] == hashlib.sha256(data[0x100000:0x110000]).hexdigest()[:8]
    payload = (shelf.parent / "VAE" / "azure.safetensors").read_bytes()
    payload = payload[8 + int.from_bytes(payload[:8], "little") :]
    assert f"lora hash: {hashlib.sha256(payload).hexdigest()[:12]}" in printed("hash azure", capsys)
    assert "red.safetensors" in printed("hash rad", capsys, 2)
    recipes = [printed(f"hash 'merge(red, blue, {ratio})'", capsys) for ratio in (0.1, 0.2)]
    assert recipes[0].splitlines()[1] != recipes[1].splitlines()[1]


@pytest.mark.usefixtures("shelf")
def test_a_difference_is_printed_and_drawn_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed("diff red crimson", capsys) == "no tensor differs\n"
    for name in ("d.png", "d.svg"):
        assert "25 of 25" not in printed(f"diff red blue -o {tmp_path / name}", capsys)
        made = (tmp_path / name).read_bytes()
        assert made.startswith(b"\x89PNG" if name == "d.png" else b"<svg")
        assert "is there already" in printed(f"diff red blue -o {tmp_path / name}", capsys, 2)
        assert (tmp_path / name).read_bytes() == made
    assert ".png" in printed("diff red blue -o d.txt", capsys, 2)
    assert "can't be written" in printed(f"diff red blue -o {tmp_path}/none/d.png", capsys, 2)
    blocks = json.loads(printed("diff red 'merge(red, blue, 0.5)' --json", capsys))["blocks"]
    assert blocks["IN01"]["relative"] > 0.1
