"""A browser before the picture tabs: a server in a thread, over a desk that takes its time."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from hayate.server.app import create_app
from hayate.server.options import ServeOptions
from hayate.settings import load_settings
from tests.server.browsing import TIMEOUT_MS, is_fault, ready
from tests.server.slow_desk import SlowDesk

KEYS = ("models_dir", "vae_dir", "lora_dir", "embeddings_dir", "upscalers_dir", "outputs_dir", "data_dir")


@pytest.fixture(scope="module")
def slow_desk(tmp_path_factory: pytest.TempPathFactory) -> SlowDesk:
    folder = tmp_path_factory.mktemp("page")
    settings = load_settings(
        {**{key: folder / key for key in KEYS}, "styles_file": folder / "styles.csv"}, environment={}
    )
    settings.lora_dir.mkdir()
    (settings.lora_dir / "ink.safetensors").write_bytes(b"")
    made = SlowDesk(settings)
    made.start()
    return made


@pytest.fixture(scope="module")
def served(slow_desk: SlowDesk) -> Iterator[str]:
    """The address of the page."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    app = create_app(slow_desk, slow_desk.settings, ServeOptions(port=port))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{port}"
    slow_desk.is_closed = True
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def page(chromium: Any, served: str, slow_desk: SlowDesk) -> Iterator[Any]:
    """A fresh browser's page; the test fails where a script does, or where a request leaves the host."""
    slow_desk.at_once()
    context = chromium.new_context(viewport={"width": 1400, "height": 900}, locale="en-US")
    opened = context.new_page()
    opened.set_default_timeout(TIMEOUT_MS)
    faults: list[str] = []
    opened.on("pageerror", lambda error: faults.append(f"script: {error}"))
    opened.on("console", lambda line: faults.append(line.text) if is_fault(line) else None)
    opened.on(
        "request", lambda sent: None if sent.url.startswith((served, "blob:", "data:")) else faults.append(sent.url)
    )
    opened.goto(served)
    ready(opened)
    yield opened
    context.close()
    slow_desk.at_once()
    assert not faults
