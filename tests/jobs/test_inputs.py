"""Pictures that are handed in: kept by their content, and refused before they are decoded."""

from __future__ import annotations

import io
import os
import struct
import time
import zlib
from pathlib import Path

import pytest
from PIL import Image

from hayate.errors import OutputError, UsageError
from hayate.jobs.inputs import Inputs


def picture(kind: str = "PNG", size: tuple[int, int] = (64, 64), mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, format=kind)
    return buffer.getvalue()


@pytest.mark.parametrize(("kind", "ending"), [("PNG", ".png"), ("JPEG", ".jpg"), ("WEBP", ".webp")])
def test_a_picture_is_kept_once_and_as_it_came(tmp_path: Path, kind: str, ending: str) -> None:
    inputs, data = Inputs(tmp_path), picture(kind)
    path = inputs.keep(data)
    assert inputs.keep(data) == path
    assert path.suffix == ending
    assert path.read_bytes() == data
    assert list(inputs.folder.iterdir()) == [path]


def test_a_bomb_of_twenty_kilobytes_is_not_decoded(tmp_path: Path) -> None:
    data = picture(size=(13_000, 13_000), mode="1")
    assert len(data) < 25_000
    with pytest.raises(UsageError, match="too large: 13000 x 13000"):
        Inputs(tmp_path).keep(data)
    assert not (tmp_path / "inputs").exists()


def test_more_pixels_than_pillow_bears_are_one_line_too(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + picture()[33:]
    with pytest.raises(UsageError, match=r"too many pixels|too large"):
        Inputs(tmp_path).keep(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no picture",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        picture("GIF", mode="P"),
        picture("BMP"),
        picture("TIFF"),
        picture()[:20],
        b"RIFF\x00\x00\x00\x00WEBP",
    ],
)
def test_other_files_are_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(UsageError):
        Inputs(tmp_path).keep(data)


def test_a_full_disk_leaves_no_half_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        Inputs(tmp_path).keep(picture())
    assert list((tmp_path / "inputs").iterdir()) == []


def test_tidying_leaves_what_is_in_use_or_young(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    old, used, young = (inputs.keep(picture(size=(side, side))) for side in (8, 16, 24))
    for path in (old, used):
        os.utime(path, (1000, 1000))
    assert inputs.tidy({used.name}, before_s=time.time() - 60) == 1
    assert set(inputs.folder.iterdir()) == {used, young}
    inputs.keep(picture(size=(16, 16)))  # wanted again, and young again
    assert inputs.tidy((), before_s=time.time() - 60) == 0
