"""Prompt matrix: A1111's prompts in A1111's order, and a sheet whose labels say what each picture has."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hayate.cli.main import main
from hayate.errors import UnknownName, UsageError
from hayate.models.config import Family
from hayate.pipeline.axes_sheet import LINE_PX
from hayate.pipeline.infotext import parse_infotext
from hayate.pipeline.prompt_matrix import Matrix, matrix_sheet, requests_of
from hayate.request import TextToImage
from tests.tiny_models import write_tiny

BASE = TextToImage(prompt="x", seed=7)


def test_prompts_are_those_of_a1111s_own_example() -> None:
    text = "a busy city street in a modern city|illustration|cinematic lighting"
    assert Matrix(text=text).prompts() == (
        "a busy city street in a modern city",
        "a busy city street in a modern city, illustration",
        "a busy city street in a modern city, cinematic lighting",
        "a busy city street in a modern city, illustration, cinematic lighting",
    )  # github.com/AUTOMATIC1111/stable-diffusion-webui/wiki/Features#prompt-matrix


def test_parts_lose_spaces_and_commas_and_the_first_does_not() -> None:
    assert Matrix(text="a cat, | snow, |night").prompts()[1] == "a cat, , snow"
    assert Matrix(text="a cat|snow|night", is_at_start=True).prompts()[3] == "snow, night, a cat"
    assert Matrix(text="a cat|snow|night", delimiter="space").prompts()[3] == "a cat snow night"


@given(count=st.integers(1, 6))
def test_every_combination_is_there_once(count: int) -> None:
    matrix = Matrix(text="|".join(["first", *(f"part{number}" for number in range(count))]))
    found = [frozenset(prompt.split(", ")) for prompt in matrix.prompts()]
    assert len(set(found)) == len(found) == 2**count == matrix.rows * matrix.columns
    assert all("first" in each for each in found)


def test_seeds_are_one_or_follow_each_other() -> None:
    matrix = Matrix(text="a|b|c", is_negative=True)
    same = requests_of(matrix, BASE)
    assert [each.seed for each in same] == [7, 7, 7, 7]
    assert [(each.prompt, each.negative_prompt) for each in same][3] == ("x", "a, b, c")
    different = requests_of(Matrix(text="a|b|c", has_different_seeds=True), BASE)
    assert [each.seed for each in different] == [7, 8, 9, 10]
    assert len({each.seed for each in requests_of(matrix, TextToImage(prompt="x"))}) == 1


@pytest.mark.parametrize(
    ("matrix", "base", "error"),
    [
        (Matrix(text="no parts"), BASE, UsageError),
        (Matrix(text="|".join("abcdefghijk")), BASE, UsageError),
        (Matrix(text="a|b", delimiter="dash"), BASE, UnknownName),
        (Matrix(text="a|b"), TextToImage(prompt="x", batch_size=2), UsageError),
    ],
)
def test_what_can_not_be_is_said(matrix: Matrix, base: TextToImage, error: type[UsageError]) -> None:
    with pytest.raises(error) as raised:
        requests_of(matrix, base)
    assert raised.value.hint


def test_pictures_and_struck_labels_are_where_the_parts_are() -> None:
    matrix = Matrix(text="first|one|two|three")
    pictures = [Image.new("RGB", (64, 48), (0, 0, 20 + 30 * number)) for number in range(8)]
    sheet = np.asarray(matrix_sheet(pictures, matrix)).astype(int)
    blue = (sheet[..., 0] == 0) & (sheet[..., 1] == 0)
    rows = [row for row in range(1, len(sheet)) if blue[row].any() and not blue[row - 1].any()]
    columns = [x for x in range(1, sheet.shape[1]) if blue[:, x].any() and not blue[:, x - 1].any()]
    assert [sheet[y, x, 2] for y in rows for x in columns] == [20 + 30 * number for number in range(8)]
    for place, x in enumerate(columns):
        for bit in range(2):
            label = sheet[4 + bit * LINE_PX : 4 + (bit + 1) * LINE_PX, x : x + 60]
            is_dark = (label.max(axis=2) < 60).any()
            assert is_dark == bool(place >> bit & 1)


def test_the_command_saves_all_pictures_and_the_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tiny(tmp_path / "tiny.safetensors", Family.SD1)
    sheet = tmp_path / "sheet.png"
    basic = ["--model", str(tmp_path / "tiny.safetensors"), "--size", "64x64", "--steps", "2", "--seed", "7"]
    words = ["matrix", "a cat|in snow", *basic, "-o", str(tmp_path / "out"), "--sheet", str(sheet), "--json"]
    assert main(words) == 0
    report = json.loads(capsys.readouterr().out)
    infos = [parse_infotext(job["images"][0]["infotext"]) for job in report["jobs"]]
    assert [info.prompt for info in infos] == ["a cat", "a cat, in snow"]
    assert [info.parameters["Seed"] for info in infos] == ["7", "7"]
    shown = np.asarray(Image.open(sheet))
    for job in report["jobs"]:
        pixels = np.asarray(Image.open(job["images"][0]["path"]))
        assert any(
            np.array_equal(shown[-72:-8, x : x + 64], pixels) for x in range(shown.shape[1] - 63)
        )  # each picture is in the sheet as it is
    assert main(["matrix", "no parts", *basic]) == 2
