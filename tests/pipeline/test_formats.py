"""JPEG, WebP and AVIF: the text comes back, quality acts, and what a format can't hold is said before the work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from PIL import Image, features

from hayate.cli.main import main
from hayate.errors import MissingDependency, OutputError
from hayate.pipeline.formats import (
    ENDINGS,
    Format,
    PictureTexts,
    check_fits,
    check_format,
    encode_picture,
    is_too_large,
)
from hayate.pipeline.picture_info import read_picture_info

PICTURE = np.random.default_rng(1).integers(0, 256, (32, 48, 3), np.uint8)
LOSSY = ("jpeg", "webp", "avif")
LINE = "\nSteps: 20, Sampler: Euler a, Seed: 1, Size: 48x32"


@examples(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    prompt=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=50),
    name=st.sampled_from(sorted(set(ENDINGS.values()))),
)
def test_a_text_in_any_letters_comes_back(tmp_path: Path, prompt: str, name: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(encode_picture(PICTURE, PictureTexts(parameters=prompt + LINE), Format(name=name)))
    info = read_picture_info(path)
    assert (info.format, info.parameters) == (name.upper(), prompt + LINE)


@pytest.mark.parametrize("name", LOSSY)
def test_the_text_is_where_a1111_puts_it(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(encode_picture(PICTURE, PictureTexts(parameters="海 boat"), Format(name=name)))
    with Image.open(path) as image:
        comment = image.getexif().get_ifd(0x8769)[0x9286]
    assert comment == b"UNICODE\0" + "海 boat".encode("utf-16-be")


@pytest.mark.parametrize("name", LOSSY)
def test_quality_decides_how_much_is_kept(name: str, tmp_path: Path) -> None:
    errors, sizes = [], []
    for quality in (10, 95):
        path = tmp_path / f"{quality}"
        path.write_bytes(encode_picture(PICTURE, PictureTexts(parameters=""), Format(name=name, quality=quality)))
        sizes.append(path.stat().st_size)
        errors.append(np.abs(np.asarray(Image.open(path)).astype(int) - PICTURE).mean())
    assert sizes[0] < sizes[1]
    assert errors[0] > errors[1]


def test_a_pillow_without_avif_is_refused_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    check_format(Format(name="avif"))
    monkeypatch.setattr(features, "check", lambda name: False)
    check_format(Format(name="png"))
    with pytest.raises(MissingDependency, match=r"11\.3"):
        check_format(Format(name="avif"))


def test_a_prompt_that_no_jpeg_holds_is_refused_before_the_work() -> None:
    check_fits(Format(name="jpeg"), "a" * 28_000)
    check_fits(Format(name="webp"), "a" * 100_000)
    with pytest.raises(OutputError, match="JPEG"):
        check_fits(Format(name="jpeg"), "a" * 20_000, "b" * 20_000)


def test_a_picture_is_saved_though_its_text_is_too_long() -> None:
    for length in range(32_000, 33_000, 50):
        assert encode_picture(PICTURE, PictureTexts(parameters="a" * length), Format(name="jpeg"))


def test_no_picture_is_read_as_avif_without_pillows_help(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda name: False)
    Image.fromarray(PICTURE).save(tmp_path / "a.png")
    assert read_picture_info(tmp_path / "a.png").format == "PNG"


def test_a_grid_may_not_be_larger_than_its_format_or_than_is_read() -> None:
    assert not is_too_large(Format(), 10_000, 10_000)
    assert is_too_large(Format(), 10_001, 10_000)
    assert [is_too_large(Format(name=name), 17_000, 64) for name in ("png", "jpeg", "webp")] == [False, False, True]


SMALL = ["generate", "a sun", "--size", "64x64", "--steps", "1", "--seed", "3"]


@pytest.mark.parametrize(
    ("more", "name", "format"),
    [
        (["-o", "out", "--format", "jpg"], "out/00000-3.jpg", "JPEG"),
        (["-o", "out", "--format", "WebP", "--quality", "50"], "out/00000-3.webp", "WEBP"),
        (["-o", "sun.AVIF"], "sun.AVIF", "AVIF"),
        (["-o", "sun.jpeg", "--format", "jpeg"], "sun.jpeg", "JPEG"),
    ],
)
def test_the_format_is_the_flags_or_the_endings(
    more: list[str], name: str, format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*SMALL, *more]) == 0
    with Image.open(name) as image:
        assert image.format == format


def test_the_setting_decides_where_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HAYATE_FORMAT", "webp")
    monkeypatch.setenv("HAYATE_FILENAME_PATTERN", "[sampler]/[seed]-[prompt]")
    assert main([*SMALL, "-o", "out"]) == 0
    assert [path.name for path in Path("out").iterdir()] == ["00000-DPM++ 2M_3-a_sun.webp"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--format", "gif"], "--format: 'gif' is no format"),
        (["-o", "a.png", "--format", "webp"], "leave one of them out"),
        (["-o", "a.tiff"], ".avif"),
        (["--quality", "0"], "--quality: 0 is out of range"),
    ],
)
def test_a_mistake_is_one_line(
    more: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*SMALL, *more]) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.count("\n") == 1
    assert not list(tmp_path.iterdir())
