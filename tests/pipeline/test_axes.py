"""X/Y/Z plots: values as A1111 reads them, every combination once, and pictures that generate would make."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from hayate.cli.main import main
from hayate.errors import UnknownName, UsageError
from hayate.models.config import Family
from hayate.pipeline.axes import AXES, NOTHING, Cell, axes_page, cells, parse_axis
from hayate.pipeline.axes_sheet import axes_sheet
from hayate.request import TextToImage
from hayate.runtime.asked import Asked
from tests.tiny_models import write_tiny

CELL = Cell(request=TextToImage(prompt="a cat, a dog, rain"), asked=Asked())


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("Steps=10,20, 30", ["10", "20", "30"]),
        ("Steps=1-5", ["1", "2", "3", "4", "5"]),
        ("steps=1-10 (+3)", ["1", "4", "7", "10"]),
        ("Steps=10-1 (-3)", ["10", "7", "4", "1"]),
        ("Steps=1-10 [4]", ["1", "4", "7", "10"]),
        ("Steps=1-3, 7", ["1", "2", "3", "7"]),
        ("CFG Scale=0-1 [3]", ["0", "0.5", "1"]),
        ("CFG Scale=1-2 (+0.5)", ["1", "1.5", "2"]),
        ("CFG Scale=7.5", ["7.5"]),
        ("Sampler=Euler a, DPM++ 2M", ["Euler a", "DPM++ 2M"]),
        ('Prompt S/R=cat, "dog, big", cow', ["cat", "dog, big", "cow"]),
        ("Prompt order=cat, dog", ["cat, dog", "dog, cat"]),
        ("Size=512x768, 64x64", ["512x768", "64x64"]),
        ("Seed=-1", ["-1"]),
        ("Schedule type=SGM Uniform", ["SGM Uniform"]),
    ],
)
def test_values_are_read_as_a1111_reads_them(text: str, values: list[str]) -> None:
    assert list(parse_axis(text).values) == values


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("Stepps=1", UnknownName, "nearest: Steps"),
        ("Steps", UsageError, "has no values"),
        ("Steps=", UsageError, "has no values"),
        ("Steps=ten", UsageError, "'ten' is no value"),
        ("Steps=1-10 (-1)", UsageError, "never comes to its end"),
        ("Steps=1-10 (+0)", UsageError, "never comes to its end"),
        ("Steps=1-999999999", UsageError, "more than 1000"),
        ("CFG Scale=1-2 [99999999]", UsageError, "more than 1000"),
        ("Size=512", UsageError, "no value"),
        ("Prompt order=a,b,c,d,e,f,g,h,i,j", UsageError, "more than 1000"),
    ],
)
def test_what_can_not_be_is_said(text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        parse_axis(text)


@given(first=st.integers(-50, 50), last=st.integers(-50, 50), step=st.integers(1, 7))
def test_a_range_begins_at_one_end_and_never_passes_the_other(first: int, last: int, step: int) -> None:
    sign = "+" if last >= first else "-"
    values = [int(value) for value in parse_axis(f"Seed={first}-{last} ({sign}{step})").values]
    assert values == list(range(first, last + (1 if last >= first else -1), step if last >= first else -step))


@example(text=",", title="Attention")
@given(text=st.text(max_size=40), title=st.sampled_from(sorted(AXES)))
def test_any_text_is_an_axis_or_an_error_with_a_hint(text: str, title: str) -> None:
    try:
        axis = parse_axis(f"{title}={text}")
    except UsageError:
        return
    assert 1 <= len(axis.values) <= 1000


def test_every_combination_is_there_once_and_models_change_least_often() -> None:
    axes = (parse_axis("Steps=1,2,3"), parse_axis("Checkpoint name=a,b"), parse_axis("CFG Scale=1,7"))
    found = list(cells(CELL, *axes))
    assert {place for place, _ in found} == {(x, y, z) for x in range(3) for y in range(2) for z in range(2)}
    for (x, y, z), cell in found:
        assert (cell.request.steps, cell.request.model, cell.request.cfg) == (x + 1, "ab"[y], [1.0, 7.0][z])
    models = [cell.request.model for _, cell in found]
    assert sum(before != after for before, after in pairwise(models)) == 1


def test_words_are_replaced_and_put_in_order() -> None:
    replaced = [cell.request.prompt for _, cell in cells(CELL, parse_axis("Prompt S/R=cat,cow"), NOTHING, NOTHING)]
    assert replaced == ["a cat, a dog, rain", "a cow, a dog, rain"]
    ordered = [cell.request.prompt for _, cell in cells(CELL, parse_axis("Prompt order=cat,rain"), NOTHING, NOTHING)]
    assert ordered == ["a cat, a dog, rain", "a rain, a dog, cat"]
    for axis in ("Prompt S/R=bird,cow", "Prompt order=cat,bird"):
        with pytest.raises(UsageError, match="'bird' is not in the prompt"):
            list(cells(CELL, parse_axis(axis), NOTHING, NOTHING))


def test_axes_of_computing_change_how_and_not_what() -> None:
    axes = (parse_axis("Attention=math,sdp"), parse_axis("Precision=fp32,bf16"), NOTHING)
    found = [cell for _, cell in cells(CELL, *axes)]
    assert {(cell.asked.attention, cell.asked.dtype) for cell in found} == {
        (attention, dtype) for attention in ("math", "sdp") for dtype in ("fp32", "bf16")
    }
    assert all(cell.request == CELL.request for cell in found)


def test_a_sheet_has_every_picture_at_its_place() -> None:
    colours = {(x, y, z): (60 + 60 * x, 60 + 60 * y, 100 * z) for x in range(3) for y in range(2) for z in range(2)}
    pictures = {place: Image.new("RGB", (48, 32), colour) for place, colour in colours.items()}
    labels = (["a", "b", "c"], ["one", "two"], ["z1", "z2"])
    sheet = np.asarray(axes_sheet(pictures, dict.fromkeys(pictures, "0.1 s"), labels))
    found = {colour: np.argwhere((sheet == colour).all(axis=2)) for colour in colours.values()}
    assert all(len(points) >= 48 * 32 for points in found.values())
    corners = {place: tuple(found[colour].min(axis=0)) for place, colour in colours.items()}
    assert all(corners[x, y, z][1] == corners[x, 0, 0][1] for x, y, z in corners)
    assert corners[0, 0, 0][1] < corners[1, 0, 0][1] < corners[2, 0, 0][1]
    assert corners[0, 0, 0][0] < corners[0, 1, 0][0] < corners[0, 0, 1][0]


def test_the_page_is_fresh() -> None:
    page = Path(__file__).parents[2] / "docs" / "xyz.md"
    assert page.read_text(encoding="utf-8") == axes_page(), "run scripts/docs"


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HAYATE_OUTPUTS_DIR", str(tmp_path / "out"))
    write_tiny(tmp_path / "tiny.safetensors", Family.SD1)
    return str(tmp_path / "tiny.safetensors")


def test_cells_are_the_pictures_that_generate_makes(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", model, "--size", "64x64", "--seed", "3"]
    plot = ["plot", "a cat", *words, "--x", "Steps=1,3", "--y", "CFG Scale=2,9", "--attention", "split"]
    assert main([*plot, "-o", str(tmp_path / "plot.png")]) == 0
    sheet = Image.open(tmp_path / "plot.png").convert("RGB")
    single = [
        "generate",
        "a cat",
        *words,
        "--steps",
        "3",
        "--cfg",
        "9",
        "--attention",
        "split",
        "-o",
        str(tmp_path / "one.png"),
    ]
    assert main(single) == 0
    wanted, pixels = np.asarray(Image.open(tmp_path / "one.png")), np.asarray(sheet)
    rows, columns = (pixels.shape[axis] - 63 for axis in (0, 1))
    corner = next(
        (y, x)
        for y in range(rows)
        for x in range(columns)
        if (pixels[y, x] == wanted[0, 0]).all() and np.array_equal(pixels[y : y + 64, x : x + 64], wanted)
    )
    assert corner[0] > 64, "it is in the second row"
    assert corner[1] > 64, "and in the second column"
    assert "Steps: 1" in Image.open(tmp_path / "plot.png").info["parameters"]
    capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "a plot needs an axis"),
        (["--x", "Stps=1"], "nearest: Steps"),
        (["--x", "Steps=1-999", "--y", "Seed=1-999"], "too many"),
        (["--x", "Sampler=Euler,Eulre"], "cell 2, 1, 1: unknown sampler"),
        (["--x", "Steps=0"], "--steps takes 1 to 1000"),
        (["--x", "Denoising=0.5"], "--image FILE"),
        (["--x", "Steps=1", "-o", "plot.jpg"], "a PNG"),
    ],
)
def test_a_slip_is_one_line(model: str, capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    assert main(["plot", "x", "--model", model, "--size", "64x64", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
