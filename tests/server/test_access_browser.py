"""The page for everybody: languages, keys, small screens, screen readers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.server.browsing import act, drop, field, part, prompt, ready
from tests.server.slow_desk import SlowDesk, painted
from tests.server.tool_pages import needs_chromium

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
pytestmark = needs_chromium


def test_the_language_is_switched_and_the_fields_stay(page: Any) -> None:
    prompt(page).fill("stays")
    page.locator("#language").select_option("ja")
    expect(act(page, "generate")).to_contain_text("生成")
    expect(page.locator("html")).to_have_attribute("lang", "ja")
    expect(prompt(page)).to_have_value("stays")
    ready(page)  # the new page listens
    page.locator("#language").select_option("en")
    expect(act(page, "generate")).to_contain_text("Generate")


def test_tabs_are_walked_by_arrow_keys(page: Any) -> None:
    first = page.locator("#tab-txt2img")
    first.focus()
    first.press("ArrowRight")
    expect(page.locator("#tab-img2img")).to_be_focused()
    expect(page.locator("#panel-img2img")).to_be_visible()
    expect(page.locator("#panel-txt2img")).to_be_hidden()


@pytest.mark.parametrize(("width", "height"), [(1400, 900), (390, 844)])
def test_generate_is_in_sight_and_nothing_is_cut_off(page: Any, width: int, height: int) -> None:
    page.set_viewport_size({"width": width, "height": height})
    expect(act(page, "generate")).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("tab", ["txt2img", "img2img"])
def test_axe_finds_nothing_serious(page: Any, tab: str, theme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    page.locator("#theme").select_option(theme)
    page.locator(f"#tab-{tab}").click()
    page.evaluate(
        "document.querySelectorAll('details').forEach((each) => (each.open = !each.classList.contains('many')))"
    )
    if tab == "txt2img":
        act(page, "generate").click()
        expect(part(page, "about")).to_be_visible()
    else:
        drop(page, "hayate-canvas", painted(0, (64, 64), "PNG"))
    found = axe.Axe().run(page).response["violations"]
    serious = [
        (each["id"], [(node["html"][:80], node["failureSummary"]) for node in each["nodes"][:3]])
        for each in found
        if each["impact"] in ("serious", "critical")
    ]
    assert serious == []


def test_a_setting_that_is_changed_shows_where_it_stands_for_an_empty_field(page: Any, slow_desk: SlowDesk) -> None:
    expect(field(page, "request.sampler").locator("option").first).to_have_text("DPM++ 2M (default)")
    ready(page, "settings")
    field(page, "settings.sampler", "settings").select_option("Euler a")
    field(page, "settings.steps", "settings").fill("12")
    page.locator("#panel-settings [data-act=save]").click()
    ready(page)
    expect(field(page, "request.sampler").locator("option").first).to_have_text("Euler a (default)")
    expect(field(page, "request.steps")).to_have_attribute("placeholder", "12")
    act(page, "generate").click()
    expect(part(page, "about")).to_be_visible()
    assert slow_desk.jobs(limit=1)[0].body["settings"] == {"sampler": "Euler a", "steps": 12}
