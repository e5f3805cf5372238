"""Extras and png-info: A1111's own cases, and what their fields mean."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from hayate.pipeline.formats import PictureTexts, encode_png
from tests.server.a1111_server import Served, opened, picture, serve

TEXT = "a lake\nNegative prompt: fog\nSteps: 3, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 64x48, Model: x"


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return serve(tmp_path)


def test_upscaling(served: Served) -> None:
    reply = served.post(
        "extra-single-image",
        {
            "resize_mode": 0,
            "show_extras_results": True,
            "gfpgan_visibility": 0,
            "codeformer_visibility": 0,
            "codeformer_weight": 0,
            "upscaling_resize": 2,
            "upscaling_resize_w": 128,
            "upscaling_resize_h": 128,
            "upscaling_crop": True,
            "upscaler_1": "Lanczos",
            "upscaler_2": "None",
            "extras_upscaler_2_visibility": 0,
            "image": picture(),
        },
    )

    assert opened(reply["image"]).size == (128, 128)
    assert "Lanczos" in reply["html_info"]


@pytest.mark.parametrize("more", [{}, {"model": "clip"}], ids=["png info", "interrogate"])
def test_with_hardly_any_field_the_picture_stays_as_it_is(served: Served, more: dict[str, Any]) -> None:
    reply = served.post("extra-single-image", {"image": picture(has_prefix=True), **more})

    assert reply["image"] == picture()
    assert served.desk.handed_in == []


def test_every_field_of_a_batch(served: Served) -> None:
    images = [{"data": picture(64, 32), "name": "a"}, {"data": picture(32, 64), "name": "b"}]

    reply = served.post(
        "extra-batch-images",
        {
            "imageList": images,
            "resize_mode": 1,
            "upscaling_resize_w": 96,
            "upscaling_resize_h": 80,
            "upscaling_crop": False,
            "upscaler_1": "Lanczos",
            "upscaler_2": "Nearest",
            "extras_upscaler_2_visibility": 0.25,
        },
    )

    assert [opened(each).size for each in reply["images"]] == [(96, 80), (96, 80)]
    body = served.last()
    assert body["images"] == [str(served.desk.keep_input(base64.b64decode(each["data"]))) for each in images]
    assert (body["upscaler_1"], body["upscaler_2"], body["visibility_2"]) == ("Lanczos", "Nearest", 0.25)
    assert (body["width_px"], body["height_px"], body["is_cropped"], body["saves_pictures"]) == (96, 80, False, False)


def test_a_file_is_an_upscaler_by_both_of_its_names(served: Served) -> None:
    served.settings.upscalers_dir.mkdir(parents=True)
    (served.settings.upscalers_dir / "RealESRGAN_x4plus.pth").write_bytes(b"x")

    for name in ("R-ESRGAN 4x+", "realesrgan_x4plus"):
        served.post("extra-single-image", {"image": picture(), "upscaler_1": name})
        assert served.last()["upscaler_1"] == "RealESRGAN_x4plus"


@pytest.mark.parametrize(
    "changes",
    [
        {"upscaler_1": "SwinIR 4x"},
        {"upscaler_2": "LDSR"},
        {"upscaling_resize": 0},
        {"upscaling_resize": 100},
        {"resize_mode": 2},
        {"resize_mode": 1, "upscaling_resize_w": 1_000_000},
        {"extras_upscaler_2_visibility": 2},
        {"image": ""},
        {"image": "AAAA"},
    ],
    ids=str,
)
def test_what_can_not_be_is_refused(served: Served, changes: dict[str, Any]) -> None:
    served.refused("extra-single-image", {"image": picture(), "upscaler_1": "Lanczos", **changes})

    assert served.desk.handed_in == []


def test_an_empty_batch_is_refused(served: Served) -> None:
    for body in ({}, {"imageList": []}):
        served.refused("extra-batch-images", body)


def test_faces_are_left_as_they_are_and_that_is_said(served: Served) -> None:
    reply = served.post("extra-single-image", {"image": picture(), "upscaler_1": "Lanczos", "gfpgan_visibility": 1})

    assert "faces" in reply["html_info"]


def test_what_a_picture_says_is_never_markup(served: Served) -> None:
    bad = served.refused("extra-single-image", {"image": picture(), "upscaler_1": "<img onerror=alert(1)>"})

    assert "Lanczos" in bad["detail"]
    from hayate.server.a1111.images import plaintext_to_html

    assert "<img" not in plaintext_to_html("<img onerror=alert(1)>\nx")


def test_a_pictures_own_words(served: Served) -> None:
    pixels = np.zeros((48, 64, 3), np.uint8)
    image = base64.b64encode(encode_png(pixels, PictureTexts(parameters=TEXT))).decode()

    about = served.post("png-info", {"image": image})

    assert about["info"] == TEXT
    expected = {"Prompt": "a lake", "Negative prompt": "fog", "Size-1": "64", "Size-2": "48", "Seed": "5"}
    assert {key: about["parameters"][key] for key in expected} == expected
    assert about["parameters"]["Clip skip"] == "1", "what is missing has A1111's meaning"


def test_a_picture_without_words(served: Served) -> None:
    assert served.post("png-info", {"image": picture()}) == {"info": "", "items": {}, "parameters": {}}
    assert served.post("png-info", {}) == {"info": "", "items": {}, "parameters": {}}


def test_the_other_texts_of_a_picture(served: Served) -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Title", "mine")
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, format="PNG", pnginfo=texts)

    about = served.post("png-info", {"image": base64.b64encode(buffer.getvalue()).decode()})

    assert about["items"] == {"Title": "mine"}


def test_a_bomb_is_refused_before_it_is_decoded(served: Served) -> None:
    buffer = io.BytesIO()
    Image.new("1", (13000, 13000)).save(buffer, format="PNG")
    bomb = base64.b64encode(buffer.getvalue()).decode()
    assert len(bomb) < 100_000

    served.refused("png-info", {"image": bomb})
    served.refused("extra-single-image", {"image": bomb, "upscaler_1": "Lanczos"})
    served.refused("img2img", {"init_images": [bomb]})


def test_nobody_here_describes_pictures(served: Served) -> None:
    assert served.refused("interrogate", {"image": ""}, 404)["detail"] == "Image not found"
    assert "describes" in served.refused("interrogate", {"image": picture(), "model": "clip"}, 501)["detail"]
