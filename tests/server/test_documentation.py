"""/docs works without a network, under the policy that every answer carries."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from hayate.server import documentation
from hayate.server.app import create_app
from hayate.settings import load_settings
from tests.server.stub_desk import StubDesk
from tests.server.test_serving import Server

needs_swagger = pytest.mark.skipif(documentation.swagger_folder() is None, reason="fastapi-offline is not installed")


@pytest.fixture
def caller(tmp_path: Path) -> Iterator[TestClient]:
    desk = StubDesk(tmp_path)
    settings = load_settings({"data_dir": tmp_path}, environment={})
    with TestClient(create_app(desk, settings), base_url="http://localhost") as opened:
        yield opened


def test_the_document_has_both_apis_and_says_what_each_route_is(caller: TestClient) -> None:
    paths = caller.get("/openapi.json").json()["paths"]
    assert {"/v1/jobs", "/v1/jobs/{id}/events", "/healthz", "/metrics", "/sdapi/v1/txt2img"} <= set(paths)
    for path, methods in paths.items():
        for method, about in methods.items():
            assert about.get("summary"), (method, path)


@needs_swagger
def test_everything_the_page_loads_is_here(caller: TestClient) -> None:
    html = caller.get("/docs").text
    loaded = re.findall(r'(?:src|href)="([^"]+)"', html)
    assert len(loaded) == 4
    for path in loaded:
        if path == "data:,":
            continue
        assert path.startswith("docs/")
        assert caller.get(f"/{path}").status_code == 200
    assert "<script>" not in html
    assert "style=" not in html


@pytest.mark.parametrize("name", ["favicon.png", "..%2f__init__.py", "%2e%2e/core.py", "start.js.map"])
def test_no_other_file_is_given_away(caller: TestClient, name: str) -> None:
    assert caller.get(f"/docs/{name}").status_code == 404


def test_without_its_files_the_page_says_so(caller: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documentation, "PACKAGE", "no_such_package")
    assert "pip install fastapi-offline" in caller.get("/docs").text
    assert caller.get("/docs/swagger-ui.css").status_code == 404
    assert caller.get("/redoc").url.path == "/docs"


@needs_swagger
def test_a_browser_shows_it_and_asks_nobody_else(tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    server = Server(tmp_path).until_ready()
    try:
        with playwright.sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page()
            asked: list[str] = []
            faults: list[str] = []
            page.on("request", lambda request: asked.append(request.url))
            page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.goto(f"http://127.0.0.1:{server.port}/docs")
            page.locator("[id*=skip_v1_jobs]").first.click(timeout=15_000)
            page.get_by_role("button", name="Try it out").wait_for(timeout=15_000)
            assert all(url.startswith((f"http://127.0.0.1:{server.port}/", "data:")) for url in asked)
            assert faults == []
            browser.close()
    finally:
        server.end()
