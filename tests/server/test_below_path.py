"""A server behind a proxy that has it below a path of its own, whether the proxy takes the path off or not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import expect
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from hayate.errors import UsageError
from hayate.server.app import create_app
from hayate.server.options import ServeOptions, parse_subpath
from hayate.server.ui.static_files import static_files
from hayate.settings import load_settings
from tests.server.browsing import TIMEOUT_MS, act, is_fault, part, prompt, ready
from tests.server.slow_desk import SlowDesk
from tests.server.stub_desk import StubDesk
from tests.server.tool_pages import served_app

DEEP = "/user/me/proxy/7860"
JOB = {"kind": "generate", "body": {"request": {"prompt": "a lake"}}}
TABS = (
    "img2img",
    "extras",
    "pnginfo",
    "merger",
    "models",
    "tune",
    "bench",
    "gallery",
    "settings",
    "extensions",
    "doctor",
)


class Proxy:
    """Has the server below `path`, which it takes off, and nothing elsewhere."""

    def __init__(self, app: ASGIApp, path: str) -> None:
        self.app, self.path = app, path
        self.missed: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if not scope["path"].startswith(f"{self.path}/"):
                self.missed.append(scope["path"])
                await PlainTextResponse("somebody else's", 404)(scope, receive, send)
                return
            scope = {**scope, "path": scope["path"][len(self.path) :], "raw_path": scope["raw_path"][len(self.path) :]}
        await self.app(scope, receive, send)


@pytest.fixture
def caller(tmp_path: Path) -> Iterator[TestClient]:
    """Of a server that was told its path, behind a proxy that leaves it."""
    settings = load_settings({"data_dir": tmp_path, "outputs_dir": tmp_path / "out"}, environment={})
    app = create_app(StubDesk(tmp_path), settings, ServeOptions(subpath="/sd"))
    with TestClient(app, base_url="http://localhost", follow_redirects=False) as client:
        yield client


def test_everything_is_below_the_path_and_without_it(caller: TestClient) -> None:
    for begin in ("", "/sd"):
        assert "<title>" in caller.get(f"{begin}/").text
        assert caller.get(f"{begin}/static/page.css").status_code == 200
        assert caller.get(f"{begin}/healthz").json()["name"] == "hayate"
        job = caller.post(f"{begin}/v1/jobs", json=JOB)
        assert job.headers["Location"] == f"/sd/v1/jobs/{job.json()['id']}"
        assert caller.get(job.headers["Location"]).json()["id"] == job.json()["id"]
        assert caller.get(f"{begin}/sdapi/v1/samplers").status_code == 200
    assert caller.get("/sdapi/v1/samplers").status_code == 200  # begins with the path, and is not below it
    assert caller.get("/sd/sd/healthz").status_code == 404


def test_without_its_slash_the_path_leads_to_the_page(caller: TestClient) -> None:
    answer = caller.get("/sd?__theme=dark")
    assert (answer.status_code, answer.headers["Location"]) == (307, "/sd/?__theme=dark")
    assert "Content-Security-Policy" in answer.headers


def test_what_calls_the_api_by_its_document_finds_it(caller: TestClient) -> None:
    assert caller.get("/sd/openapi.json").json()["servers"] == [{"url": "/sd"}]
    assert 'url: "openapi.json"' in caller.get("/sd/docs/start.js").text


def test_a_stranger_is_refused_there_too(caller: TestClient) -> None:
    assert caller.get("/sd/v1/jobs", headers={"Host": "evil.example"}).status_code == 403
    assert caller.post("/sd/v1/jobs", json=JOB, headers={"Origin": "https://evil.example"}).status_code == 403


@given(st.lists(st.from_regex(r"[A-Za-z0-9_~-]{1,8}", fullmatch=True), min_size=1, max_size=3))
def test_a_path_is_the_same_however_it_is_written(parts: list[str]) -> None:
    plain = "/".join(parts)
    assert parse_subpath(plain) == parse_subpath(f"/{plain}") == parse_subpath(f"/{plain}/") == f"/{plain}"


@pytest.mark.parametrize(
    "text", ["", "/", "a b", "a//b", "..", "a/../b", "ä", "a?b", "a%2fb", "a\nb", "https://a.example"]
)
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no path"):
        parse_subpath(text)


def test_every_address_of_the_page_begins_where_the_page_is(caller: TestClient) -> None:
    """In scripts `call` and `at` see to that; tags just leave the slash out."""
    for name, file in static_files().items():
        if name.endswith(".js"):
            text = file.content.decode()
            bare = re.findall(r"(?<!call\()(?<!at\()[\"'`]/(?:v1|ui|sdapi|internal|static|docs)\b[^\"'`]*", text)
            assert not bare, name
    for path in ("/", "/docs"):
        assert not re.findall(r"(?:href|src)=\"/[^\"]*", caller.get(path).text)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlowDesk]:
    folder = tmp_path_factory.mktemp("below")
    settings = load_settings({key: folder / key for key in ("data_dir", "outputs_dir", "models_dir")}, environment={})
    made = SlowDesk(settings)
    made.start()
    yield made
    made.is_closed = True


def is_missing(answer: Any) -> bool:
    """A preview may be gone before it is asked for, as the job is."""
    return answer.status == 404 and "/preview?" not in answer.url


@pytest.mark.parametrize(("begin", "options"), [(DEEP, ServeOptions()), ("/sd", ServeOptions(subpath="/sd"))])
def test_the_page_works_and_asks_for_nothing_elsewhere(
    chromium: Any, desk: SlowDesk, begin: str, options: ServeOptions
) -> None:
    app = create_app(desk, desk.settings, options)
    behind = Proxy(app, begin)
    with contextmanager(served_app)(app if options.subpath else behind) as address:
        context = chromium.new_context(viewport={"width": 1400, "height": 900}, locale="en-US")
        page = context.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        faults: list[str] = []
        own = (f"{address}{begin}/", "blob:", "data:")
        page.on("pageerror", lambda error: faults.append(f"script: {error}"))
        page.on("console", lambda line: faults.append(line.text) if is_fault(line) else None)
        page.on("request", lambda sent: None if sent.url.startswith(own) else faults.append(sent.url))
        page.on("response", lambda got: faults.append(got.url) if is_missing(got) else None)
        page.goto(f"{address}{begin}/")
        ready(page)
        prompt(page).fill("a lake")
        act(page, "generate").click()
        expect(part(page, "infotext")).to_contain_text("a lake")
        shown = page.locator("#panel-txt2img hayate-gallery img").first
        expect(shown).to_have_js_property("complete", True)
        assert shown.evaluate("image => image.naturalWidth") > 0
        for tab in TABS:
            ready(page, tab)
        page.goto(f"{address}{begin}/docs")
        page.locator(".opblock-summary").first.wait_for()
        context.close()
        assert faults == behind.missed == []
