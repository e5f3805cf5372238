"""Pictures on a larger canvas: what was there stays bit for bit and what is new is made; files that are no pictures."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hayate.cli.main import main
from hayate.errors import UsageError
from hayate.models.config import Family
from hayate.pipeline.canvas import canvas_size, extended, widened
from hayate.pipeline.opened import opened_picture
from hayate.pipeline.parameters import outpaint_text
from hayate.pipeline.pictures import read_mask, read_picture
from hayate.pipeline.start_keys import SIDES, extended_by
from hayate.request import StartImage
from tests.tiny_models import write_tiny

BLUR = 4
REACH = 5 * BLUR + 1
"""How deep into the picture the soft edge of the mask may go."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pictures")
    write_tiny(folder / "tiny.safetensors", Family.SD1)
    pixels = np.random.default_rng(1).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "picture.png")
    mask = np.zeros((96, 96), dtype=np.uint8)
    mask[40:56, 40:56] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    return {path.name: path for path in folder.iterdir()}


def outpaint(files: dict[str, Path], where: Path, *words: str) -> int:
    start = ["generate", "a red sun", "--model", str(files["tiny.safetensors"]), "--steps", "3", "--seed", "5"]
    return main([*start, "--image", str(files["picture.png"]), *words, "-o", str(where)])


@pytest.mark.parametrize("fill", ["fill", "original", "latent noise", "nothing"])
def test_what_was_there_stays_bit_for_bit(files: dict[str, Path], tmp_path: Path, fill: str) -> None:
    made = tmp_path / "made.png"
    assert outpaint(files, made, "--outpaint", "left=32,bottom=64", "--fill", fill) == 0
    found, given = np.asarray(Image.open(made)), np.asarray(Image.open(files["picture.png"]))
    assert found.shape == (160, 128, 3), "the canvas is the size"
    assert np.array_equal(found[: 96 - REACH, 32 + REACH :], given[: 96 - REACH, REACH:])
    assert found[96:, 32:].std() > 1
    assert found[:, :32].std() > 1
    assert not np.array_equal(found[96:, 32:], np.repeat(given[-1:], 64, axis=0)), "what is new is made"


def test_a_mask_is_made_anew_beside_what_is_new(files: dict[str, Path], tmp_path: Path) -> None:
    made = tmp_path / "made.png"
    assert outpaint(files, made, "--outpaint", "right=64", "--mask", str(files["mask.png"]), "--mask-blur", "0") == 0
    found, given = np.asarray(Image.open(made)), np.asarray(Image.open(files["picture.png"]))
    drawn = np.asarray(Image.open(files["mask.png"])) > 0
    assert np.array_equal(found[:, :96][~drawn], given[~drawn])
    assert not np.array_equal(found[:, :96][drawn], given[drawn])


@given(
    size=st.tuples(st.integers(8, 60), st.integers(8, 60)),
    sides=st.tuples(*[st.integers(0, 40)] * 4),
    blur=st.integers(0, 6),
)
def test_what_is_new_is_all_made_anew_and_nothing_far_inside_is(
    size: tuple[int, int], sides: tuple[int, int, int, int], blur: int
) -> None:
    sides = (sides[0], sides[1], sides[2] + -(size[0] + sides[0] + sides[2]) % 8, sides[3])
    sides = (*sides[:3], sides[3] + -(size[1] + sides[1] + sides[3]) % 8)
    picture = Image.fromarray(np.random.default_rng(2).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))
    canvas, mask = extended(picture, None, StartImage(path="", extend_px=sides, mask_blur=blur))
    left, top, right, bottom = sides
    levels, inside = np.asarray(mask), (slice(top, top + size[1]), slice(left, left + size[0]))
    assert np.array_equal(np.asarray(canvas)[inside], np.asarray(picture))
    outside = np.ones(levels.shape, dtype=bool)
    outside[inside] = False
    assert (levels[outside] == 255).all()
    reach = 5 * blur + 1
    kept = levels[
        top + (reach if top else 0) : max(0, top + size[1] - (reach if bottom else 0)),
        left + (reach if left else 0) : max(0, left + size[0] - (reach if right else 0)),
    ]
    assert (kept == 0).all()


def test_a_canvas_shows_what_the_edges_do() -> None:
    picture = Image.fromarray(np.random.default_rng(3).integers(0, 256, (5, 7, 3), dtype=np.uint8))
    found = np.asarray(widened(picture, (16, 12), (4, 2)))
    expected = np.pad(np.asarray(picture), ((2, 5), (4, 5), (0, 0)), mode="edge")
    assert np.array_equal(found, expected)


@given(st.tuples(*[st.integers(0, 4000)] * 4).filter(any))
def test_what_is_added_comes_back_from_its_words(sides: tuple[int, int, int, int]) -> None:
    assert extended_by(outpaint_text(sides)) == sides
    words = ",".join(f"{side}={value}" for side, value in zip(SIDES, sides, strict=True))
    assert extended_by(words) == sides


@given(side=st.integers(8, 500), added=st.integers(1, 500), index=st.integers(0, 3))
def test_a_canvas_that_can_not_be_names_the_nearest(side: int, added: int, index: int) -> None:
    sides = [0, 0, 0, 0]
    other = index + 1 if index % 2 == 0 else index - 1
    sides[index], sides[other] = added, -side % 8
    extend = (sides[0], sides[1], sides[2], sides[3])
    try:
        canvas_size((side, side), extend)
    except UsageError as error:
        name, _, number = error.hint.removeprefix("nearest: ").partition("=")
        assert name == SIDES[index]
        assert abs(int(number) - added) <= 4 or added < 4
        sides[index] = int(number)
        canvas_size((side, side), (sides[0], sides[1], sides[2], sides[3]))
    else:
        assert (side + added) % 8 == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--outpaint", "left=30"], "nearest: left=32"),
        (["--outpaint", "lfet=32"], "nearest: left"),
        (["--outpaint", "left=x"], "no number of pixels"),
        (["--outpaint", "left=0"], "adds nothing"),
        (["--outpaint", "left=8000"], "--outpaint takes 0 to 4096"),
    ],
)
def test_what_can_not_be_added_is_one_line(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert outpaint(files, tmp_path / "o.png", *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_an_outpainted_picture_is_made_again_as_long_as_its_beginning_is_here(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, again = tmp_path / "first.png", tmp_path / "again.png"
    assert outpaint(files, first, "--outpaint", "top=32,right=32", "--fill", "fill") == 0
    text = Image.open(first).info["parameters"]
    assert "Outpaint: top=32 right=32" in text
    assert "Mask blur: 4" in text
    assert "Size: 128x128" in text
    model = ["--model", str(files["tiny.safetensors"])]
    # The picture that it began with lies beside it, as it does where pictures are kept together.
    (tmp_path / "picture.png").write_bytes(files["picture.png"].read_bytes())
    capsys.readouterr()
    assert main(["generate", "--from", str(first), *model, "-o", str(again), "--json"]) == 0
    notes = json.loads(capsys.readouterr().out)["notes"]
    assert not [note for note in notes if "not honoured" in note]
    assert np.array_equal(np.asarray(Image.open(first)), np.asarray(Image.open(again)))
    Image.new("RGB", (96, 96)).save(tmp_path / "picture.png")
    (tmp_path / "elsewhere").mkdir()
    moved = first.rename(tmp_path / "elsewhere" / "first.png")
    original = files["picture.png"].rename(files["picture.png"].with_name("renamed.png"))
    try:
        assert main(["generate", "--from", str(moved), *model, "-o", str(again), "--json"]) == 0
    finally:
        original.rename(files["picture.png"])
    notes = json.loads(capsys.readouterr().out)["notes"]
    assert [note for note in notes if note.startswith("not honoured: img2img") and "Outpaint" in note]


def png_header(width: int, height: int) -> bytes:
    """A PNG of 20 KB that claims a size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(20_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("side", [13_000, 60_000])
def test_a_small_file_that_claims_a_huge_picture_is_refused(tmp_path: Path, side: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(side, side))
    assert path.stat().st_size < 25_000
    for read in (read_picture, read_mask):
        with pytest.raises(UsageError, match="too large") as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_a_missing_an_empty_and_a_cut_file_are_told_apart(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "castle.png")
    (tmp_path / "empty.png").touch()
    whole = (tmp_path / "castle.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("not a picture")
    for name, message in {
        "castel.png": r"no such file: .*castel\.png \(nearest there: castle\.png",
        "none/castle.png": r"no such file: .*\(check the path\)",
        "empty.png": "is empty: it has 0 bytes",
        "cut.png": "can't be read as a picture",
        "text.png": "can't be read as a picture",
        "": "is a folder",
    }.items():
        for read in (read_picture, read_mask):
            with pytest.raises(UsageError, match=message):
                read(tmp_path / name)
    with opened_picture(tmp_path / "castle.png") as file:
        assert file.size == (64, 64)
