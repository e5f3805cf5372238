"""The tool tabs as assistive technology meets them."""

from __future__ import annotations

from typing import Any

import pytest

from hayate.server.ui.tool_tabs import TOOL_TABS
from tests.server.tool_pages import needs_chromium, opened

pytestmark = needs_chromium
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")


@pytest.mark.parametrize(("theme", "rules"), [("light", {}), ("dark", {"runOnly": ["color-contrast"]})])
def test_no_tab_has_a_serious_fault(tool_page: Any, tool_address: str, theme: str, rules: dict[str, Any]) -> None:
    tool_page.context.add_cookies([{"name": "hayate_theme", "value": theme, "url": tool_address}])
    opened(tool_page, "extras")
    faults: list[tuple[str, str, str]] = []
    for tab in TOOL_TABS:
        tool_page.locator(f"#tab-{tab.id}").click()
        tool_page.wait_for_timeout(250)
        found = axe.Axe().run(tool_page, context=f"#panel-{tab.id}", options=rules)
        faults += [
            (tab.id, each["id"], each["nodes"][0]["any"][0]["message"])
            for each in found.response["violations"]
            if each["impact"] in ("serious", "critical")
        ]
    assert not faults


def test_every_tab_is_reached_by_keys_and_none_is_wider_than_a_phone(tool_page: Any) -> None:
    tool_page.set_viewport_size({"width": 390, "height": 844})
    opened(tool_page, "extras")
    tool_page.locator("#tab-extras").focus()
    for tab in TOOL_TABS:
        chosen = tool_page.locator(f"#tab-{tab.id}")
        assert chosen.get_attribute("aria-selected") == "true"
        tool_page.wait_for_timeout(150)
        assert tool_page.evaluate("document.documentElement.scrollWidth <= innerWidth"), tab.id
        tool_page.keyboard.press("ArrowRight")
