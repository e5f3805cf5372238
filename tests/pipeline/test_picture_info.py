"""Reading pictures back: PNG, JPEG, WebP and NovelAI, and files that are none of them."""

from __future__ import annotations

import json
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from hayate.errors import HayateError, UsageError
from hayate.pipeline.formats import PictureTexts, encode_png
from hayate.pipeline.picture_info import read_picture_info
from hayate.pipeline.png import Target, save_picture

TEXT = "a boat, 海\nNegative prompt: fog\nSteps: 20, Sampler: Euler a, Seed: 1, Size: 24x16"
PICTURE = np.zeros((16, 24, 3), dtype=np.uint8)


def test_our_own_picture_comes_back_without_loss(tmp_path: Path) -> None:
    record = {"prompt": "a boat\n\n  海 ", "nested": {"steps": [1, 2.5, None, True]}}
    path = save_picture(PICTURE, Target(folder=tmp_path), stem="1", texts=PictureTexts(parameters=TEXT, record=record))
    info = read_picture_info(path)
    assert (info.format, info.width_px, info.height_px) == ("PNG", 24, 16)
    assert (info.parameters, info.record, dict(info.texts)) == (TEXT, record, {})
    assert info.infotext is not None
    assert info.infotext.parameters["Sampler"] == "Euler a"


@pytest.mark.parametrize("ending", ["jpg", "webp", "avif"])
@pytest.mark.parametrize("codec", ["utf-16-be", "utf-16-le"])
def test_exif_comments_are_read_in_either_byte_order(tmp_path: Path, ending: str, codec: str) -> None:
    path = tmp_path / f"a.{ending}"
    exif = Image.Exif()
    exif[0x8769] = {0x9286: b"UNICODE\0" + TEXT.encode(codec)}
    Image.fromarray(PICTURE).save(path, exif=exif)
    assert read_picture_info(path).parameters == TEXT


@pytest.mark.parametrize(("named", "meant"), [("karras", "Karras"), ("native", "Uniform"), ("unheard of", None)])
def test_novelais_schedule_has_a1111s_name(tmp_path: Path, named: str, meant: str | None) -> None:
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("Software", "NovelAI")
    chunks.add_text("Comment", json.dumps({"steps": 28, "sampler": "k_dpmpp_2m", "noise_schedule": named}))
    Image.fromarray(PICTURE).save(tmp_path / "a.png", pnginfo=chunks)
    info = read_picture_info(tmp_path / "a.png").infotext
    assert info is not None
    assert info.parameters.get("Schedule type") == meant


def test_novelais_form_is_translated(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    chunks = PngImagePlugin.PngInfo()
    comment = {"steps": 28, "sampler": "k_dpmpp_2m", "seed": 12, "scale": 11.0, "uc": "lowres"}
    for key, text in {"Software": "NovelAI", "Description": "1girl", "Comment": json.dumps(comment)}.items():
        chunks.add_text(key, text)
    Image.fromarray(PICTURE).save(path, pnginfo=chunks)
    info = read_picture_info(path).infotext
    assert info is not None
    assert (info.prompt, info.negative_prompt) == ("1girl", "lowres")
    assert dict(info.parameters) == {
        "Steps": "28",
        "Sampler": "DPM++ 2M",
        "CFG scale": "11",
        "Seed": "12",
        "Size": "24x16",
        "Clip skip": "2",
        "ENSD": "31337",
    }


def test_a_text_behind_the_pixels_is_found(tmp_path: Path) -> None:
    data = encode_png(PICTURE, PictureTexts(parameters="x"))
    start = data.index(b"tEXt") - 4
    chunk = data[start : start + 12 + struct.unpack(">I", data[start : start + 4])[0]]
    end = data.index(b"IEND") - 4
    (tmp_path / "a.png").write_bytes(data.replace(chunk, b"", 1)[: end - len(chunk)] + chunk + data[end:])
    assert read_picture_info(tmp_path / "a.png").parameters == "x"


def test_a_picture_without_words_is_no_error(tmp_path: Path) -> None:
    Image.fromarray(PICTURE).save(tmp_path / "a.png")
    info = read_picture_info(tmp_path / "a.png")
    assert (info.parameters, info.infotext, info.record) == (None, None, None)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png(width: int, height: int, *chunks: bytes) -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + _chunk(b"IDAT", b"") + _chunk(b"IEND", b"")


def test_bombs_are_refused_quickly(tmp_path: Path) -> None:
    bombs = {
        "pixels": _png(13_000, 13_000),
        "more pixels": _png(60_000, 60_000),
        "compressed text": _png(8, 8, _chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"a" * 2_000_000))),
        "plain text": _png(8, 8, _chunk(b"tEXt", b"parameters\0" + b"a" * 1_100_000)),
    }
    started = time.process_time()
    for name, data in bombs.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(UsageError) as raised:
            read_picture_info(path)
        assert name in str(raised.value)
    assert time.process_time() - started < 10


def test_the_published_992_byte_attack_is_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(_png(8, 8, _chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"a" * 900_000, 9))))
    assert path.stat().st_size < 1100
    started = time.process_time()
    info = read_picture_info(path)
    assert len(info.parameters or "") == 900_000
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    "content", [b"", b"GIF89a\x01\x00\x01\x00\x00\x00\x00;", b"<html>", b"%!PS-Adobe-3.0 EPSF-3.0\n"]
)
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UsageError, match=r"a\.png"):
        read_picture_info(tmp_path / "a.png")


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.png", tmp_path, "a\0b.png"):
        with pytest.raises(UsageError):
            read_picture_info(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_give_a_result_or_one_clear_error(tmp_path: Path, data: st.DataObject) -> None:
    whole = bytearray(encode_png(PICTURE, PictureTexts(parameters=TEXT, record={"a": 1})))
    for _ in range(data.draw(st.integers(0, 3))):
        whole[data.draw(st.integers(8, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "a.png"
    path.write_bytes(whole[: data.draw(st.integers(8, len(whole)))])
    try:
        read_picture_info(path)
    except HayateError as error:
        assert "\n" not in str(error)  # noqa: PT017 - no error is fine as well
