"""The doctor's tab before a browser: what is found, fixed and taken back, by mouse and by keys, in both languages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hayate.extensions.state import StateFile
from hayate.server.app import create_app
from hayate.server.doctor_desk import DoctorDesk
from hayate.server.options import ServeOptions
from hayate.settings import load_settings
from tests.doctor.machines import machine
from tests.server.browsing import act, part
from tests.server.doctor_practice import FolderPractice, sheet
from tests.server.stub_desk import StubDesk
from tests.server.tool_pages import TIMEOUT_MS, expect, needs_chromium, opened, served_app

pytestmark = needs_chromium
FP32 = "[data-check='forced fp32 on a CPU']"
SLOW = "[data-check='slow extensions']"


@pytest.fixture
def practice(tmp_path: Path) -> FolderPractice:
    (tmp_path / "settings.toml").write_text('dtype = "fp32"\n')
    return FolderPractice(tmp_path / "settings.toml", tmp_path)


def _page(chromium: Any, practice: FolderPractice, locale: str = "en-US", **options: Any) -> Iterator[Any]:
    desk = StubDesk(practice.data_dir / "server")
    desk.start()
    settings = load_settings({"data_dir": practice.data_dir}, environment={})
    app = create_app(desk, settings, ServeOptions(**options))
    app.state.doctor = DoctorDesk(practice.data_dir, practice)
    for address in served_app(app):
        context = chromium.new_context(viewport={"width": 1400, "height": 900}, locale=locale, base_url=address)
        page = context.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        faults = _faults_of(page)
        yield page
        context.close()
        assert not faults


def _faults_of(page: Any) -> list[str]:
    """Filled while the page's scripts fail."""
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    return faults


@pytest.fixture
def page(chromium: Any, practice: FolderPractice) -> Iterator[Any]:
    yield from _page(chromium, practice)


@pytest.fixture
def strange_page(chromium: Any, practice: FolderPractice) -> Iterator[Any]:
    """Of a server that others may reach by a name of its own."""
    yield from _page(chromium, practice, names=("my.example",))


@pytest.fixture
def japanese_page(chromium: Any, practice: FolderPractice) -> Iterator[Any]:
    yield from _page(chromium, practice, "ja-JP")


def test_the_tab_is_there_while_the_machine_is_looked_at(page: Any, practice: FolderPractice) -> None:
    practice.may_look.clear()
    opened(page, "doctor")
    expect(part(page, "summary", "doctor")).to_contain_text("Looking this machine over")
    expect(act(page, "look", "doctor")).to_be_disabled()
    practice.may_look.set()
    expect(part(page, "summary", "doctor")).to_contain_text("Found: 5")
    expect(act(page, "look", "doctor")).to_be_enabled()


def test_a_finding_says_what_why_how_much_how_sure_and_what_to_do(page: Any) -> None:
    opened(page, "doctor")
    card = page.locator(SLOW)
    expect(card).to_contain_text("1 extension makes every start longer: slow-one (1.5 s)")
    for title, words in (
        ("Why", "imported for the first picture"),
        ("Gain", "a faster start: 1.5 s"),
        ("How sure", "measured here"),
        ("Fix", "a disabled one is not imported"),
    ):
        row = card.locator("dt", has_text=re.compile(f"^{title}$")).locator("xpath=following-sibling::dd[1]")
        expect(row).to_contain_text(words)
    expect(card.locator("code").last).to_have_text(re.compile("extensions disable slow-one$"))


def test_a_fix_is_said_before_done_by_keys_and_taken_back(page: Any, practice: FolderPractice) -> None:
    opened(page, "doctor")
    state = StateFile(practice.data_dir)
    card = page.locator(SLOW)
    expect(card.locator("[data-act=fix]")).not_to_be_visible()
    card.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(card).to_contain_text("Disable the extension slow-one, from the next job on.")
    expect(card).to_contain_text("Undone by: the extension is enabled again.")
    assert state.read().disabled == frozenset()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(card).to_have_count(0)
    expect(page.locator("#toasts")).to_contain_text("slow-one is disabled")
    assert state.read().disabled == {"slow-one"}
    expect(page.locator("#doctor-title")).to_be_focused()
    page.get_by_role("button", name="Undo: Slow extensions").click()
    expect(card).to_have_count(1)
    expect(part(page, "done", "doctor")).not_to_be_visible()
    assert state.read().disabled == frozenset()


def test_a_long_fix_is_watched_also_by_another_browser(
    page: Any, practice: FolderPractice, chromium: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hayate.server.v1.doctor.WAIT_S", 0.1)
    opened(page, "doctor")
    practice.may_act.clear()
    page.locator(FP32).locator("summary").click()
    page.locator(FP32).locator("[data-act=fix]").click()
    expect(part(page, "act", "doctor")).to_contain_text("Fixing Forced fp32 on a CPU")
    other = chromium.new_context(base_url=re.sub("#.*", "", page.url)).new_page()
    opened(other, "doctor")
    expect(part(other, "act", "doctor").locator("progress")).to_be_visible()
    expect(act(other, "look", "doctor")).to_be_disabled()
    practice.may_act.set()
    for each in (page, other):
        expect(each.locator(FP32)).to_have_count(0)
        expect(each.locator("[data-fixed]")).to_contain_text("dtype was written into the settings file")
    other.context.close()


def test_a_fix_that_is_refused_is_shown_and_nothing_is_lost(page: Any, practice: FolderPractice) -> None:
    opened(page, "doctor")
    page.locator(SLOW).locator("summary").click()
    StateFile(practice.data_dir).write(StateFile(practice.data_dir).read().switched("slow-one", is_on=False))
    page.locator(SLOW).locator("[data-act=fix]").click()
    expect(page.locator("#toasts")).to_contain_text("slow-one is disabled already")
    expect(page.locator(SLOW)).to_have_count(0)


def test_strangers_are_told_why_there_is_no_button(strange_page: Any) -> None:
    opened(strange_page, "doctor")
    expect(strange_page.locator(FP32)).to_be_visible()
    expect(strange_page.locator("#panel-doctor [data-act=fix]")).to_have_count(0)
    expect(part(strange_page, "refusal", "doctor")).to_contain_text("--api-auth")


def test_a_look_that_fails_says_so_and_can_be_repeated(page: Any, practice: FolderPractice) -> None:
    practice.settings_file.write_text("stepz = 1\n")
    opened(page, "doctor")
    expect(part(page, "summary", "doctor")).to_contain_text("could not be looked over")
    expect(page.locator("#toasts")).to_contain_text("stepz")
    practice.settings_file.write_text("")
    act(page, "look", "doctor").click()
    expect(part(page, "summary", "doctor")).to_contain_text("Found: 4")


def test_something_serious_is_marked_on_the_tab_and_nothing_found_is_said(page: Any, practice: FolderPractice) -> None:
    practice.gather = lambda: sheet("gtx_1080")  # type: ignore[method-assign]
    opened(page, "doctor")
    expect(page.get_by_role("tab", name="Doctor 1 serious")).to_be_visible()
    practice.gather = machine  # type: ignore[method-assign]
    act(page, "look", "doctor").click()
    expect(part(page, "summary", "doctor")).to_contain_text("Everything is fine.")
    expect(page.locator("#tab-doctor .mark")).to_have_count(0)


def test_the_command_is_copied(page: Any) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened(page, "doctor")
    page.locator(SLOW).get_by_role("button", name="Copy the command").click()
    expect(page.locator("#toasts")).to_contain_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()").endswith("extensions disable slow-one")


def test_the_sheet_is_downloaded(page: Any) -> None:
    opened(page, "doctor")
    expect(page.locator(SLOW)).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Fact sheet").click()
    assert download.value.suggested_filename == "hayate-facts.json"
    assert json.loads(Path(download.value.path()).read_text())["extensions"][0]["name"] == "slow-one"


def test_the_frame_is_japanese_and_english_is_marked_as_such(japanese_page: Any) -> None:
    opened(japanese_page, "doctor")
    card = japanese_page.locator(SLOW)
    expect(card.locator("h3")).to_have_text("遅い拡張機能")
    expect(card).to_contain_text("このマシンで測定")
    expect(card.locator(".found [lang=en]")).to_contain_text("makes every start longer")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(page: Any, practice: FolderPractice, theme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    opened(page, "txt2img")
    page.context.add_cookies([{"name": "hayate_theme", "value": theme, "url": page.url}])
    page.reload()
    page.locator("#tab-doctor").click()
    page.locator(SLOW).locator("summary").click()
    page.locator(SLOW).locator("[data-act=fix]").click()
    page.locator(FP32).locator("summary").click()
    page.locator("[data-fixed]").wait_for()
    assert practice.looks
    found = axe.Axe().run(page, context="#panel-doctor").response["violations"]
    assert [(each["id"], each["nodes"][0]["html"][:200]) for each in found] == []
