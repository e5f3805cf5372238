"""Extensions over HTTP: listed and switched, their routes behind the server's guards, their controls on the page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from hayate.errors import UsageError
from hayate.jobs.bodies import read_body
from hayate.request import TextToImage
from hayate.server.a1111.always_on import asked_extensions
from hayate.server.a1111.requests import TextToImageRequest
from hayate.server.a1111.scripts import plan_script
from hayate.server.app import create_app
from hayate.settings import Settings, load_settings
from tests.extensions.folders import session_in, write_extension
from tests.server.stub_desk import StubDesk

ROUTES = """
from fastapi import FastAPI
app = FastAPI()

@app.get("/hello/{name}")
def hello(name: str):
    print("a line for the log")
    return {"hello": name}

@app.get("/broken")
def broken():
    raise ZeroDivisionError("no answer")
"""
CONTROLS = """
[[controls]]
key = "strength"
kind = "slider"
default = 0.5
low = 0
high = 1
step = 0.01
label = { en = "Its strength", ja = "強さ" }
help = { en = "How <much>.", ja = "どの程度か。" }
"""
HOOKS = {"prompts": {"it": "act"}}
FIELDS = """
[[controls]]
script = "Twice"
key = "strength"
kind = "slider"
default = 0.25
low = 0
high = 1
label = { en = "Its other strength", ja = "別の強さ" }

[[controls]]
script = "Twice"
key = "side"
kind = "choice"
default = "left"
choices = ["left", "right"]

[[controls]]
script = "Larger"
key = "strength"
kind = "switch"
default = false
"""
SCRIPTED = {"scripts": {"Twice": "Twice", "Larger": "Larger"}, "samplers": {"Mine": "X"}, "schedules": {"Even": "Y"}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "extensions"
    write_extension(folder, "answers", ROUTES, {"routes": {"api": "app"}})
    write_extension(folder, "asks", "act = 1", HOOKS, more=CONTROLS)
    write_extension(folder, "hangs", "import time; time.sleep(20)", {"routes": {"api": "app"}})
    write_extension(folder, "raises", "raise ValueError('no luck')", {"routes": {"api": "app"}})
    scripted = write_extension(folder, "scripted", "raise ValueError('it was run')", SCRIPTED, more=FIELDS)
    manifest = scripted / "extension.toml"
    manifest.write_text('needs_picture = ["Larger"]\n' + manifest.read_text("utf-8"), "utf-8")
    (folder / "for-a1111" / "scripts").mkdir(parents=True)
    return folder


@pytest.fixture
def settings(tmp_path: Path, folder: Path) -> Settings:
    places = {"data_dir": tmp_path / "data", "outputs_dir": tmp_path / "outputs", "extensions_dir": folder}
    return load_settings(places, environment={})


@pytest.fixture
def caller(settings: Settings, folder: Path) -> Iterator[TestClient]:
    desk = StubDesk(settings.data_dir / "server", room=10)
    desk.start()
    app = create_app(desk, settings)
    with session_in(folder, settings.data_dir, limit_s=0.3), TestClient(app, base_url="http://localhost") as opened:
        yield opened


def listed(caller: TestClient) -> dict[str, dict[str, object]]:
    return {each["name"]: each for each in caller.get("/v1/extensions").json()}


def test_all_are_listed_and_none_is_imported(caller: TestClient) -> None:
    rows = listed(caller)
    assert rows["asks"]["hooks"] == ["prompts: it"]
    assert (rows["loopback"]["origin"], rows["loopback"]["state"]) == ("built in", "on")
    assert (rows["for-a1111"]["state"], "not run" in str(rows["for-a1111"]["problem"])) == ("unusable", True)
    assert all(row["import_s"] == 0 for row in rows.values())


def checked(extensions: dict[str, object], settings: Settings) -> None:
    """As every job is, before it is queued."""
    body = read_body("generate", {"request": {"prompt": "a", "extensions": extensions}})
    body.check(settings, settings.data_dir)


def test_one_is_switched_off_and_on(caller: TestClient, settings: Settings) -> None:
    answer = caller.patch("/v1/extensions/asks", json={"is_on": False})
    assert (answer.status_code, answer.json()["state"]) == (200, "off")
    assert listed(caller)["asks"]["state"] == "off"
    with pytest.raises(UsageError, match="switched off"):
        checked({"asks": {"strength": 1}}, settings)
    caller.patch("/v1/extensions/asks", json={"is_on": True})
    checked({"asks": {"strength": 1}}, settings)


def test_an_unknown_one_gets_the_nearest(caller: TestClient) -> None:
    answer = caller.patch("/v1/extensions/ask", json={"is_on": False})
    assert (answer.status_code, answer.json()["hint"].startswith("nearest: asks")) == (422, True)


@pytest.mark.usefixtures("caller")
@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"asks": {"strength": 2}}, "asks: strength: 2 can't be"),
        ({"asks": {"strenth": 1}}, "nearest: strength"),
        ({"ask": {}}, "nearest: asks"),
        ({"asks": 1}, "is no object"),
        ({"answers": {}}, "nothing to do with single jobs"),
        ({"for-a1111": {}}, "not run here"),
    ],
)
def test_what_a_job_says_to_one_is_checked(said: dict[str, object], why: str, settings: Settings) -> None:
    with pytest.raises(UsageError, match=why):
        checked(said, settings)


def test_routes_answer_under_the_extensions_name(caller: TestClient, capfd: pytest.CaptureFixture[str]) -> None:
    answer = caller.get("/extensions/answers/hello/world")
    assert (answer.status_code, answer.json()) == (200, {"hello": "world"})
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "a line for the log" in capfd.readouterr().out  # a route is a thread of the server's


@pytest.mark.parametrize("path", ["nothing/x", "", "asks/x", "../v1/jobs", "for-a1111/scripts"])
def test_there_is_no_route_where_no_extension_has_one(caller: TestClient, path: str) -> None:
    assert caller.get(f"/extensions/{path}").status_code in (404, 405, 200 if path.startswith("..") else 404)


@pytest.mark.parametrize(("name", "why"), [("raises", "no luck"), ("hangs", "longer than")])
def test_one_that_can_not_be_imported_is_answered_for(caller: TestClient, name: str, why: str) -> None:
    answer = caller.get(f"/extensions/{name}/x")
    assert (answer.status_code, why in answer.json()["message"]) == (503, True)
    assert why in str(listed(caller)[name]["problem"])
    assert caller.get(f"/extensions/{name}/x").status_code == 404
    assert caller.get("/extensions/answers/hello/still").status_code == 200


def test_one_that_fails_in_a_route_is_left_out(caller: TestClient) -> None:
    assert caller.get("/extensions/answers/broken").status_code == 500
    assert "ZeroDivisionError" in str(listed(caller)["answers"]["problem"])
    assert caller.get("/extensions/answers/hello/x").status_code == 404


def test_routes_are_behind_the_guards(caller: TestClient) -> None:
    refused = caller.get("/extensions/answers/hello/x", headers={"Host": "evil.example"})
    assert refused.status_code in (400, 403, 421)
    refused = caller.post("/extensions/answers/hello/x", headers={"Origin": "https://evil.example"}, json={})
    assert refused.status_code == 403


@pytest.mark.parametrize(("language", "label"), [("en", "Its strength"), ("ja", "強さ")])
def test_controls_are_on_the_page_in_its_language(caller: TestClient, language: str, label: str) -> None:
    page = caller.get("/", headers={"Accept-Language": language}).text
    assert len(re.findall('data-key="request.extensions.asks.strength"', page)) == 2
    assert label in page
    assert "How <much>" not in page
    caller.patch("/v1/extensions/asks", json={"is_on": False})
    assert "request.extensions.asks" not in caller.get("/", headers={"Accept-Language": language}).text


def test_scripts_on_the_page_are_those_that_act(caller: TestClient) -> None:
    def scripts(tab: str = "txt2img") -> set[str]:
        page = caller.get("/").text
        choice = page[page.index(f'id="{tab}-script-name"') :]
        return set(re.findall('<option value="([^"]+)"', choice[: choice.index("</select>")]))

    assert scripts() == {"x/y/z plot", "prompt matrix", "prompts from file", "Twice"}
    assert {"loopback", "Twice", "Larger"} < scripts("img2img")
    caller.patch("/v1/extensions/prompt-matrix", json={"is_on": False})
    caller.patch("/v1/extensions/scripted", json={"is_on": False})
    assert scripts() == {"x/y/z plot", "prompts from file"}


@pytest.mark.parametrize(("language", "label"), [("en", "Its other strength"), ("ja", "別の強さ")])
def test_a_scripts_fields_are_there_while_it_is_chosen(caller: TestClient, language: str, label: str) -> None:
    page = caller.get("/", headers={"Accept-Language": language}).text
    shown = re.findall('data-when="script.name" data-is="Twice" hidden', page)
    assert (len(shown), len(re.findall(r'data-key="script\.lent\.scripted-0\.strength"', page))) == (4, 2)
    assert len(re.findall(r'data-key="script\.lent\.scripted-1\.strength"', page)) == 1
    assert label in page
    assert listed(caller)["scripted"]["import_s"] == 0


def test_a1111_s_scripts_are_listed_with_those_of_extensions(caller: TestClient) -> None:
    scripts = caller.get("/sdapi/v1/scripts").json()
    assert (scripts["txt2img"][-1], scripts["img2img"][-2:]) == ("twice", ["twice", "larger"])
    info = [each for each in caller.get("/sdapi/v1/script-info").json() if each["name"] in ("twice", "larger")]
    tabs = [(each["name"], each["is_img2img"]) for each in info]
    assert tabs == [("twice", False), ("twice", True), ("larger", True)]
    first, second = info[0]["args"]
    assert first == {
        "label": "Its other strength", "value": 0.25, "minimum": 0, "maximum": 1, "step": None, "choices": None
    }  # fmt: skip
    assert (second["label"], second["value"], second["choices"]) == ("side", "left", ["left", "right"])
    caller.patch("/v1/extensions/scripted", json={"is_on": False})
    caller.patch("/v1/extensions/outpainting", json={"is_on": False})
    names = caller.get("/sdapi/v1/scripts").json()["img2img"]
    assert not {"twice", "larger", "outpainting mk2", "poor man's outpainting"} & set(names)
    assert listed(caller)["scripted"]["import_s"] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], {}),
        ([0.5], {"strength": 0.5}),
        ([0.5, "right"], {"strength": 0.5, "side": "right"}),
        ([{"side": "right"}], {"side": "right"}),
    ],
)
@pytest.mark.usefixtures("caller")
def test_a1111_s_script_args_are_a_scripts_fields(arguments: list[object], said: dict[str, object]) -> None:
    planned = plan_script("TWICE", arguments, TextToImage(prompt="a"), None)  # pyright: ignore[reportArgumentType]
    assert planned is not None
    assert planned.body == {"name": "Twice", **said}


@pytest.mark.parametrize(
    ("name", "arguments", "why"),
    [
        ("twise", [], "twice"),
        ("larger", [], "script 'larger'"),
        ("twice", [2], "strength: 2 can't be"),
        ("twice", [0.5, "rigt"], "right"),
        ("twice", [0.5, "right", 3], "3 arguments for 'Twice', which has 2 fields"),
        ("twice", [{"strenth": 1}], "strength"),
    ],
)
def test_a1111_s_callers_are_told_what_a_script_can_not_be_given(
    caller: TestClient, name: str, arguments: list[object], why: str
) -> None:
    def call() -> None:
        planned = plan_script(name, arguments, TextToImage(prompt="a"), None)  # pyright: ignore[reportArgumentType]
        read_body("generate", {"request": {"prompt": "a"}, "script": planned and planned.body})

    with pytest.raises(UsageError, match=why):
        call()
    assert listed(caller)["scripted"]["import_s"] == 0


@pytest.mark.usefixtures("caller")
def test_a1111_s_always_on_scripts_may_be_ours() -> None:
    def sent(arguments: object) -> object:
        return asked_extensions(TextToImageRequest(alwayson_scripts={"Asks": {"args": arguments}}))

    assert sent([{"strength": 0.25}]) == {"asks": {"strength": 0.25}}
    assert sent([True, {"strength": 0.25}]) == {"asks": {"strength": 0.25}}
    assert sent([0.25]) == {"asks": {"strength": 0.25}}
    assert sent([False, {"strength": 0.25}]) == {}


def test_a1111_s_list_has_those_of_others(caller: TestClient) -> None:
    rows = {each["name"]: each for each in caller.get("/sdapi/v1/extensions").json()}
    assert rows["asks"]["enabled"] is True
    assert rows["for-a1111"]["enabled"] is False
    assert "loopback" not in rows
    assert "asks" in caller.get("/internal/sysinfo").text


def test_a1111_s_lists_have_samplers_and_schedules_of_extensions(caller: TestClient) -> None:
    assert caller.get("/sdapi/v1/samplers").json()[-1] == {"name": "Mine", "aliases": [], "options": {}}
    assert caller.get("/sdapi/v1/schedulers").json()[-1]["label"] == "Even"
    assert listed(caller)["scripted"]["import_s"] == 0
