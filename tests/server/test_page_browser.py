"""Making pictures in a browser: asked for, watched, ended, found again."""

from __future__ import annotations

import re
from typing import Any

import pytest

from hayate.errors import QueueFull
from hayate.jobs.records import JobRecord, State, WorkerPhase, WorkerState
from tests.server.browsing import act, field, part, prompt
from tests.server.slow_desk import FACTS, SlowDesk
from tests.server.tool_pages import needs_chromium

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
pytestmark = needs_chromium


def newest(desk: SlowDesk) -> JobRecord:
    return desk.jobs(limit=1)[0]


def test_a_picture_is_made_and_all_is_said_of_it(page: Any, slow_desk: SlowDesk) -> None:
    prompt(page).fill("a <b>red</b> sun")
    field(page, "request.batch_count").fill("3")
    field(page, "request.steps").fill("7")
    act(page, "generate").click()
    expect(page.locator("#panel-txt2img hayate-gallery .thumb")).to_have_count(3)
    expect(part(page, "infotext")).to_contain_text("a <b>red</b> sun")
    expect(part(page, "infotext")).to_contain_text("Steps: 7")
    expect(part(page, "time")).to_contain_text("Time taken:")
    expect(part(page, "why").locator("tbody")).to_contain_text("640 calls")
    image = page.locator("#panel-txt2img hayate-gallery .main img")
    expect(image).to_have_js_property("naturalWidth", 512)
    page.reload()
    expect(part(page, "infotext")).to_contain_text("a <b>red</b> sun")
    body = newest(slow_desk).body
    assert body["request"] == {
        "prompt": "a <b>red</b> sun",
        "negative_prompt": "",
        "steps": 7,
        "batch_count": 3,
        "seed": -1,
        "styles": [],
    }
    assert "asked" not in body


def test_progress_and_previews_are_seen_while_it_is_made(page: Any, slow_desk: SlowDesk) -> None:
    slow_desk.hold()
    prompt(page).fill("a lake")
    act(page, "generate").click()
    expect(part(page, "progress")).to_contain_text("sampling · 1/4")
    expect(part(page, "progress")).to_contain_text("it/s")
    expect(part(page, "preview")).to_have_js_property("naturalWidth", 64)
    assert re.match(r"\[25%\]", page.title())
    expect(act(page, "interrupt")).to_be_enabled()
    slow_desk.at_once()
    expect(part(page, "progress")).to_be_hidden()
    assert page.title() == "Hayate"


def test_what_is_asked_for_meanwhile_waits_its_turn(page: Any, slow_desk: SlowDesk) -> None:
    slow_desk.hold()
    prompt(page).fill("first")
    act(page, "generate").click()
    expect(part(page, "progress")).to_contain_text("sampling")
    prompt(page).fill("second")
    prompt(page).press("Control+Enter")
    expect(act(page, "generate")).to_contain_text("2 in the queue")
    expect(page.locator("#queue")).to_have_text("1 waiting")
    slow_desk.at_once()
    expect(part(page, "infotext")).to_contain_text("second")


@pytest.mark.parametrize("way", ["button", "Escape"])
def test_a_job_is_ended_by_the_button_and_by_escape(page: Any, slow_desk: SlowDesk, way: str) -> None:
    slow_desk.hold()
    prompt(page).fill("too long")
    act(page, "generate").click()
    expect(part(page, "progress")).to_contain_text("sampling")
    if way == "button":
        act(page, "interrupt").click()
    else:
        prompt(page).press("Escape")
    expect(part(page, "progress")).to_be_hidden()
    assert newest(slow_desk).state is State.CANCELLED
    expect(act(page, "interrupt")).to_be_disabled()


def test_a_picture_is_skipped(page: Any, slow_desk: SlowDesk) -> None:
    slow_desk.hold()
    before = slow_desk.skips
    act(page, "generate").click()
    expect(act(page, "skip")).to_be_enabled()
    act(page, "skip").click()
    page.wait_for_function("document.querySelector('#toasts').children.length === 0")
    slow_desk.at_once()
    expect(part(page, "progress")).to_be_hidden()
    assert slow_desk.skips == before + 1


def test_a_reload_finds_the_running_job_and_the_fields_again(page: Any, slow_desk: SlowDesk) -> None:
    slow_desk.hold()
    prompt(page).fill("kept")
    field(page, "request.cfg").fill("4.5")
    page.locator("[data-switch=hires]").first.check()
    field(page, "request.hires.scale").fill("1.5")
    act(page, "generate").click()
    expect(part(page, "progress")).to_contain_text("sampling")
    page.reload()
    expect(part(page, "progress")).to_contain_text("sampling")
    expect(prompt(page)).to_have_value("kept")
    expect(field(page, "request.cfg")).to_have_value("4.5")
    expect(field(page, "request.hires.scale")).to_have_value("1.5")
    expect(field(page, "request.hires.scale")).to_be_enabled()
    slow_desk.at_once()
    expect(part(page, "infotext")).to_contain_text("kept")
    assert newest(slow_desk).body["request"]["hires"]["scale"] == 1.5


def test_another_browser_finds_the_running_job_too(page: Any, chromium: Any, served: str, slow_desk: SlowDesk) -> None:
    slow_desk.hold()
    prompt(page).fill("elsewhere")
    act(page, "generate").click()
    expect(part(page, "progress")).to_contain_text("sampling")
    with chromium.new_context() as context:
        other = context.new_page()
        other.goto(served)
        expect(part(other, "progress")).to_contain_text("sampling")
        slow_desk.at_once()
        expect(part(other, "infotext")).to_contain_text("elsewhere")


def test_a_failure_is_shown_with_its_hint(page: Any, slow_desk: SlowDesk) -> None:
    prompt(page).fill("this fails")
    act(page, "generate").click()
    expect(page.locator(".toast.error")).to_contain_text("out of memory")
    expect(page.locator(".toast.error .hint")).to_have_text("take a smaller size")
    page.locator(".toast.error button").click()
    slow_desk.refusals.append(QueueFull("too many jobs wait", hint="later there is room"))
    act(page, "generate").click()
    expect(page.locator(".toast.error")).to_contain_text("later there is room")
    expect(part(page, "progress")).to_be_hidden()


def test_the_page_works_while_the_worker_still_starts(page: Any, slow_desk: SlowDesk) -> None:
    slow_desk.hold()
    slow_desk.state = WorkerState(phase=WorkerPhase.IMPORTING)
    page.reload()
    expect(page.locator("#worker")).to_have_text("torch is loading…")
    expect(page.locator("#txt2img-request-sampler option").nth(1)).to_have_text("DPM++ 2M")
    prompt(page).fill("early")
    act(page, "generate").click()
    slow_desk.state = WorkerState(phase=WorkerPhase.IDLE, facts=FACTS, model="built-in")
    slow_desk.at_once()
    expect(part(page, "infotext")).to_contain_text("early")
    expect(page.locator("#facts")).to_contain_text("torch 2.13.0")


def test_the_foot_of_the_page_has_every_worker(page: Any, slow_desk: SlowDesk) -> None:
    card = {**FACTS, "device": "RTX 3060"}
    slow_desk.state = WorkerState(phase=WorkerPhase.IDLE, device="cuda:0", facts=card, model="a")
    slow_desk.others = (
        WorkerState(phase=WorkerPhase.BUSY, device="cuda:1", facts=card, model="b", restarts=2),
        WorkerState(phase=WorkerPhase.IDLE, device="cpu", facts={**FACTS, "device": "CPU"}, model="a"),
    )
    try:
        page.reload()
        expect(page.locator("#worker")).to_have_text("cuda:0 ready · cuda:1 working · 2 restarts · cpu ready")
        assert page.locator("#worker").get_attribute("data-phase") == "busy"
        expect(page.locator("#facts")).to_contain_text("device 2 × RTX 3060, CPU")
        expect(page.locator("#facts")).to_contain_text("model a, b")
    finally:
        slow_desk.others = ()


def test_generating_goes_on_until_it_is_ended(page: Any, slow_desk: SlowDesk) -> None:
    before = len(slow_desk.jobs())
    act(page, "forever").click()
    act(page, "generate").click()
    while len(slow_desk.jobs()) < before + 3:
        page.wait_for_timeout(20)
    slow_desk.hold()
    expect(act(page, "interrupt")).to_be_enabled()
    act(page, "interrupt").click()
    expect(act(page, "forever")).to_have_attribute("aria-pressed", "false")
    slow_desk.at_once()
    expect(act(page, "interrupt")).to_be_disabled()
    assert not slow_desk.queued()


def test_a_server_that_is_away_for_a_moment_costs_no_job(page: Any, slow_desk: SlowDesk) -> None:
    slow_desk.hold()
    prompt(page).fill("patience")
    act(page, "generate").click()
    expect(part(page, "progress")).to_contain_text("sampling")
    job = newest(slow_desk).id
    page.route(f"**/v1/jobs/{job}", lambda route: route.abort())
    slow_desk.at_once()
    page.wait_for_timeout(300)
    expect(act(page, "interrupt")).to_be_enabled()
    page.unroute(f"**/v1/jobs/{job}")
    page.evaluate("""() => {
      for (const hidden of [true, false]) {
        Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
      }
    }""")
    expect(part(page, "infotext")).to_contain_text("patience")
