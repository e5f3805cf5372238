"""Behind the tool tabs: all is declared, jobs accept it, and no name leads out of a folder."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from hayate.bench.history import FILE_NAME, History
from hayate.errors import UsageError
from hayate.jobs import bodies
from hayate.jobs.records import NewJob, Result, State
from hayate.runtime.asked import Asked
from hayate.runtime.profiles import Profile, Slot, load_profile, save_profile
from hayate.server.failures import install_failures
from hayate.server.ui.built_in import BUILT_IN
from hayate.server.ui.page import render_page
from hayate.server.ui.setting_controls import PATHS, SECTIONS
from hayate.server.ui.strings import LANGUAGES, STRINGS
from hayate.server.ui.strings_settings import JAPANESE, TITLES
from hayate.server.ui.tool_controls import BENCH, EXTRAS, MERGER, MODELS, PRESETS, TUNE
from hayate.server.ui.tool_tabs import TOOL_TABS
from hayate.server.ui.tools import tools_router
from hayate.server.ui.tuned import adopted_profile
from hayate.settings import KEYS, SETTINGS, Settings, load_settings
from hayate.weights.scan import Verdict
from tests.server.stub_desk import StubDesk

SLOT = Slot(device="CPU", architecture="sd1-320", size_px=512, promise="exact")
PROFILE = Profile(
    slot=SLOT,
    asked=Asked(layers="packed"),
    versions={"torch": "2.13.0", "threads": "2"},
    at="2026-11-25T10:00:00Z",
    summary={"winner": "layers packed", "ratio": 1.2, "it_per_s": {"median": 2.0, "low": 1.9, "high": 2.1}},
)
ROWS = [
    {"name": "layers packed", "verdict": "faster", "reason": "1.2×", "asked": {"layers": "packed"}},
    {
        "name": "attention math",
        "verdict": "slower",
        "reason": "0.9×",
        "asked": {"attention": "math", "ignores_profile": True},
        "it_per_s": {"median": 1.5, "low": 1.4, "high": 1.6},
        "difference": {"psnr_db": 60.0},
    },
    {"name": "dtype fp16", "verdict": "wrong picture", "reason": "9 dB", "asked": {"dtype": "fp16"}},
]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    folders = {key: tmp_path / key for key in PATHS}
    return replace(load_settings(environment={"HOME": str(tmp_path)}), **folders)


@pytest.fixture
def desk(tmp_path: Path) -> StubDesk:
    return StubDesk(tmp_path)


@pytest.fixture
def client(desk: StubDesk, settings: Settings) -> Iterator[TestClient]:
    app = FastAPI()
    install_failures(app)
    app.include_router(tools_router(desk, settings))
    with TestClient(app, base_url="http://localhost") as client:
        yield client


def refusal(answer: Any) -> str:
    """The message of an answer that explains itself."""
    assert answer.status_code == 422, answer.text
    said = answer.json()
    assert said["hint"]
    return said["message"]


def merged_file(path: Path, metadata: dict[str, str]) -> None:
    """A safetensors file with one tensor."""
    header = {"__metadata__": metadata, "x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))


# ---------------------------------------------------------------------------------------------- what is declared


def test_every_setting_is_in_one_section_or_is_a_path() -> None:
    shown = [key for keys in SECTIONS.values() for key in keys]
    assert len(shown) == len(set(shown))
    assert {*shown, *PATHS} == set(KEYS)
    assert not set(shown) & set(PATHS)


def test_every_setting_has_its_title_and_help_in_both_languages() -> None:
    assert set(TITLES) == set(JAPANESE) == {each.key for each in SETTINGS}


def test_every_control_and_value_of_the_tools_has_its_strings() -> None:
    for tab in TOOL_TABS:
        assert f"tab.{tab.id}" in STRINGS
        for group in tab.groups:
            assert f"group.{group.id}" in STRINGS
        for control in tab.controls():
            assert control.key in STRINGS, control.key
            assert f"{control.key}.help" in STRINGS, control.key
            assert not control.empty or control.empty in STRINGS, control.empty
    for each in BUILT_IN:
        assert {f"builtin.{each.id}", f"builtin.{each.id}.where"} <= set(STRINGS)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_renders_every_tab_and_escapes_what_the_settings_say(language: str, settings: Settings) -> None:
    defaults = {field.name: getattr(settings, field.name) for field in fields(settings)}
    page = render_page(language, "auto", {**defaults, "models_dir": "<script>alert(1)</script>"})
    assert all(f'id="panel-{tab.id}"' in page for tab in TOOL_TABS)
    assert "<script>alert" not in page
    assert all(f"HAYATE_{key.upper()}" in page for key in PATHS)


def test_the_forms_ask_for_nothing_that_jobs_do_not_know() -> None:
    own = {"upscale": {"by"}, "tune": set(), "bench": set(), "convert": set()}
    kinds = {"upscale": bodies.Upscale, "tune": bodies.Tune, "bench": bodies.Bench, "convert": bodies.Convert}
    for tab, kind in ((EXTRAS, "upscale"), (TUNE, "tune"), (BENCH, "bench"), (MODELS, "convert")):
        known = {field.name for field in fields(kinds[kind])} | own[kind]
        assert {control.key.split(".")[1] for control in tab.controls()} <= known
    names = {control.key.partition(".")[2] for control in MERGER.group("merge_output").controls}
    assert names <= {field.name for field in fields(bodies.Merge)}


def test_the_presets_are_those_that_can_be_measured() -> None:
    from hayate.bench import presets

    assert set(PRESETS) == set(presets.PRESETS)


def test_the_page_and_its_tools_load_no_torch() -> None:
    code = "import sys, hayate.server.ui.router; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split()[0] == "False"


# ---------------------------------------------------------------------------------------------- the merger


def test_the_ways_to_merge_are_told_with_their_blocks_and_presets(client: TestClient) -> None:
    ways = client.get("/ui/merge/ways").json()
    assert len(ways["sd_blocks"]) == 26
    assert len(ways["xl_blocks"]) == 20
    assert set(ways["xl_blocks"]) < set(ways["sd_blocks"])
    assert all(len(values) == 26 for values in ways["presets"].values())
    assert {"merge", "add_difference", "ties"} <= {method["id"] for method in ways["methods"]}


def test_a_form_is_told_its_recipe_or_what_is_missing(client: TestClient) -> None:
    form = {"method": "merge", "models": ["a", "b"], "ratios": [{"number": 0.25, "blocks": "", "rules": ""}]}
    said = client.post("/ui/merge/recipe", json=form).json()
    assert said == {"expression": "merge(a, b, 0.25)", "models": ["a", "b"], "loras": []}
    assert "model B is not chosen" in refusal(client.post("/ui/merge/recipe", json={**form, "models": ["a", ""]}))
    assert client.post("/ui/merge/recipe", json={**form, "models": ["a"] * 9}).status_code == 422


def test_a_merged_file_says_how_it_was_made(client: TestClient, settings: Settings) -> None:
    saved = {"type": "hayate", "expression": "merge(a, b, 0.5)"}
    merged_file(settings.models_dir / "m.safetensors", {"sd_merge_recipe": json.dumps(saved)})
    merged_file(settings.models_dir / "plain.safetensors", {})
    merged_file(settings.models_dir / "odd.safetensors", {"sd_merge_recipe": "[" * 100_000})
    said = client.get("/ui/merge/recipe", params={"model": "m"}).json()
    assert (said["expression"], said["recipe"]) == ("merge(a, b, 0.5)", saved)
    for name in ("plain", "odd"):
        assert client.get("/ui/merge/recipe", params={"model": name}).json()["recipe"] is None


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "..\\outside", "\0", "", "~root"])
def test_no_name_of_a_model_leads_out_of_the_folder(name: str, client: TestClient, settings: Settings) -> None:
    merged_file(settings.models_dir.parent / "outside.safetensors", {"sd_merge_recipe": '{"expression": "secret"}'})
    answer = client.get("/ui/merge/recipe", params={"model": name})
    assert answer.status_code == 422
    assert "secret" not in answer.text


# ---------------------------------------------------------------------------------------------- checkpoints


def test_checkpoints_are_listed_with_what_is_wrong_and_pickles_are_read_without_running(
    client: TestClient, settings: Settings
) -> None:
    settings.models_dir.mkdir(parents=True)
    (settings.models_dir / "broken.safetensors").write_bytes(b"<html>")
    (settings.models_dir / "evil.ckpt").write_bytes(pickle.dumps(os.system))
    broken, evil = client.get("/ui/checkpoints").json()
    assert broken["problem"]
    assert (evil["is_pickled"], bool(evil["problem"])) == (True, True)
    said = client.get("/ui/checkpoints/scan", params={"name": "evil.ckpt"}).json()
    assert (said["is_harmless"], said["verdict"]) == (False, "would run code")
    assert any("system" in each for each in said["imports"])
    assert f"js.scan.{said['verdict']}" in STRINGS
    assert refusal(client.get("/ui/checkpoints/scan", params={"name": "broken"}))
    assert refusal(client.get("/ui/checkpoints/scan", params={"name": "../evil"}))


def test_every_verdict_of_a_scan_has_its_words() -> None:
    assert {f"js.scan.{verdict.value}" for verdict in Verdict} <= set(STRINGS)


# ---------------------------------------------------------------------------------------------- pictures' words


def handed_in(settings: Settings, name: str, text: str = "") -> str:
    folder = settings.data_dir / "server" / "inputs"
    folder.mkdir(parents=True, exist_ok=True)
    info = PngInfo()
    if text:
        info.add_text("parameters", text)
    info.add_text("Title", "a \x1b[31mred title")
    Image.new("RGB", (8, 16)).save(folder / name, pnginfo=info)
    return name


def test_a_picture_says_all_that_is_in_it(client: TestClient, settings: Settings) -> None:
    text = "a lake\nNegative prompt: fog\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 8x16"
    said = client.get("/ui/picture-info", params={"name": handed_in(settings, "a.png", text)}).json()
    assert (said["width_px"], said["height_px"], said["format"]) == (8, 16, "PNG")
    assert (said["prompt"], said["negative_prompt"], said["parameters"]) == ("a lake", "fog", text)
    assert dict(said["fields"])["Sampler"] == "Euler a"
    assert "\x1b" not in said["texts"]["Title"]


def test_a_picture_that_says_nothing_is_no_failure(client: TestClient, settings: Settings) -> None:
    said = client.get("/ui/picture-info", params={"name": handed_in(settings, "a.png")}).json()
    assert said["parameters"] is None
    assert said["fields"] == []


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "nobody.png", "", ".", "..", "a\0.png"])
def test_only_pictures_that_were_handed_in_are_read(name: str, client: TestClient, settings: Settings) -> None:
    handed_in(settings, "a.png")
    Image.new("RGB", (8, 8)).save(settings.data_dir / "server" / "secret.png")
    assert "no such picture" in refusal(client.get("/ui/picture-info", params={"name": name}))


# ---------------------------------------------------------------------------------------------- profiles


def tuned(desk: StubDesk, facts: dict[str, Any], kind: str = "tune") -> str:
    """A tune job that is done."""
    id_ = desk.submit(NewJob(kind=kind, body={})).id
    desk.begin(id_)
    desk._end(id_, State.DONE, Result(facts=facts))
    return id_


def test_profiles_are_listed_adopted_and_forgotten(client: TestClient, desk: StubDesk, settings: Settings) -> None:
    assert client.get("/ui/tune/profiles").json() == []
    file = save_profile(PROFILE, settings.data_dir).name
    (said,) = client.get("/ui/tune/profiles").json()
    assert (said["file"], said["asked"], said["staleness"]) == (file, {"layers": "packed"}, None)
    job = tuned(desk, {"rows": ROWS})
    adopted = client.post(f"/ui/tune/profiles/{file}/adopt", json={"job": job, "row": "attention math"})
    assert adopted.json()["asked"] == {"attention": "math"}
    kept = load_profile(SLOT, settings.data_dir)
    assert kept is not None
    assert kept.asked == Asked(attention="math")
    assert kept.summary["psnr_db"] == 60.0
    assert kept.versions == PROFILE.versions
    assert client.delete(f"/ui/tune/profiles/{file}").status_code == 204
    assert load_profile(SLOT, settings.data_dir) is None


def test_what_did_not_keep_its_promise_is_not_adopted(client: TestClient, desk: StubDesk, settings: Settings) -> None:
    file = save_profile(PROFILE, settings.data_dir).name
    job = tuned(desk, {"rows": ROWS})
    path = f"/ui/tune/profiles/{file}/adopt"
    assert "can't be adopted" in refusal(client.post(path, json={"job": job, "row": "dtype fp16"}))
    assert "unknown row" in refusal(client.post(path, json={"job": job, "row": "nobody"}))
    other = tuned(desk, {}, kind="bench")
    assert "no table" in refusal(client.post(path, json={"job": other, "row": "x"}))
    assert client.post(path, json={"job": "nobody", "row": "x"}).status_code == 404
    assert load_profile(SLOT, settings.data_dir) == PROFILE


def test_a_profile_of_another_torch_is_stale(client: TestClient, desk: StubDesk, settings: Settings) -> None:
    save_profile(PROFILE, settings.data_dir)
    desk.state = replace(desk.state, facts={"torch": "2.14.0", "device": "CPU"})
    (said,) = client.get("/ui/tune/profiles").json()
    assert said["staleness"] == "torch 2.13.0 is now 2.14.0"


@pytest.mark.parametrize("name", ["nobody.json", "..%2Fx.json", "%2Fetc%2Fpasswd"])
def test_no_name_of_a_profile_removes_another_file(name: str, client: TestClient, settings: Settings) -> None:
    save_profile(PROFILE, settings.data_dir)
    outside = settings.data_dir / "x.json"
    outside.write_text("{}")
    assert client.delete(f"/ui/tune/profiles/{name}").status_code in (404, 422)
    assert outside.exists()


def test_the_promise_stays_the_profiles_own_whatever_a_row_asked_for() -> None:
    row = {"name": "x", "verdict": "faster", "reason": "", "asked": {"promise": "fast", "tome": 0.3}}
    adopted = adopted_profile(PROFILE, row, datetime(2026, 11, 30, tzinfo=UTC))
    assert (adopted.slot, adopted.asked) == (SLOT, Asked(tome=0.3))
    assert adopted.at == "2026-11-30T00:00:00Z"
    with pytest.raises(UsageError):
        adopted_profile(PROFILE, {**row, "verdict": "did not act"}, datetime.now(UTC))


# ---------------------------------------------------------------------------------------------- measurements


def measurement(label: str) -> dict[str, Any]:
    return {
        "at": "2026-11-30T00:00:00Z",
        "label": label,
        "preset": "quick",
        "model": {"name": "built-in"},
        "summary": {"it_per_s": {"median": 3.5, "low": 3.4, "high": 3.6}},
        "difference": {"psnr_db": None, "ssim": 1.0, "max_levels": 0},
    }


def test_measurements_are_listed_the_newest_first(client: TestClient, settings: Settings) -> None:
    assert client.get("/ui/bench/measurements").json() == {"measurements": [], "notes": []}
    history = History(path=settings.data_dir / FILE_NAME)
    for label in ("old", "<b>new</b>"):
        history.add(measurement(label))
    new, old = client.get("/ui/bench/measurements").json()["measurements"]
    assert (new["setting"], old["setting"]) == ("<b>new</b>", "old")
    assert new["it_per_s"] == {"median": 3.5, "low": 3.4, "high": 3.6}
    assert (new["is_compared"], new["psnr_db"]) == (True, None)


def test_the_report_runs_nothing_and_escapes_labels(client: TestClient, settings: Settings) -> None:
    history = History(path=settings.data_dir / FILE_NAME)
    number = history.add(measurement("<script>alert(1)</script>"))
    history.add(measurement("another"))
    report = client.get("/ui/bench/report", params={"number": number})
    assert "<script>alert" not in report.text
    assert "another" not in report.text
    assert "script-src" not in report.headers["content-security-policy"]
    assert "default-src 'none'" in report.headers["content-security-policy"]
    assert refusal(client.get("/ui/bench/report", params={"number": "999"}))
