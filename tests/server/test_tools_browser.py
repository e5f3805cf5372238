"""The tool tabs in a browser, as people use them: by buttons, keys and files."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from hayate.jobs.records import NewJob, Result, State
from hayate.server.app import create_app
from hayate.server.ui.setting_controls import PATHS
from hayate.settings import Settings, load_settings
from tests.server.test_ui_tools import merged_file
from tests.server.tool_desk import INFOTEXT, ToolDesk

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")
TIMEOUT_MS = 10_000


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("tools")
    found = replace(load_settings(environment={"HOME": str(folder)}), **{key: folder / key for key in PATHS})
    for name in ("anime.safetensors", "photo.safetensors", "sub/base.safetensors"):
        merged_file(found.models_dir / name, {"sd_merge_recipe": '{"expression": "merge(x, y, 0.5)"}'})
    return found


@pytest.fixture(scope="module")
def desk(settings: Settings) -> ToolDesk:
    desk = ToolDesk(settings)
    desk.start()
    pictures = tuple(desk.picture(f"{seed}.png", seed, color) for seed, color in ((11, "navy"), (22, "crimson")))
    record = desk.records["old"] = replace(
        desk._record(NewJob(kind="generate", body={}, client="page")),
        id="old",
        state=State.DONE,
        result=Result(pictures=(*pictures, desk.picture("33.png", 33, "gold", is_saved=False))),
    )
    assert record.result is not None
    return desk


@pytest.fixture(scope="module")
def address(desk: ToolDesk, settings: Settings) -> Iterator[str]:
    app = create_app(desk, settings)
    yield from _served(app)


def _served(app: FastAPI) -> Iterator[str]:
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on"))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as runner:
        opened = runner.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """A fresh browser's page, which fails the test where a script fails or anything leaves the host."""
    context = browser.new_context(viewport={"width": 1400, "height": 900}, locale="en-US")
    opened = context.new_page()
    opened.set_default_timeout(TIMEOUT_MS)
    faults: list[str] = []
    opened.on("pageerror", lambda error: faults.append(f"script: {error}"))
    opened.on("console", lambda line: faults.append(line.text) if _is_fault(line) else None)
    opened.on(
        "request", lambda sent: None if sent.url.startswith((address, "blob:", "data:")) else faults.append(sent.url)
    )
    yield opened
    context.close()
    assert not faults


def _is_fault(line: Any) -> bool:
    """Refusals of requests are the page's to show; everything else on the console is a fault."""
    return line.type == "error" and "Failed to load resource" not in line.text


def opened(page: Any, address: str, tab: str) -> Any:
    """The tab's panel."""
    page.goto(f"{address}/#{tab}")
    panel = page.locator(f"#panel-{tab}")
    panel.wait_for(state="visible")
    return panel


def picture_file(folder: Path, name: str, text: str = "") -> Path:
    info = PngInfo()
    if text:
        info.add_text("parameters", text)
    path = folder / name
    Image.new("RGB", (64, 48), "teal").save(path, pnginfo=info)
    return path


def expect(what: Any) -> Any:
    return playwright.expect(what)


def test_a_merge_is_described_used_without_a_file_and_written(page: Any, address: str, desk: ToolDesk) -> None:
    panel = opened(page, address, "merger")
    panel.get_by_label("Primary model (A)").select_option("anime.safetensors")
    expect(panel.locator("[data-part=problem]")).to_contain_text("model B is not chosen")
    panel.get_by_label("Secondary model (B)").select_option("sub/base.safetensors")
    recipe = panel.locator("[data-part=recipe]")
    expect(recipe).to_have_text("merge(anime.safetensors, sub/base.safetensors, 0.3)")
    panel.get_by_role("button", name="Use without a file").click()
    expect(page.get_by_label("Stable Diffusion checkpoint").first).to_have_value(recipe.text_content() or "")
    panel.get_by_role("button", name="Merge", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("no name")
    panel.get_by_label("Custom name").fill("mixed")
    panel.get_by_role("button", name="Merge", exact=True).click()
    expect(page.get_by_text("mixed.safetensors is written")).to_be_visible()
    expect(panel.get_by_text("B has no VAE")).to_be_visible()
    kind, body = desk.bodies[-1]
    assert kind == "merge"
    assert body == {"recipe": recipe.text_content(), "output_name": "mixed", "dtype": "fp16"}


def test_block_weights_are_sliders_presets_and_a_text(page: Any, address: str) -> None:
    panel = opened(page, address, "merger")
    panel.get_by_label("Primary model (A)").select_option("anime.safetensors")
    panel.get_by_label("Secondary model (B)").select_option("photo.safetensors")
    panel.get_by_role("switch", name="Block weights", exact=True).check()
    blocks = panel.locator("block-weights").first
    text = panel.locator('[data-key="merge.blocks_alpha"]')
    blocks.get_by_label("Preset").select_option("GRAD_V")
    expect(text).to_have_value("GRAD_V")
    expect(blocks.get_by_label("IN00")).to_have_value("1")
    blocks.get_by_label("M00").fill("0.25")
    assert text.input_value().split(",")[13] == "0.25"
    blocks.get_by_label("Name").fill("mine")
    blocks.get_by_role("button", name="Save").click()
    expect(blocks.get_by_label("Preset")).to_have_value("mine")
    blocks.get_by_label("Blocks").select_option("xl_blocks")
    assert len(text.input_value().split(",")) == 20
    text.fill(",".join(["0.5"] * 26))
    expect(blocks.get_by_label("OUT11")).to_have_value("0.5")
    expect(panel.locator("[data-part=recipe]")).to_contain_text('mbw="0.5,0.5')
    page.reload()
    expect(panel.locator("block-weights").first.get_by_label("OUT11")).to_have_value("0.5")


def test_a_method_shows_what_it_takes_and_failures_say_why(page: Any, address: str) -> None:
    panel = opened(page, address, "merger")
    method = panel.get_by_label("Interpolation method")
    expect(panel.get_by_label("Tertiary model (C)")).to_be_hidden()
    method.select_option("add_difference")
    expect(panel.get_by_label("Tertiary model (C)")).to_be_visible()
    panel.get_by_label("Calculation mode").select_option("extract")
    expect(panel.get_by_label("gamma")).to_be_visible()
    method.select_option("none")
    expect(panel.get_by_label("Multiplier (M, alpha)")).to_be_hidden()
    panel.get_by_label("Primary model (A)").select_option("anime.safetensors")
    panel.get_by_label("Custom name").fill("fails")
    panel.get_by_role("button", name="Merge", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("two families")
    expect(page.get_by_role("alert")).to_contain_text("choose others")
    panel.get_by_role("button", name="Recipe of a file").click()
    expect(panel.get_by_text("merge(x, y, 0.5)")).to_be_visible()


def test_tuning_is_watched_adopted_and_forgotten(page: Any, address: str, desk: ToolDesk) -> None:
    panel = opened(page, address, "tune")
    desk.holds.clear()
    panel.get_by_role("button", name="Start tuning").click()
    expect(panel.locator("tbody tr")).to_have_count(1)
    page.reload()
    expect(panel.get_by_role("button", name="Start tuning")).to_be_disabled()
    desk.holds.set()
    expect(panel.locator("tbody tr")).to_have_count(5)
    expect(panel.get_by_text("Winner: layers packed, 1.45×")).to_be_visible()
    expect(panel.locator(".trade .dot")).to_have_count(4)
    profiles = panel.locator(".profiles li")
    expect(profiles).to_contain_text("layers packed")
    adopt = panel.get_by_role("button", name="Adopt")
    expect(adopt).to_have_count(2)
    adopt.last.click()
    expect(profiles).to_contain_text("attention math")
    panel.get_by_role("button", name="Forget").click()
    expect(panel.get_by_text("Nothing has been tuned here yet.")).to_be_visible()


def test_tuning_can_be_stopped(page: Any, address: str, desk: ToolDesk) -> None:
    panel = opened(page, address, "tune")
    desk.holds.clear()
    panel.get_by_role("button", name="Start tuning").click()
    panel.get_by_role("button", name="Stop").click()
    expect(panel.get_by_role("button", name="Start tuning")).to_be_enabled()
    desk.holds.set()
    assert desk.jobs(kinds=("tune",), limit=1)[0].state is State.CANCELLED


def test_a_measurement_comes_into_the_history_and_the_report(page: Any, address: str) -> None:
    panel = opened(page, address, "bench")
    panel.get_by_label("Label").fill("mine")
    panel.get_by_role("button", name="Measure").click()
    expect(page.get_by_text("Measured: 52.60 it/s")).to_be_visible()
    row = panel.locator("tbody tr").first
    expect(row).to_contain_text("mine")
    row.get_by_role("checkbox").check()
    with page.context.expect_page() as popup:
        panel.get_by_role("link", name="Report page").click()
    popup.value.wait_for_load_state()
    expect(popup.value.get_by_role("heading", level=1)).to_be_visible()
    assert "number=" in popup.value.url


def test_many_pictures_are_enlarged(page: Any, address: str, desk: ToolDesk, tmp_path: Path) -> None:
    panel = opened(page, address, "extras")
    panel.get_by_role("button", name="Generate").click()
    expect(page.get_by_role("alert")).to_contain_text("no picture")
    files = [picture_file(tmp_path, f"{number}.png") for number in (1, 2)]
    Image.new("RGB", (32, 32)).save(files[1])
    panel.locator("input[type=file]").first.set_input_files(files)
    expect(panel.get_by_text("2 pictures")).to_be_visible()
    panel.get_by_label("Resize").select_option("size")
    panel.get_by_label("Width").fill("256")
    panel.get_by_label("Height").fill("256")
    panel.get_by_role("button", name="Generate").click()
    expect(panel.locator(".made img")).to_have_count(2)
    body = desk.bodies[-1][1]
    assert (body["width_px"], body["height_px"], body["is_cropped"], "scale" in body) == (256, 256, True, False)
    panel.get_by_role("button", name="Remove 1.png").click()
    expect(panel.get_by_text("1 pictures")).to_be_visible()


def test_a_pictures_words_are_shown_as_they_are(page: Any, address: str, tmp_path: Path) -> None:
    panel = opened(page, address, "pnginfo")
    text = INFOTEXT.format(7).replace("a red sun", "<img src=x onerror=alert(1)>")
    panel.locator("input[type=file]").set_input_files(picture_file(tmp_path, "a.png", text))
    expect(panel.locator("pre").first).to_have_text(text)
    expect(panel.get_by_role("row", name="Sampler")).to_contain_text("Euler a")
    expect(panel.get_by_role("button", name="Send to txt2img")).to_be_visible()
    panel.locator("input[type=file]").set_input_files(picture_file(tmp_path, "b.png"))
    expect(panel.get_by_text("does not say how it was made")).to_be_visible()
    assert panel.locator("img[src=x]").count() == 0


def test_the_gallery_finds_opens_and_walks_by_keys(page: Any, address: str) -> None:
    panel = opened(page, address, "gallery")
    panel.get_by_label("Open picture 11").click()
    viewer = page.get_by_role("dialog")
    expect(viewer.locator("pre")).to_contain_text("Seed: 11")
    page.keyboard.press("ArrowRight")
    expect(viewer.locator("pre")).to_contain_text("Seed: 22")
    page.keyboard.press("Escape")
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


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("tab", ["extras", "pnginfo", "merger", "tune", "bench", "gallery", "settings", "extensions"])
def test_no_serious_fault_of_accessibility(page: Any, address: str, tab: str, theme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    page.context.add_cookies([{"name": "hayate_theme", "value": theme, "url": address}])
    opened(page, address, tab)
    page.wait_for_timeout(300)
    found = axe.Axe().run(page)
    serious = [each for each in found.response["violations"] if each["impact"] in ("serious", "critical")]
    assert not [(each["id"], each["nodes"][0]["html"][:200]) for each in serious]
