"""Finished pictures made larger: what is kept of them, and tiles that are what img2img makes of each."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from hayate.cli.main import main
from hayate.models.config import Family
from hayate.pipeline.infotext import parse_infotext
from hayate.pipeline.patches import Cut
from hayate.pipeline.upscale import by_tiles, upscaled_text
from tests.pipeline.test_enlarge import noise_picture
from tests.tiny_models import write_tiny
from tests.upscaler_files import write_upscaler

TEXT = (
    "a castle, (rain:1.2)\nNegative prompt: fog\n"
    "Steps: 3, Sampler: Euler, Schedule type: Automatic, CFG scale: 7, Seed: 11, Size: 64x64, Model: x, "
    "Version: v1.10.1"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    write_tiny(path, Family.SD1)
    return str(path)


def write_picture(path: Path, size: tuple[int, int] = (48, 64), text: str | None = TEXT) -> Image.Image:
    picture, texts = noise_picture(*size), PngImagePlugin.PngInfo()
    if text is not None:
        texts.add_text("parameters", text)
    picture.save(path, pnginfo=texts)
    return picture


def made(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["upscale", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)["images"]


def test_a_picture_keeps_its_text_and_says_how_it_was_enlarged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = write_picture(tmp_path / "castle.png")
    (image,) = made(capsys, str(tmp_path / "castle.png"), "--scale", "1.5", "-o", str(tmp_path / "out/"))
    with Image.open(image["path"]) as found:
        expected = picture.resize((72, 96), Image.Resampling.LANCZOS)
        assert np.array_equal(np.asarray(found), np.asarray(expected))
        text = found.info["parameters"]
    assert text == f"{TEXT}, Postprocess upscale by: 1.5, Postprocess upscaler: Lanczos"
    assert parse_infotext(text).parameters["Seed"] == "11"
    assert Path(image["path"]).name == "00000-castle-1.5x.png"


@pytest.mark.parametrize("text", [None, "only a prompt", "two lines\nof prompt", TEXT])
def test_the_keys_are_read_back_whatever_was_there(text: str | None) -> None:
    keys = {"Postprocess upscale by": "2", "Postprocess upscaler": "4x, sharp: new"}
    info = parse_infotext(upscaled_text(text, keys))
    assert info.parameters["Postprocess upscale by"] == "2"
    assert info.parameters["Postprocess upscaler"] == "4x, sharp: new"
    assert info.prompt == (parse_infotext(text).prompt if text else "")


@pytest.mark.skipif(importlib.util.find_spec("spandrel") is None, reason="spandrel is not installed")
def test_several_files_go_through_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ESRGAN").mkdir()
    network = write_upscaler(tmp_path / "ESRGAN" / "tiny.safetensors", "SPAN")
    monkeypatch.setenv("HAYATE_UPSCALERS_DIR", str(tmp_path / "ESRGAN"))
    pictures = [write_picture(tmp_path / f"{name}.png") for name in ("a", "b")]
    names = [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    images = made(capsys, *names, "--upscaler", "tiny", "-o", str(tmp_path / "out/"))
    for picture, image in zip(pictures, images, strict=True):
        pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None].float() / 255
        with torch.no_grad():
            expected = (network(pixels).clamp(0, 1)[0].permute(1, 2, 0) * 255).round().numpy()
        assert np.abs(np.asarray(Image.open(image["path"])).astype(int) - expected).max() <= 1
        assert "Postprocess upscaler: tiny" in Image.open(image["path"]).info["parameters"]


def test_the_upscaler_none_leaves_the_size_of_what_is_redrawn(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_picture(tmp_path / "a.png", (72, 64))
    words = ["--prompt", "a sea", "--model", model, "--steps", "1", "--size", "64x64", "--upscaler", "None"]
    (image,) = made(capsys, str(tmp_path / "a.png"), *words, "--overlap", "8", "-o", str(tmp_path / "o.png"))
    assert Image.open(image["path"]).size == (72, 64)


@given(
    size=st.tuples(st.integers(8, 20), st.integers(8, 20)),
    tile=st.tuples(st.integers(8, 16), st.integers(8, 16)),
    overlap=st.integers(0, 63),
)
def test_tiles_that_nobody_changes_are_the_picture(size: tuple[int, int], tile: tuple[int, int], overlap: int) -> None:
    large = noise_picture(8 * size[0], 8 * size[1])
    numbers: list[int] = []

    def same(part: Image.Image, number: int) -> np.ndarray:
        numbers.append(number)
        assert part.size == (min(8 * tile[0], large.width), min(8 * tile[1], large.height))
        return np.asarray(part)

    cut = Cut(size_px=large.size, part_px=(8 * tile[0], 8 * tile[1]), overlap_px=overlap)
    assert np.array_equal(by_tiles(large, cut, same), np.asarray(large))
    assert numbers == list(range(len(numbers)))


def test_each_tile_is_the_img2img_of_its_part_with_the_next_seed(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = write_picture(tmp_path / "a.png", (72, 64))
    words = ["--model", model, "--steps", "4", "--sampler", "Euler a", "--denoising", "0.6"]
    tiles = ["--prompt", "a red sun", "--seed", "5", "--size", "96x80", "--overlap", "24"]
    (image,) = made(capsys, str(tmp_path / "a.png"), *words, *tiles, "-o", str(tmp_path / "o.png"))
    found = np.asarray(Image.open(image["path"]))
    large = picture.resize((144, 128), Image.Resampling.LANCZOS)
    lefts, tops = (0, 48), (0, 48)  # two of 96 in 144, two of 80 in 128
    for number, (top, left) in enumerate((top, left) for top in tops for left in lefts):
        large.crop((left, top, left + 96, top + 80)).save(tmp_path / "tile.png")
        alone = tmp_path / f"alone-{number}.png"
        start = ["--image", str(tmp_path / "tile.png"), "--seed", str(5 + number), "-o", str(alone)]
        assert main(["generate", "a red sun", *words, *start]) == 0
        expected = np.asarray(Image.open(alone))
        rows = slice(0, 48) if top == 0 else slice(80 - 48, 80)
        columns = slice(0, 48) if left == 0 else slice(96 - 48, 96)
        inside = found[top : top + 80, left : left + 96]
        assert np.array_equal(inside[rows, columns], expected[rows, columns]), f"tile {number} alone is there"
    text = parse_infotext(Image.open(image["path"]).info["parameters"])
    wanted = {"SD upscale overlap": "24", "SD upscale upscaler": "Lanczos", "Size": "96x80", "Seed": "5"}
    assert {key: text.parameters[key] for key in wanted} == wanted
    assert text.parameters["Denoising strength"] == "0.6"
    assert list(text.parameters)[-1] == "Version"


def test_a_picture_is_redone_with_its_own_words(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_picture(tmp_path / "a.png", (64, 64))
    words = ["--redo", "--model", model, "--size", "64x64", "--overlap", "8"]
    (image,) = made(capsys, str(tmp_path / "a.png"), *words, "-o", str(tmp_path / "o.png"))
    info = parse_infotext(Image.open(image["path"]).info["parameters"])
    assert info.prompt == "a castle, (rain:1.2)"
    assert info.negative_prompt == "fog"
    assert (info.parameters["Seed"], info.parameters["Steps"]) == ("11", "3")
    assert Image.open(image["path"]).size == (128, 128)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.png"], "no such file: none.png"),
        (["{a.png}", "none.png"], "no such file: none.png"),
        (["{a.png}", "--upscaler", "Lanzcos"], "nearest: Lanczos"),
        (["{a.png}", "--scale", "9"], "--scale takes 1 to 8"),
        (["{a.png}", "--steps", "9"], "--prompt TEXT, or --redo"),
        (["{a.png}", "--size", "64x64"], "--size acts only where"),
        (["{a.png}", "--denoising", "0"], "--denoising acts only where"),
        (["{a.png}", "--prompt", "x", "--size", "64x64", "--overlap", "64"], "less than the tile's 64 pixels"),
        (["{a.png}", "--overlap", "8"], "--overlap acts only where"),
        (["{a.png}", "--attention", "math"], "acts only where"),
        (["{a.png}", "--dtype", "fp16"], "--dtype acts only where"),
        (["{a.png}", "--upscaler", "None"], "leaves pictures as they are"),
        (["{a.png}", "--prompt", "x", "--batch-count", "2"], "--batch-count is not for tiles"),
        (["{big.png}", "--scale", "8"], "16000x13600 is more than a PNG file should be"),
        (["{b.png}", "--redo"], "does not say how it was made"),
    ],
)
def test_what_can_not_be_is_one_line_and_writes_nothing(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    write_picture(tmp_path / "a.png")
    write_picture(tmp_path / "b.png", text=None)
    Image.new("RGB", (2000, 1700)).save(tmp_path / "big.png")
    words = [str(tmp_path / word.strip("{}")) if word.startswith("{") else word for word in words]
    more = ["--model", model] if "--prompt" in words else []
    assert main(["upscale", *words, *more, "-o", str(tmp_path / "out/")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list((tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else True
