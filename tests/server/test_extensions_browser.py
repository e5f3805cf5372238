"""The page with extensions: their tab, their switches, and their fields beside those of pictures."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from hayate.extensions.state import StateFile
from hayate.server.app import create_app
from hayate.server.options import ServeOptions
from hayate.settings import load_settings
from tests.extensions.folders import session_in, write_extension
from tests.server.browsing import act, field, part, prompt, ready, wait_until
from tests.server.slow_desk import SlowDesk
from tests.server.tool_pages import needs_chromium

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
pytestmark = needs_chromium
FIELDS = """
[[controls]]
script = "Twice"
key = "strength"
kind = "slider"
default = 0.25
low = 0
high = 1
label = { en = "Its strength", ja = "強さ" }

[[controls]]
script = "Else"
key = "strength"
kind = "slider"
default = 0.75
low = 0
high = 1
"""
DETAILER = Path(__file__).parents[2] / "examples" / "detailer"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlowDesk]:
    """A desk, beside a folder with the detailer, one that is broken and one that is A1111's."""
    place = tmp_path_factory.mktemp("page")
    folder = place / "extensions"
    shutil.copytree(DETAILER, folder / "detailer")
    (write_extension(folder, "broken") / "extension.toml").write_text("name = ")
    write_extension(folder, "scripted", "", {"scripts": {"Twice": "Twice", "Else": "Else"}}, more=FIELDS)
    (folder / "sd-webui-thing" / "scripts").mkdir(parents=True)
    keys = ("models_dir", "vae_dir", "lora_dir", "embeddings_dir", "upscalers_dir", "outputs_dir", "data_dir")
    places = {**{key: place / key for key in keys}, "styles_file": place / "styles.csv", "extensions_dir": folder}
    made = SlowDesk(load_settings(places, environment={}))
    made.start()
    with session_in(folder, made.settings.data_dir):
        yield made


@pytest.fixture(scope="module")
def address(desk: SlowDesk) -> Iterator[str]:
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    app = create_app(desk, desk.settings, ServeOptions(port=port))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{port}"
    desk.is_closed = True
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def opened(chromium: Any, address: str) -> Iterator[Any]:
    page = chromium.new_context(viewport={"width": 1400, "height": 900}).new_page()
    page.goto(address)
    yield page
    page.context.close()


def test_all_are_listed_with_what_is_wrong(opened: Any) -> None:
    ready(opened, "extensions")
    rows = part(opened, "list", "extensions").locator("tbody tr")
    expect(rows.filter(has_text="detailer 1.0.0")).to_contain_text("pictures: detailer")
    expect(rows.filter(has_text="broken")).to_contain_text("is not TOML")
    expect(rows.filter(has_text="sd-webui-thing")).to_contain_text("not run here")
    expect(rows.filter(has_text="loopback")).to_contain_text("built in")


def test_one_is_switched_off_and_its_panel_goes(opened: Any, desk: SlowDesk) -> None:
    panel = opened.locator("#panel-txt2img [data-group='extension-detailer']")
    expect(panel).to_have_count(1)
    ready(opened, "extensions")
    opened.get_by_role("switch", name="detailer is on").click()
    expect(opened.get_by_role("switch", name="detailer is on")).not_to_be_checked()
    state = StateFile(desk.settings.data_dir)
    wait_until(opened, lambda: state.read().disabled == {"detailer"})  # the switch moves before the server has answered
    opened.reload()
    expect(panel).to_have_count(0)
    ready(opened, "extensions")
    opened.get_by_role("switch", name="detailer is on").click()
    expect(opened.get_by_role("switch", name="detailer is on")).to_be_checked()
    wait_until(opened, lambda: not state.read().disabled)


def test_what_the_fields_say_is_sent_only_when_the_panel_is_on(opened: Any, desk: SlowDesk) -> None:
    prompt(opened).fill("a face")
    act(opened, "generate").click()
    expect(part(opened, "about")).to_be_visible()
    opened.locator("#panel-txt2img [data-switch='extension-detailer']").check()
    field(opened, "request.extensions.detailer.denoising").fill("0.55")
    field(opened, "request.extensions.detailer.prompt").fill("a sharp face")
    act(opened, "generate").click()
    opened.wait_for_function("document.querySelector('#panel-txt2img [data-act=generate] .count').textContent === ''")
    bodies = [job.body["request"] for job in desk.jobs(limit=2)]
    sent = next(body["extensions"] for body in bodies if "extensions" in body)
    assert (sent["detailer"]["denoising"], sent["detailer"]["prompt"]) == (0.55, "a sharp face")
    assert sum("extensions" in body for body in bodies) == 1


def test_a_script_shows_its_fields_and_sends_them(opened: Any, desk: SlowDesk) -> None:
    ready(opened)
    mine, other = (field(opened, f"script.lent.scripted-{number}.strength") for number in (0, 1))
    expect(mine).to_be_hidden()
    prompt(opened).fill("a script")
    field(opened, "script.name").select_option("Twice")
    expect(mine).to_be_visible()
    expect(other).to_be_hidden()
    expect(opened.locator("#panel-txt2img").get_by_label("Its strength")).to_have_value("0.25")
    mine.fill("0.5")
    act(opened, "generate").click()
    wait_until(opened, lambda: any(job.body["request"]["prompt"] == "a script" for job in desk.jobs(limit=9)))
    (job,) = [job for job in desk.jobs(limit=9) if job.body["request"]["prompt"] == "a script"]
    assert job.body["script"] == {"name": "Twice", "strength": 0.5}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(opened: Any, theme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    # Chosen before the page is there: while it is, colours pass into each other for a moment.
    opened.context.add_cookies([{"name": "hayate_theme", "value": theme, "url": opened.url}])
    opened.reload()
    opened.locator("#panel-txt2img [data-group='extension-detailer'] details").evaluate("each => each.open = true")
    field(opened, "script.name").select_option("Twice")
    for tab in ("txt2img", "extensions"):
        ready(opened, tab)
        if tab == "extensions":
            part(opened, "list", "extensions").locator("tbody tr").first.wait_for()
        found = axe.Axe().run(opened).response["violations"]
        assert [
            (each["id"], [node["html"][:160] for node in each["nodes"]])
            for each in found
            if each["impact"] in ("serious", "critical")
        ] == []
