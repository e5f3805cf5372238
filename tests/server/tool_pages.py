"""A browser before the tool tabs: a server in a thread, a desk that plays the worker, a page that tells its faults."""

from __future__ import annotations

import importlib.util
import os
import pickle
import shutil
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from starlette.types import ASGIApp

from hayate.jobs.records import NewJob, Result, State
from hayate.server.app import create_app
from hayate.server.doctor_desk import DoctorDesk
from hayate.settings import KEYS, Settings, load_settings
from tests.server.doctor_practice import SheetPractice
from tests.server.tool_desk import ToolDesk
from tests.server.tool_routes import merged_file

HAS_PLAYWRIGHT = importlib.util.find_spec("playwright") is not None
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None or not HAS_PLAYWRIGHT, reason="there is no chromium, or no playwright"
)
TIMEOUT_MS = 10_000


@pytest.fixture(scope="module")
def tool_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("tools")
    found = replace(
        load_settings(environment={"HOME": str(folder)}),
        **{key: folder / key for key, each in KEYS.items() if each.kind == "path"},
    )
    for name in ("anime.safetensors", "photo.safetensors", "sub/base.safetensors"):
        merged_file(found.models_dir / name, {"sd_merge_recipe": '{"expression": "merge(x, y, 0.5)"}'})
    (found.models_dir / "old.ckpt").write_bytes(pickle.dumps(os.system))
    return found


@pytest.fixture(scope="module")
def tool_desk(tool_settings: Settings) -> ToolDesk:
    desk = ToolDesk(tool_settings)
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
def tool_address(tool_desk: ToolDesk, tool_settings: Settings) -> Iterator[str]:
    """Where the page is."""
    app = create_app(tool_desk, tool_settings)
    app.state.doctor = DoctorDesk(tool_settings.data_dir, SheetPractice())
    yield from served_app(app)


def served_app(app: ASGIApp) -> Iterator[str]:
    """Where an application answers, until the test is over."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on"))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as runner:
        opened = runner.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def tool_page(chromium: Any, tool_address: str) -> Iterator[Any]:
    """A fresh browser's page, which fails the test where a script fails or anything leaves the host."""
    context = chromium.new_context(viewport={"width": 1400, "height": 900}, locale="en-US", base_url=tool_address)
    opened = context.new_page()
    opened.set_default_timeout(TIMEOUT_MS)
    faults: list[str] = []
    opened.on("pageerror", lambda error: faults.append(f"script: {error}"))
    opened.on("console", lambda line: faults.append(line.text) if _is_fault(line) else None)
    own = (tool_address, "blob:", "data:")
    opened.on("request", lambda sent: None if sent.url.startswith(own) else faults.append(sent.url))
    yield opened
    context.close()
    assert not faults


def _is_fault(line: Any) -> bool:
    """Refusals of requests are the page's to show; everything else on the console is a fault."""
    return line.type == "error" and "Failed to load resource" not in line.text


def opened(page: Any, tab: str) -> Any:
    """The tab's panel."""
    page.goto(f"/#{tab}")
    panel = page.locator(f"#panel-{tab}")
    page.locator(f"#panel-{tab}[data-ready]").wait_for(state="visible")  # its script is there, and hears what is typed
    return panel


def picture_file(folder: Path, name: str, text: str = "") -> Path:
    info = PngInfo()
    if text:
        info.add_text("parameters", text)
    path = folder / name
    Image.new("RGB", (64, 48), "teal").save(path, pnginfo=info)
    return path


def expect(what: Any) -> Any:
    """Assertions that wait."""
    from playwright.sync_api import expect as expectation

    return expectation(what)
