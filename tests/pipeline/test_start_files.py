"""Many pictures to start from: each with its mask, each under its own name, and a broken one costs no other."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hayate.cli.main import main
from hayate.errors import OutputError, UsageError
from hayate.models.config import Family
from hayate.pipeline.start_files import is_many, output_for, start_files
from tests.tiny_models import write_tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    write_tiny(path, Family.SD1)
    return path


def write_bomb(path: Path) -> None:
    """A PNG of a few kilobytes that claims 400 million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(2501 * 100))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "in"
    made.mkdir()
    for number, name in enumerate(("b.png", "a.jpg", "c.png")):
        Image.new("RGB", (64, 64), (80 * number, 90, 120)).save(made / name)
    (made / "notes.txt").write_text("no picture")
    return made


def test_a_folder_and_a_pattern_are_many_and_a_file_is_one(folder: Path) -> None:
    assert is_many(folder)
    assert is_many(folder / "*.png")
    assert not is_many(folder / "b.png")
    odd = folder / "odd[1].png"
    Image.new("RGB", (8, 8)).save(odd)
    assert not is_many(odd)
    assert [file.picture.name for file in start_files(folder / "?.png", None)] == ["b.png", "c.png"]


def test_pictures_come_by_name_each_with_its_mask(folder: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    for name in ("a.png", "b.png", "c.png", "unused.png"):
        Image.new("L", (64, 64), 255).save(masks / name)
    found = start_files(folder, masks)
    assert [(file.picture.name, file.mask and file.mask.name) for file in found] == [
        ("a.jpg", "a.png"),
        ("b.png", "b.png"),
        ("c.png", "c.png"),
    ]
    assert {file.mask for file in start_files(folder, masks / "a.png")} == {masks / "a.png"}
    (masks / "c.png").unlink()
    with pytest.raises(UsageError, match=r"c\.png has no mask"):
        start_files(folder, masks)


def test_a_folder_without_pictures_is_said(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "*.png"):
        with pytest.raises(UsageError, match="no pictures"):
            start_files(place, None)
    with pytest.raises(OutputError, match="one file"):
        output_for(tmp_path / "a.png", tmp_path / "all.png", ".png")


def test_a_broken_file_is_reported_and_the_others_are_made(
    model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "bad.png").write_bytes(b"")
    write_bomb(folder / "bomb.png")
    out = tmp_path / "out"
    words = ["generate", "a red sun", "--model", str(model), "--steps", "2", "--seed", "7", "-o", str(out)]
    assert main([*words, "--image", str(folder)]) == 1
    shown = capsys.readouterr()
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.png", "c.png"]
    assert shown.out.splitlines() == [str(out / f"{name}.png") for name in "abc"]
    assert "3/5 failed" in shown.err
    assert "4/5 failed" in shown.err
    assert "bad.png" in shown.err
    assert main([*words, "--image", str(folder / "b.png"), "--json"]) == 0
    alone = json.loads(capsys.readouterr().out)["images"][0]["path"]
    assert np.array_equal(np.asarray(Image.open(alone)), np.asarray(Image.open(out / "b.png")))


def test_a_mistake_in_the_request_is_said_once(
    model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["generate", "a red sun", "--model", str(model), "--image", str(folder), "-o", str(tmp_path / "out")]
    assert main([*words, "--sampler", "Eulr"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main([*words[:-1], str(tmp_path / "one.png")]) == 2
    assert "one file" in capsys.readouterr().err
