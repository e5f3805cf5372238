"""What a stranger stumbled over: pictures that were too small to see, failures that stayed, lists that stayed open."""

from __future__ import annotations

from typing import Any

import pytest

from tests.server.browsing import act, field, part, prompt, ready
from tests.server.slow_desk import SlowDesk
from tests.server.tool_pages import needs_chromium

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
pytestmark = needs_chromium


def make_one(page: Any, text: str = "a lake") -> None:
    prompt(page).fill(text)
    act(page, "generate").click()
    expect(part(page, "infotext")).to_contain_text(text)


def test_the_viewer_of_the_gallery_shows_the_picture_large(page: Any) -> None:
    make_one(page)
    ready(page, "gallery")
    page.locator("#panel-gallery .thumb").first.click()
    box = page.locator("dialog.viewer img").bounding_box()
    assert box["width"] > 700
    assert box["height"] > 700


def test_a_small_picture_fills_the_lightbox_and_z_shows_its_own_size(page: Any) -> None:
    field(page, "request.width_px").fill("128")
    field(page, "request.height_px").fill("64")
    make_one(page)
    page.locator("#panel-txt2img hayate-gallery .main").click()
    image = page.locator("dialog.lightbox img")
    expect(page.locator("dialog.lightbox p")).to_have_text("1 / 1 · 128 × 64")
    assert image.bounding_box()["width"] == 1400
    assert image.bounding_box()["height"] == 700
    page.keyboard.press("z")
    assert image.bounding_box()["width"] == 128


def test_a_failure_goes_when_something_new_is_tried(page: Any) -> None:
    prompt(page).fill("this fails")
    act(page, "generate").click()
    expect(page.locator(".toast.error")).to_have_count(1)
    make_one(page)
    expect(page.locator(".toast.error")).to_have_count(0)


def test_an_interruption_without_a_picture_is_said(page: Any, slow_desk: SlowDesk) -> None:
    slow_desk.hold()
    prompt(page).fill("too long")
    act(page, "generate").click()
    expect(part(page, "progress")).to_contain_text("sampling")
    act(page, "interrupt").click()
    expect(page.locator(".toast")).to_contain_text("Interrupted")


def test_escape_closes_a_list_and_ends_no_job(page: Any, slow_desk: SlowDesk) -> None:
    slow_desk.hold()
    act(page, "generate").click()
    expect(part(page, "progress")).to_contain_text("sampling")
    styles = page.locator("#panel-txt2img details.many")
    styles.locator("summary").click()
    expect(styles).to_have_attribute("open", "")
    page.keyboard.press("Escape")
    expect(styles).not_to_have_attribute("open", "")
    expect(part(page, "progress")).to_contain_text("sampling")


def test_tabs_stay_where_they_are_when_another_is_chosen(page: Any) -> None:
    def places() -> list[float]:
        return page.evaluate("[...document.querySelectorAll('[role=tab]')].map((tab) => tab.getBoundingClientRect().x)")

    before = places()
    ready(page, "gallery")
    assert places() == before


def test_advanced_fields_are_sent_as_the_job_takes_them_and_nothing_of_those_left_open(
    page: Any, slow_desk: SlowDesk
) -> None:
    page.locator("#panel-txt2img [data-group=advanced] summary").click()
    field(page, "asked.guidance_interval.0").fill("0.3")
    field(page, "asked.is_graphed").select_option("false")
    field(page, "asked.checks_nan").select_option("false")
    field(page, "asked.layout").select_option("channels-last")
    make_one(page)
    sent = slow_desk.jobs(limit=1)[0].body["asked"]
    assert sent == {
        "guidance_interval": [0.3, 10_000],
        "is_graphed": False,
        "checks_nan": False,
        "layout": "channels-last",
    }
    page.reload()
    ready(page)
    expect(field(page, "asked.is_graphed")).to_have_value("false")
    field(page, "asked.is_graphed").select_option("")
    field(page, "asked.guidance_interval.0").fill("")
    make_one(page, "a hill")
    assert slow_desk.jobs(limit=1)[0].body["asked"] == {"checks_nan": False, "layout": "channels-last"}
