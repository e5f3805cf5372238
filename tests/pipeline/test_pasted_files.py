"""Pictures of several models, made again from their files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from hayate.cli.main import main
from hayate.pipeline.infotext import parse_infotext
from hayate.pipeline.pasted import paste_picture
from hayate.settings import Settings
from hayate.weights.hashes import file_sha256
from tests.pipeline.several import made


def written(tmp_path: Path, *words: str) -> dict[str, str]:
    """The infotext's parameters, after the picture was made again from its file to the last bit."""
    first, again = tmp_path / "first.png", tmp_path / "again.png"
    for path in (first, again):
        path.unlink(missing_ok=True)
    command = ["generate", "a red sun", "--model", "base", "--size", "64x64", "--steps", "4", "--seed", "9", *words]
    assert main([*command, "-o", str(first)]) == 0
    assert main(["generate", "--from", str(first), "-o", str(again)]) == 0
    assert np.array_equal(np.asarray(Image.open(first)), np.asarray(Image.open(again)))
    texts = [Image.open(path).info["parameters"] for path in (first, again)]
    assert texts[0] == texts[1]
    return dict(parse_infotext(texts[0]).parameters)


@pytest.fixture
def at_home(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HAYATE_MODELS_DIR", str(folder))
    monkeypatch.setenv("HAYATE_CACHE_DIR", str(tmp_path / "cache"))
    return folder


def test_a_refined_picture_is_made_again_from_its_file(at_home: Path, tmp_path: Path) -> None:
    found = written(tmp_path, "--refiner", "other", "--refiner-switch-at", "0.5")
    digits = file_sha256(at_home / "other.safetensors", tmp_path)[:10]
    assert found["Refiner"] == f"other [{digits}]"
    assert found["Refiner switch at"] == "0.5"
    found = written(tmp_path, "--refiner", "other")
    assert found["Refiner switch at"] == "0.8"


def test_a_picture_of_two_checkpoints_is_made_again_from_its_file(at_home: Path, tmp_path: Path) -> None:
    words = ["--hires", "--hires-model", "other", "--hires-scale", "1.5", "--refiner", "copy"]
    found = written(tmp_path, *words)
    digits = file_sha256(at_home / "other.safetensors", tmp_path)[:10]
    assert found["Hires checkpoint"] == f"other [{digits}]"
    assert found["Refiner"].startswith("copy [")


def test_a_refiner_is_found_by_its_hash_and_one_that_is_not_here_is_said(
    own: Settings, folder: Path, tmp_path: Path
) -> None:
    report = made(own, refiner="other")
    picture = Image.open(report.pictures[0].path)
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    save_file(load_file(folder / "base.safetensors"), renamed / "base.safetensors")
    (renamed / "new name.safetensors").write_bytes((folder / "other.safetensors").read_bytes())
    there = replace(own, models_dir=renamed)
    made(there, model="base", refiner="new name")  # so that its hash is known
    found = paste_picture(report.pictures[0].path, there).request
    assert found.refiner == str(renamed / "new name.safetensors")
    (renamed / "new name.safetensors").unlink()
    pasted = paste_picture(report.pictures[0].path, there)
    assert pasted.request.refiner is None
    assert any(note.startswith("not honoured: Refiner other [") for note in pasted.notes)
    assert pasted.request.refiner_switch_at == 0.4
    assert paste_picture(report.pictures[0].path, there, {"refiner"}).notes == ()
    assert picture.info["parameters"] == report.pictures[0].infotext
