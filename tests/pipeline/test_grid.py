"""Grids: A1111's rows, every picture in its place, and the file beside the others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hayate.cli.main import main
from hayate.pipeline.formats import PictureTexts
from hayate.pipeline.grid import grid_shape, make_grid
from hayate.pipeline.png import Target, save_grid

SMALL = ["generate", "a sun", "--size", "64x72", "--steps", "1", "--seed", "3", "--grid", "--json"]


@pytest.mark.parametrize(
    ("count", "shape"),
    [(1, (1, 1)), (2, (1, 2)), (3, (2, 2)), (4, (2, 2)), (5, (2, 3)), (6, (2, 3)), (7, (3, 3)), (12, (3, 4))],
)
def test_rows_are_those_of_a1111(count: int, shape: tuple[int, int]) -> None:
    assert grid_shape(count) == shape


@given(st.integers(1, 40))
def test_every_picture_stands_once_and_the_rest_is_black(count: int) -> None:
    pictures = [np.full((3, 2, 3), number + 1, np.uint8) for number in range(count)]
    rows, columns = grid_shape(count)
    pasted = Image.new("RGB", (columns * 2, rows * 3))
    for number, picture in enumerate(pictures):
        pasted.paste(Image.fromarray(picture), (number % columns * 2, number // columns * 3))
    assert np.array_equal(make_grid(pictures), np.asarray(pasted))


def test_grids_are_numbered_apart_from_the_pictures(tmp_path: Path) -> None:
    texts = PictureTexts(parameters="x")
    picture = np.zeros((2, 2, 3), np.uint8)
    (tmp_path / "00007-1.png").touch()
    names = [save_grid(picture, Target(folder=tmp_path), texts).name for _ in range(2)]
    named = [save_grid(picture, Target(folder=tmp_path, name="a.webp"), texts).name for _ in range(2)]
    assert (names, named) == (["grid-0000.png", "grid-0001.png"], ["a-grid.webp", "a-grid-1.webp"])


def test_a_jobs_grid_has_its_pictures_and_the_first_ones_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, "--batch-count", "3", "--batch-size", "1", "-o", str(tmp_path)]) == 0
    report = json.loads(capsys.readouterr().out)
    pictures = [np.asarray(Image.open(image["path"])) for image in report["images"]]
    with Image.open(report["grid"]) as grid:
        pixels = np.asarray(grid)
        assert grid.info["parameters"] == report["images"][0]["infotext"]
    assert Path(report["grid"]) == tmp_path / "grid-0000.png"
    expected = [pixels[:72, :64], pixels[:72, 64:], pixels[72:, :64]]
    assert all(np.array_equal(one, other) for one, other in zip(pictures, expected, strict=True))
    assert not pixels[72:, 64:].any()


def test_one_picture_has_no_grid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "-o", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out)["grid"] is None
    assert len(list(tmp_path.iterdir())) == 1


def test_a_grid_that_a_format_can_not_hold_is_said_and_the_pictures_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("hayate.pipeline.formats.LARGEST_PX", {"webp": 100})
    assert main([*SMALL, "--batch-count", "2", "-o", str(tmp_path), "--format", "webp"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["grid"] is None
    assert any("no grid" in note for note in report["notes"])
    assert len(list(tmp_path.iterdir())) == 2
