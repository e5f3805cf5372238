"""/v1/doctor: one look for all, one fix at a time, strangers refused, and every fix can be taken back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from hayate.doctor.catalogue import CHECKS
from hayate.doctor.finding import Certainty, Job, Kind, Severity
from hayate.errors import EngineError
from hayate.extensions.state import StateFile
from hayate.server.app import create_app
from hayate.server.doctor_desk import DoctorDesk, HousePractice
from hayate.server.options import ServeOptions, parse_credentials
from hayate.server.preferences import Preferences
from hayate.server.ui.strings import STRINGS
from hayate.server.v1 import doctor as routes
from hayate.settings import load_settings
from tests.server.doctor_practice import FolderPractice, SheetPractice
from tests.server.stub_desk import StubDesk
from tests.server.tool_routes import merged_file

FP32 = "forced fp32 on a CPU"
SLOW = "slow extensions"


def opened(folder: Path, practice: SheetPractice, **options: Any) -> TestClient:
    desk = StubDesk(folder / "server")
    desk.start()
    settings = load_settings({"data_dir": folder, "models_dir": folder / "models"}, environment={})
    app = create_app(desk, settings, ServeOptions(**options))
    app.state.doctor = DoctorDesk(folder, practice, app.state.listings.refresh)
    return TestClient(app, base_url="http://localhost")


@pytest.fixture
def practice(tmp_path: Path) -> FolderPractice:
    file = tmp_path / "settings.toml"
    file.write_text('# mine\ndtype = "fp32"\n')
    return FolderPractice(file, tmp_path)


@pytest.fixture
def caller(tmp_path: Path, practice: FolderPractice) -> Iterator[TestClient]:
    with opened(tmp_path, practice) as client:
        yield client


def checks(answer: dict[str, Any]) -> set[str]:
    return {each["check"] for each in answer["findings"]}


def test_nothing_is_looked_at_before_somebody_asks(caller: TestClient, practice: FolderPractice) -> None:
    assert caller.get("/").status_code == 200
    assert practice.looks == 0
    found = caller.get("/v1/doctor").json()
    assert {FP32, SLOW} <= checks(found)
    assert checks(found) | set(found["fine"]) == {check.name for check in CHECKS}
    assert (found["done"], found["act"], found["refusal"]) == ([], None, "")
    caller.get("/v1/doctor")
    assert practice.looks == 1


def test_a_look_anew_sees_what_has_changed(caller: TestClient, practice: FolderPractice) -> None:
    assert FP32 in checks(caller.get("/v1/doctor").json())
    practice.settings_file.write_text("")
    assert FP32 in checks(caller.get("/v1/doctor").json())
    assert FP32 not in checks(caller.post("/v1/doctor/look", json={}).json())


def test_those_who_ask_at_once_share_one_look_and_hold_up_nobody(caller: TestClient, practice: FolderPractice) -> None:
    practice.may_look.clear()
    with ThreadPoolExecutor(max_workers=6) as pool:
        asked = [pool.submit(caller.post, "/v1/doctor/look", json={}) for _ in range(3)]
        asked += [pool.submit(caller.get, "/v1/doctor") for _ in range(3)]
        assert caller.get("/healthz").status_code == 200  # while all of them wait
        practice.may_look.set()
        assert [each.result().status_code for each in asked] == [200] * 6
    assert practice.looks <= 3  # one that came after the first had ended may be a second look


def test_a_look_that_fails_is_tried_again(caller: TestClient, practice: FolderPractice) -> None:
    practice.settings_file.write_text("stepz = 1")
    answer = caller.get("/v1/doctor")
    assert (answer.status_code, "stepz" in answer.json()["message"]) == (422, True)
    practice.settings_file.write_text("")
    assert caller.get("/v1/doctor").status_code == 200


def test_the_sheet_of_facts_can_be_taken_along(caller: TestClient, practice: FolderPractice) -> None:
    from hayate.doctor.sheet import read_sheet

    answer = caller.get("/v1/doctor/facts")
    assert "hayate-facts.json" in answer.headers["content-disposition"]
    kept = practice.settings_file.with_name("sheet.json")
    kept.write_bytes(answer.content)
    assert read_sheet(kept) == practice.gather()


def test_a_setting_is_written_and_taken_back(caller: TestClient, practice: FolderPractice) -> None:
    before = practice.settings_file.read_text()
    answer = caller.post("/v1/doctor/fixes", json={"check": FP32})
    assert answer.status_code == 200
    fixed = answer.json()
    assert practice.settings_file.read_text() == '# mine\ndtype = "auto"\n'
    assert FP32 not in checks(fixed)
    assert [(each["check"], each["is_done"]) for each in fixed["fixed"]] == [(FP32, True)]
    (done,) = fixed["done"]
    assert (done["check"], done["job"], done["subject"], done["is_whole"]) == (FP32, "write a setting", "dtype", True)
    undone = caller.post("/v1/doctor/undo", json={"checks": [FP32]}).json()
    assert practice.settings_file.read_text() == before
    assert FP32 in checks(undone)
    assert (undone["done"], undone["fixed"], undone["act"]["undoes"]) == ([], [], True)


def test_two_fixes_are_taken_back_each_or_all(caller: TestClient, practice: FolderPractice) -> None:
    state = StateFile(practice.data_dir)
    caller.post("/v1/doctor/fixes", json={"check": FP32})
    caller.post("/v1/doctor/fixes", json={"check": SLOW})
    assert state.read().disabled == {"slow-one"}
    caller.post("/v1/doctor/undo", json={"checks": [FP32]})
    assert state.read().disabled == {"slow-one"}
    assert caller.post("/v1/doctor/undo", json={}).json()["done"] == []
    assert state.read().disabled == frozenset()


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("fixes", {"check": "forced fp32"}, FP32),
        ("fixes", {"check": "old driver"}, "nothing is found any more"),
        ("fixes", {"check": "duplicates"}, "models duplicates"),
        ("undo", {}, "nothing to undo"),
        ("undo", {"checks": [FP32]}, "nothing to undo"),
        ("fixes", {"check": FP32, "force": True}, "extra"),
    ],
)
def test_what_can_not_be_is_said_in_one_line(caller: TestClient, path: str, body: dict[str, Any], said: str) -> None:
    answer = caller.post(f"/v1/doctor/{path}", json=body)
    assert answer.status_code == 422
    assert said in answer.text
    assert answer.json()["hint"]


def test_a_fix_by_another_name_gets_the_nearest(caller: TestClient) -> None:
    caller.post("/v1/doctor/fixes", json={"check": SLOW})
    answer = caller.post("/v1/doctor/undo", json={"checks": ["slow extension"]})
    assert (answer.status_code, answer.json()["hint"]) == (422, f"nearest: {SLOW}")


def test_a_setting_that_the_page_decides_is_left_to_the_page(caller: TestClient, practice: FolderPractice) -> None:
    caller.app.state.preferences.change(settings={"dtype": "fp32"})  # type: ignore[attr-defined]
    before = practice.settings_file.read_text()
    answer = caller.post("/v1/doctor/fixes", json={"check": FP32})
    assert (answer.status_code, answer.json()["hint"]) == (422, "change it there")
    assert practice.settings_file.read_text() == before


def test_the_settings_that_act_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAYATE_CONFIG", str(tmp_path / "settings.toml"))
    (tmp_path / "settings.toml").write_text("steps = 11\ncfg = 3\n")
    preferences = Preferences(tmp_path / "server", load_settings({"data_dir": tmp_path}, environment={}))
    preferences.change(settings={"dtype": "fp32", "cfg": 7.0})
    seen = HousePractice(preferences).gather().wishes.settings
    assert (seen["steps"], seen["dtype"], seen.get("cfg", "7.0")) == ("11", "fp32", "7.0")


def test_a_second_fix_waits_for_the_first_which_goes_on(
    caller: TestClient, practice: FolderPractice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "WAIT_S", 0.05)
    practice.may_act.clear()
    first = caller.post("/v1/doctor/fixes", json={"check": FP32})
    assert (first.status_code, first.json()["act"]["is_over"], first.json()["done"]) == (202, False, [])
    second = caller.post("/v1/doctor/fixes", json={"check": SLOW})
    assert (second.status_code, FP32 in second.json()["message"]) == (409, True)
    assert caller.post("/v1/doctor/undo", json={"checks": []}).status_code in (409, 422)
    assert caller.get("/v1/doctor").json()["act"]["checks"] == [FP32]
    practice.may_act.set()
    ended = _until_over(caller)
    assert FP32 not in checks(ended)
    assert SLOW in checks(ended)


def test_a_fix_that_is_cut_short_is_told_and_blocks_nothing(
    caller: TestClient, practice: FolderPractice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> tuple[()]:
        raise EngineError("the fix was cut short: out of memory", hint="what was begun can be undone")

    with monkeypatch.context() as patched:
        patched.setattr(practice, "fix", fail)
        answer = caller.post("/v1/doctor/fixes", json={"check": FP32}).json()
    assert "out of memory" in answer["act"]["failure"]
    assert FP32 in checks(answer)
    assert caller.post("/v1/doctor/fixes", json={"check": FP32}).json()["act"]["failure"] == ""


def test_lists_of_models_are_read_anew_after_a_fix(caller: TestClient, practice: FolderPractice) -> None:
    def names() -> set[str]:
        return {each["name"] for each in caller.get("/v1/models").json()}

    before = names()
    merged_file(practice.data_dir / "models" / "new.safetensors", {})
    assert names() == before  # a list is kept for a while
    caller.post("/v1/doctor/fixes", json={"check": SLOW})
    assert names() == before | {"new.safetensors"}


@pytest.mark.parametrize(
    ("options", "may_fix"),
    [
        ({}, True),
        ({"names": ("my.example",)}, False),
        ({"host": "0.0.0.0"}, False),
        ({"host": "0.0.0.0", "credentials": parse_credentials("me:secret", "--api-auth")}, True),
    ],
)
def test_nothing_is_changed_for_those_who_are_not_asked_who_they_are(
    tmp_path: Path, practice: FolderPractice, options: dict[str, Any], may_fix: bool
) -> None:
    before = practice.settings_file.read_text()
    with opened(tmp_path, practice, **options) as caller:
        if options.get("credentials"):
            assert caller.get("/v1/doctor").status_code == 401
            caller.auth = ("me", "secret")
        found = caller.get("/v1/doctor").json()
        answer = caller.post("/v1/doctor/fixes", json={"check": FP32})
        undone = caller.post("/v1/doctor/undo", json={})
    assert FP32 in checks(found)
    assert (found["refusal"] == "") is may_fix
    if may_fix:
        assert (answer.status_code, undone.status_code) == (200, 200)
        return
    assert (answer.status_code, undone.status_code) == (403, 403)
    assert "not asked who they are" in answer.json()["message"]
    assert "--api-auth" in answer.json()["hint"]
    assert practice.settings_file.read_text() == before


def test_a_page_of_a_stranger_fixes_nothing(caller: TestClient, practice: FolderPractice) -> None:
    before = practice.settings_file.read_text()
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert caller.post("/v1/doctor/fixes", json={"check": FP32}, headers=headers).status_code == 403
    answer = caller.post("/v1/doctor/fixes", content='{"check": "x"}', headers={"Content-Type": "text/plain"})
    assert answer.status_code == 415
    assert practice.settings_file.read_text() == before


def test_all_that_findings_are_made_of_has_its_words() -> None:
    names = [f"check.{check.name}" for check in CHECKS]
    names += [f"{what}.{job.value}" for job in Job for what in ("do", "back", "did")]
    names += [f"kind.{each}" for each in Kind] + [f"certainty.{each}" for each in Certainty]
    names += [f"severity.{each.name.lower()}" for each in Severity]
    assert {f"js.doctor.{name}" for name in names} <= set(STRINGS)
    said = {key.removeprefix("js.doctor.check.") for key in STRINGS if key.startswith("js.doctor.check.")}
    assert said == {check.name for check in CHECKS}


def _until_over(caller: TestClient) -> dict[str, Any]:
    for _ in range(200):
        answer = caller.get("/v1/doctor").json()
        if answer["act"]["is_over"]:
            return answer
        threading.Event().wait(0.02)
    raise AssertionError("the fix did not end")
