"""img2img in a browser: the canvas, by pointer and by keyboard."""

from __future__ import annotations

import base64
import io
import re
from typing import Any

import pytest
from PIL import Image

from tests.server.browsing import act, drop, field, part, prompt, ready, wait_until
from tests.server.slow_desk import SlowDesk, painted
from tests.server.tool_pages import needs_chromium

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
pytestmark = needs_chromium


def test_a_picture_is_painted_on_with_the_brush(page: Any, slow_desk: SlowDesk) -> None:
    ready(page, "img2img")
    drop(page, "hayate-canvas", painted(0, (256, 192), "PNG"))
    canvas = page.locator("hayate-canvas.filled canvas")
    box = canvas.bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 40, middle[1], steps=5)
    page.mouse.up()
    prompt(page, "img2img").fill("a boat")
    act(page, "generate", "img2img").click()
    expect(part(page, "infotext", "img2img")).to_contain_text("a boat")
    start = slow_desk.jobs(limit=1)[0].body["request"]["start"]
    with Image.open(start["path"]) as picture, Image.open(start["mask"]) as mask:
        assert picture.size == mask.size == (256, 192)
        assert picture.tobytes() == Image.open(io.BytesIO(painted(0, (256, 192), "PNG"))).tobytes()
        grey = mask.convert("L")
        assert grey.getpixel((128, 96)) == 255
        assert grey.getpixel((5, 5)) == 0
    assert (start["denoising"], start["fill"], start["resize_mode"]) == (0.75, "original", "just resize")


def test_strokes_are_taken_back_and_cleared(page: Any) -> None:
    ready(page, "img2img")
    drop(page, "hayate-canvas", painted(0, (128, 128), "PNG"))
    canvas = page.locator("hayate-canvas.filled canvas")
    canvas.click(position={"x": 200, "y": 150})

    def has_mask() -> bool:
        return page.evaluate("async () => Boolean((await document.querySelector('hayate-canvas').content()).mask)")

    assert has_mask()
    canvas.press("Control+z")
    assert not has_mask()
    canvas.press("Control+y")
    assert has_mask()
    page.locator("hayate-canvas [data-act=canvas-clear]").click()
    assert not has_mask()
    page.locator("hayate-canvas [data-act=canvas-undo]").click()
    assert has_mask()


def test_the_canvas_is_painted_on_by_the_keyboard_alone(page: Any) -> None:
    ready(page, "img2img")
    drop(page, "hayate-canvas", painted(0, (128, 128), "PNG"))
    canvas = page.locator("hayate-canvas.filled canvas")
    canvas.focus()
    for key in ("Space", "ArrowRight", "ArrowRight", "ArrowRight", "Space", "ArrowDown"):
        page.keyboard.press(key)
    expect(page.locator("hayate-canvas [role=status]")).to_have_text("at 88, 72")
    text = page.evaluate("""async () => {
      const { mask } = await document.querySelector('hayate-canvas').content();
      const bytes = new Uint8Array(await mask.arrayBuffer());
      return btoa(String.fromCharCode(...bytes));
    }""")
    with Image.open(io.BytesIO(base64.b64decode(text))) as mask:
        grey = mask.convert("L")
        assert (grey.getpixel((64, 64)), grey.getpixel((88, 64)), grey.getpixel((10, 10))) == (255, 255, 0)


def test_img2img_without_a_picture_says_what_is_missing(page: Any) -> None:
    ready(page, "img2img")
    act(page, "generate", "img2img").click()
    expect(page.locator(".toast.error")).to_contain_text("no picture to start from")


def test_a_result_is_sent_to_be_inpainted(page: Any) -> None:
    prompt(page).fill("a hill")
    act(page, "generate").click()
    expect(part(page, "infotext")).to_contain_text("a hill")
    page.locator("#panel-txt2img [data-send=inpaint]").click()
    expect(page.locator("hayate-canvas")).to_have_class(re.compile("filled"))
    expect(prompt(page, "img2img")).to_have_value("a hill")
    expect(field(page, "request.start.mask_blur", "img2img")).to_be_visible()
    expect(field(page, "request.width_px", "img2img")).to_have_attribute("placeholder", "512")


def test_several_pictures_are_a_job_each_under_one_mask(page: Any, slow_desk: SlowDesk) -> None:
    ready(page, "img2img")
    files = [
        {"name": f"{number}.png", "mimeType": "image/png", "buffer": painted(number, (64, 64), "PNG")}
        for number in range(3)
    ]
    page.locator("hayate-canvas input[name=picture]").set_input_files(files)
    expect(part(page, "many", "img2img")).to_contain_text("3 pictures")
    page.locator("hayate-canvas.filled canvas").click(position={"x": 200, "y": 150})
    prompt(page, "img2img").fill("three")
    before = len(slow_desk.jobs())
    act(page, "generate", "img2img").click()
    wait_until(page, lambda: len(slow_desk.jobs()) >= before + 3)
    expect(part(page, "infotext", "img2img")).to_contain_text("three")
    expect(part(page, "progress", "img2img")).to_be_hidden()
    starts = [each.body["request"]["start"] for each in slow_desk.jobs(limit=3)]
    assert len(slow_desk.jobs()) == before + 3
    assert len({each["path"] for each in starts}) == 3
    assert len({each["mask"] for each in starts}) == 1


def test_outpainting_and_masks_are_asked_for_by_their_fields(page: Any, slow_desk: SlowDesk) -> None:
    ready(page, "img2img")
    drop(page, "hayate-canvas", painted(0, (64, 64), "PNG"))
    for group in ("mask", "outpaint"):
        page.locator(f"#panel-img2img [data-group={group}] summary").click()
    field(page, "request.start.extend_px.0", "img2img").fill("128")
    field(page, "request.start.padding_px", "img2img").fill("32")
    field(page, "request.start.fill", "img2img").select_option("latent noise")
    field(page, "request.start.is_mask_inverted", "img2img").check()
    act(page, "generate", "img2img").click()
    expect(part(page, "about", "img2img")).to_be_visible()
    start = dict(slow_desk.jobs(limit=1)[0].body["request"]["start"])
    assert start.pop("path")
    assert start == {
        "denoising": 0.75,
        "resize_mode": "just resize",
        "mask_blur": 4,
        "extend_px": [128, 0, 0, 0],
        "padding_px": 32,
        "fill": "latent noise",
        "is_mask_inverted": True,
        "noise_multiplier": 1,
    }
