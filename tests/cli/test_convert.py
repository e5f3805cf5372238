"""`hayate models convert`, `bake`, `extract` and `scan`, as a person types them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hayate.cli.main import main
from hayate.models.config import Family
from hayate.weights.learnt_types import SAFE_TYPES
from hayate.weights.read import read_header
from tests.tiny_models import write_tiny


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "models" / "tiny.ckpt"
    path.parent.mkdir()
    write_tiny(tmp_path / "tiny.safetensors", Family.SD1)
    torch.save({"state_dict": load_file(tmp_path / "tiny.safetensors")}, path)
    return path


def test_a_checkpoint_is_halved_probed_and_shown(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "convert", str(model), "--dtype", "fp16"]) == 0
    shown = capsys.readouterr().out
    made = model.with_suffix(".safetensors")
    assert shown.startswith(f"{made}: ")
    assert "tried out in fp16" in shown
    assert {tensor.dtype for tensor in load_file(made).values()} == {torch.float16}
    assert read_header(made).metadata[SAFE_TYPES] == "{}"
    assert main(["models", "convert", str(model)]) == 2
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize("dtype", ["fp8", "bf16"])
def test_a_smaller_file_still_makes_pictures(model: Path, dtype: str, tmp_path: Path) -> None:
    made = tmp_path / "small.safetensors"
    assert main(["models", "convert", str(model), str(made), "--dtype", dtype]) == 0
    picture = tmp_path / "a.png"
    words = ["a red sun", "--model", str(made), "--steps", "1", "--size", "64x64", "--output", str(picture)]
    assert main(["generate", *words]) == 0
    assert picture.stat().st_size > 100


def test_a_folder_is_converted_once_and_one_bad_file_costs_no_other(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (model.parent / "bad.ckpt").write_bytes(b"\x80\x02nonsense")
    out = tmp_path / "out"
    out.mkdir()
    assert main(["models", "convert", str(model.parent), str(out)]) == 3
    shown = capsys.readouterr()
    assert shown.out.endswith("1 converted, 0 there already, 1 failed\n")
    assert "bad.ckpt" in shown.err
    assert [path.name for path in out.iterdir()] == ["tiny.safetensors"]
    stamp = (out / "tiny.safetensors").stat().st_mtime_ns
    (model.parent / "bad.ckpt").unlink()
    assert main(["models", "convert", str(model.parent), str(out)]) == 0
    assert capsys.readouterr().out == "0 converted, 1 there already, 0 failed\n"
    assert (out / "tiny.safetensors").stat().st_mtime_ns == stamp


def test_a_vae_is_taken_out_and_baked_in(model: Path, tmp_path: Path) -> None:
    write_tiny(tmp_path / "other.safetensors", Family.SD1, seed=9)
    vae, baked = tmp_path / "o.vae.safetensors", tmp_path / "baked.safetensors"
    assert main(["models", "extract", "vae", str(tmp_path / "other.safetensors"), str(vae)]) == 0
    assert main(["models", "bake", str(model), str(baked), "--vae", str(vae)]) == 0
    name = "first_stage_model.decoder.conv_in.weight"
    assert torch.equal(load_file(baked)[name], load_file(tmp_path / "other.safetensors")[name])
    folder = tmp_path / "folder"
    assert main(["models", "convert", str(baked), str(folder), "--diffusers"]) == 0
    assert (folder / "model_index.json").is_file()


@pytest.mark.parametrize(
    "words",
    [
        ["convert", "none.ckpt"],
        ["convert", "MODEL", "x.ckpt"],
        ["convert", "MODEL", "--dtype", "fp17"],
        ["convert", "MODEL", "x.safetensors", "--diffusers"],
        ["bake", "MODEL"],
        ["extract", "nose", "MODEL"],
    ],
)
def test_a_wrong_wish_is_one_line(words: list[str], model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(model.parent.iterdir())
    assert main(["models", *(str(model) if word == "MODEL" else word for word in words)]) == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err.count("\n")) == ("", 1)
    assert sorted(model.parent.iterdir()) == before


def test_a_scan_says_what_would_run(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, ("true",)

    assert main(["models", "scan", str(model)]) == 0
    assert "tensors only" in capsys.readouterr().out
    torch.save({"x": Evil()}, tmp_path / "evil.pt")
    assert main(["models", "scan", str(model), str(tmp_path / "evil.pt"), "--json"]) == 1
    files = json.loads(capsys.readouterr().out)["files"]
    assert [each["verdict"] for each in files] == ["tensors only", "would run code"]
    assert main(["models", "scan", str(tmp_path / "tiny.safetensors")]) == 3
