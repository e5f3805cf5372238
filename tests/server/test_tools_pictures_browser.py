"""The tabs for finished pictures, and the settings, in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from hayate.settings import Settings
from tests.server.tool_desk import INFOTEXT, ToolDesk
from tests.server.tool_pages import expect, needs_chromium, opened, picture_file

pytestmark = needs_chromium


def test_many_pictures_are_enlarged(tool_page: Any, tool_desk: ToolDesk, tmp_path: Path) -> None:
    panel = opened(tool_page, "extras")
    panel.get_by_role("button", name="Generate").click()
    expect(tool_page.get_by_role("alert")).to_contain_text("no picture")
    files = [picture_file(tmp_path, f"{number}.png") for number in (1, 2)]
    Image.new("RGB", (32, 32)).save(files[1])
    panel.locator("input[type=file]").first.set_input_files(files)
    expect(panel.get_by_text("Pictures: 2")).to_be_visible()
    panel.get_by_label("Resize").select_option("size")
    panel.get_by_label("Width").fill("256")
    panel.get_by_label("Height").fill("256")
    panel.get_by_role("button", name="Generate").click()
    expect(panel.locator("hayate-gallery .strip img")).to_have_count(2)
    body = tool_desk.bodies[-1][1]
    assert (body["width_px"], body["height_px"], body["is_cropped"], "scale" in body) == (256, 256, True, False)
    panel.get_by_role("button", name="Remove 1.png").click()
    expect(panel.get_by_text("Pictures: 1")).to_be_visible()


def test_a_pictures_words_are_shown_as_they_are(tool_page: Any, tmp_path: Path) -> None:
    panel = opened(tool_page, "pnginfo")
    text = INFOTEXT.format(7).replace("a red sun", "<img src=x onerror=alert(1)>")
    panel.locator("input[type=file]").set_input_files(picture_file(tmp_path, "a.png", text))
    expect(panel.locator("pre").first).to_have_text(text)
    expect(panel.get_by_role("row", name="Sampler")).to_contain_text("Euler a")
    expect(panel.get_by_role("button", name="Send to txt2img")).to_be_visible()
    panel.locator("input[type=file]").set_input_files(picture_file(tmp_path, "b.png"))
    expect(panel.get_by_text("does not say how it was made")).to_be_visible()
    assert panel.locator("img[src=x]").count() == 0


def test_the_gallery_finds_opens_and_walks_by_keys(tool_page: Any) -> None:
    panel = opened(tool_page, "gallery")
    panel.get_by_label("Open picture 11").click()
    viewer = tool_page.get_by_role("dialog")
    expect(viewer.locator("pre")).to_contain_text("Seed: 11")
    tool_page.keyboard.press("ArrowRight")
    expect(viewer.locator("pre")).to_contain_text("Seed: 22")
    tool_page.keyboard.press("Escape")
    expect(viewer).to_be_hidden()
    panel.get_by_label("Search in parameters").fill("Seed: 22")
    expect(panel.locator(".thumbs li")).to_have_count(1)
    panel.get_by_label("Search in parameters").fill("nobody says that")
    expect(panel.get_by_text("No picture says that.")).to_be_visible()
    panel.get_by_label("Search in parameters").fill("")
    expect(panel.get_by_label("Open picture 33")).to_be_visible()
    panel.get_by_label("Saved ones only").check()
    expect(panel.get_by_label("Open picture 33")).to_have_count(0)
    expect(panel.get_by_label("Open picture 11")).to_be_visible()


def test_settings_are_saved_for_good_and_taken_back(tool_page: Any, tool_settings: Settings) -> None:
    panel = opened(tool_page, "settings")
    save = panel.get_by_role("button", name="Apply settings")
    steps = panel.get_by_label("Sampling steps")
    expect(steps).to_have_attribute("placeholder", str(tool_settings.steps))
    expect(save).to_be_disabled()
    steps.fill("33")
    panel.get_by_label("Format").select_option("webp")
    expect(panel.get_by_text("2 changed")).to_be_visible()
    save.click()
    expect(tool_page.get_by_text("The settings are saved.")).to_be_visible()
    tool_page.reload()
    expect(steps).to_have_value("33")
    expect(panel.get_by_label("Format")).to_have_value("webp")
    steps.fill("0")
    save.click()
    expect(panel.get_by_text("1 changed")).to_be_visible()  # the browser itself holds it to the bounds
    steps.fill("")
    panel.get_by_label("Format").select_option("")
    save.click()
    expect(tool_page.get_by_text("The settings are saved.")).to_be_visible()
    expect(steps).to_have_attribute("placeholder", str(tool_settings.steps))
    assert panel.locator("[data-key$=_dir]").count() == 0


def test_a_setting_is_found_by_what_it_does(tool_page: Any) -> None:
    panel = opened(tool_page, "settings")
    panel.get_by_label("Find a setting").fill("novelai")
    expect(panel.get_by_label("Eta noise seed delta")).to_be_visible()
    expect(panel.get_by_label("Sampling steps")).to_be_hidden()
    panel.get_by_label("Find a setting").fill("HAYATE_LORA_DIR")
    expect(panel.get_by_role("row", name="LoRAs")).to_be_visible()
