"""`hayate generate` from the outside: what it prints, what it leaves on the disk, how it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hayate.cli.main import main
from hayate.models.config import Family
from hayate.pipeline.infotext import parse_infotext
from hayate.weights.hashes import model_hash
from tests.tiny_models import write_tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    write_tiny(path, Family.SD1)
    return path


def command(model: Path, where: Path, *more: str) -> list[str]:
    basic = ["--model", str(model), "--size", "64x64", "--steps", "3", "--seed", "7", "-o", str(where)]
    return ["generate", "a red sun", *basic, *more]


def test_json_is_the_only_output_and_tells_the_truth(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = command(model, tmp_path, "--json", "--batch-size", "2", "--negative", "rain, (fog:1.2)", "--cfg", "5.5")
    assert main(words) == 0
    shown = capsys.readouterr()
    report = json.loads(shown.out)
    assert shown.err == ""
    assert [image["seed"] for image in report["images"]] == [7, 8]
    for image in report["images"]:
        with Image.open(image["path"]) as picture:
            assert picture.size == (64, 64)
            assert picture.info["parameters"] == image["infotext"]
            assert json.loads(picture.info["hayate"])["asked"]["prompt"] == "a red sun"
    info = parse_infotext(report["images"][0]["infotext"])
    assert info.prompt == "a red sun"
    assert info.negative_prompt == "rain, (fog:1.2)"
    expected = {"Steps": "3", "Sampler": "DPM++ 2M", "Schedule type": "Karras", "CFG scale": "5.5", "Seed": "7"}
    expected |= {"Size": "64x64", "Model hash": model_hash(model), "Model": "tiny", "RNG": "NV"}
    assert {key: info.parameters[key] for key in expected} == expected
    assert list(info.parameters)[: len(expected)] == list(expected)


def test_pictures_of_a_batch_equal_single_pictures(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for sampler in ("Euler a", "DPM++ SDE"):
        together, alone = tmp_path / f"together {sampler}", tmp_path / f"alone {sampler}"
        assert main(command(model, together, "--batch-size", "3", "--sampler", sampler, "--json")) == 0
        assert main(command(model, alone, "--batch-count", "3", "--sampler", sampler, "--json")) == 0
        for name in ("00000-7.png", "00001-8.png", "00002-9.png"):
            first, second = (np.asarray(Image.open(folder / name)).astype(int) for folder in (together, alone))
            assert first.std() > 1
            assert np.abs(first - second).max() <= 2
    capsys.readouterr()


def test_the_same_command_gives_the_same_pixels(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert main(command(model, tmp_path)) == 0
    one, two = (np.asarray(Image.open(tmp_path / name)) for name in ("00000-7.png", "00001-7.png"))
    assert np.array_equal(one, two)
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "00000-7.png"), str(tmp_path / "00001-7.png")]


def test_a_file_name_is_kept_and_never_overwritten(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "sun.png"
    target.write_bytes(b"mine")
    assert main(command(model, target, "--json")) == 0
    assert target.read_bytes() == b"mine"
    assert Path(json.loads(capsys.readouterr().out)["images"][0]["path"]).parent == tmp_path


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--sampler", "DPM++ 2N"], "DPM++ 2M"),
        (["--sampler", "DPM adaptive"], "adaptive"),
        (["--scheduler", "Karas"], "Karras"),
        (["--size", "513x512"], "multiple of 8"),
        (["--size", "512"], "WIDTHxHEIGHT"),
        (["--size", "99999x99999"], "64 to 4096"),
        (["--size", "-8x64"], "WIDTHxHEIGHT"),
        (["--steps", "0"], "1 to 1000"),
        (["--cfg", "nan"], "out of range"),
        (["--model", "nothing-like-it"], "unknown model"),
        (["--model", "no/such/file.safetensors"], "unknown model"),
        (["--vae", "nothing-like-it"], "unknown"),
        (["--dtype", "fp8"], "fp16"),
        (["--device", "tpu"], "cpu"),
        (["--emphasis", "Orignal"], "Original"),
        (["--rng", "XPU"], "GPU"),
        (["--clip-skip", "9"], "1 to 3"),
        (["--style", "nobody's"], "style"),
        (["--device", "cuda:7"], "not available"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    more: list[str], expected: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(model, tmp_path / "out", *more)) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert expected in shown.err
    assert "Traceback" not in shown.err
    assert not list(tmp_path.rglob("*.*"))


def test_a_prompt_of_a_megabyte_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "a" * 1_000_000]) == 2
    assert "1000000 characters" in capsys.readouterr().err


def test_an_unwritable_place_is_refused_before_the_work(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    assert main(command(model, tmp_path / "file" / "inside")) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_weights_that_are_not_numbers_are_an_error_and_no_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    path = tmp_path / "nan.safetensors"
    write_tiny(path, Family.SD1)
    tensors = load_file(path)
    tensors["model.diffusion_model.out.2.bias"] = torch.full((4,), float("nan"))
    save_file(tensors, path)
    assert main(command(path, tmp_path / "out")) == 4
    assert "not finite" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.png"))


def test_variation_and_clip_skip_act_and_are_written(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(model, tmp_path / "a", "--json")) == 0
    assert main(command(model, tmp_path / "b", "--json", "--subseed", "3", "--subseed-strength", "0.2")) == 0
    assert main(command(model, tmp_path / "c", "--json", "--clip-skip", "2")) == 0
    plain, varied, skipped = (json.loads(line)["images"][0] for line in capsys.readouterr().out.splitlines())
    pixels = [np.asarray(Image.open(image["path"])) for image in (plain, varied, skipped)]
    assert not np.array_equal(pixels[0], pixels[1])
    assert not np.array_equal(pixels[0], pixels[2])
    assert parse_infotext(varied["infotext"]).parameters["Variation seed strength"] == "0.2"
    assert parse_infotext(skipped["infotext"]).parameters["Clip skip"] == "2"
