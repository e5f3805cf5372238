"""Behind the tool tabs: all is declared, jobs accept it, and no name leads out of a folder."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from dataclasses import fields

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from hayate.jobs import bodies
from hayate.server.ui.built_in import BUILT_IN
from hayate.server.ui.page import render_page
from hayate.server.ui.setting_controls import FIXED, SECTIONS
from hayate.server.ui.strings import LANGUAGES, STRINGS
from hayate.server.ui.strings_settings import JAPANESE, TITLES
from hayate.server.ui.tool_controls import BENCH, EXTRAS, MERGER, MODELS, PRESETS, TUNE
from hayate.server.ui.tool_tabs import TOOL_TABS
from hayate.settings import KEYS, SETTINGS, Settings
from hayate.weights.scan import Verdict
from tests.server.tool_routes import merged_file, refusal

# ---------------------------------------------------------------------------------------------- what is declared


def test_every_setting_is_in_one_section_or_is_fixed() -> None:
    shown = [key for keys in SECTIONS.values() for key in keys]
    assert len(shown) == len(set(shown))
    assert {*shown, *FIXED} == set(KEYS)
    assert not set(shown) & set(FIXED)


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
def test_the_page_renders_every_tab_and_escapes_what_the_settings_say(language: str, route_settings: Settings) -> None:
    defaults = {field.name: getattr(route_settings, field.name) for field in fields(route_settings)}
    page = render_page(language, "auto", {**defaults, "models_dir": "<script>alert(1)</script>"})
    assert all(f'id="panel-{tab.id}"' in page for tab in TOOL_TABS)
    assert "<script>alert" not in page
    assert all(f"HAYATE_{key.upper()}" in page for key in FIXED)


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


def test_the_ways_to_merge_are_told_with_their_blocks_and_presets(route_client: TestClient) -> None:
    ways = route_client.get("/ui/merge/ways").json()
    assert len(ways["sd_blocks"]) == 26
    assert len(ways["xl_blocks"]) == 20
    assert set(ways["xl_blocks"]) < set(ways["sd_blocks"])
    assert all(len(values) == 26 for values in ways["presets"].values())
    assert {"merge", "add_difference", "ties"} <= {method["id"] for method in ways["methods"]}


def test_a_form_is_told_its_recipe_or_what_is_missing(route_client: TestClient) -> None:
    form = {"method": "merge", "models": ["a", "b"], "ratios": [{"number": 0.25, "blocks": "", "rules": ""}]}
    said = route_client.post("/ui/merge/recipe", json=form).json()
    assert said == {"expression": "merge(a, b, 0.25)", "models": ["a", "b"], "loras": []}
    assert "model B is not chosen" in refusal(route_client.post("/ui/merge/recipe", json={**form, "models": ["a", ""]}))
    assert route_client.post("/ui/merge/recipe", json={**form, "models": ["a"] * 9}).status_code == 422


def test_a_merged_file_says_how_it_was_made(route_client: TestClient, route_settings: Settings) -> None:
    saved = {"type": "hayate", "expression": "merge(a, b, 0.5)"}
    merged_file(route_settings.models_dir / "m.safetensors", {"sd_merge_recipe": json.dumps(saved)})
    merged_file(route_settings.models_dir / "plain.safetensors", {})
    merged_file(route_settings.models_dir / "odd.safetensors", {"sd_merge_recipe": "[" * 100_000})
    said = route_client.get("/ui/merge/recipe", params={"model": "m"}).json()
    assert (said["expression"], said["recipe"]) == ("merge(a, b, 0.5)", saved)
    for name in ("plain", "odd"):
        assert route_client.get("/ui/merge/recipe", params={"model": name}).json()["recipe"] is None


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "..\\outside", "\0", "", "~root"])
def test_no_name_of_a_model_leads_out_of_the_folder(
    name: str, route_client: TestClient, route_settings: Settings
) -> None:
    merged_file(
        route_settings.models_dir.parent / "outside.safetensors", {"sd_merge_recipe": '{"expression": "secret"}'}
    )
    answer = route_client.get("/ui/merge/recipe", params={"model": name})
    assert answer.status_code == 422
    assert "secret" not in answer.text


# ---------------------------------------------------------------------------------------------- checkpoints


def test_checkpoints_are_listed_with_what_is_wrong_and_pickles_are_read_without_running(
    route_client: TestClient, route_settings: Settings
) -> None:
    route_settings.models_dir.mkdir(parents=True)
    (route_settings.models_dir / "broken.safetensors").write_bytes(b"<html>")
    (route_settings.models_dir / "evil.ckpt").write_bytes(pickle.dumps(os.system))
    broken, evil = route_client.get("/ui/checkpoints").json()
    assert broken["problem"].startswith("broken.safetensors")
    assert str(route_settings.models_dir) not in broken["problem"]
    assert (evil["is_pickled"], bool(evil["problem"])) == (True, True)
    said = route_client.get("/ui/checkpoints/scan", params={"name": "evil.ckpt"}).json()
    assert (said["is_harmless"], said["verdict"]) == (False, "would run code")
    assert any("system" in each for each in said["imports"])
    assert f"js.scan.{said['verdict']}" in STRINGS
    assert refusal(route_client.get("/ui/checkpoints/scan", params={"name": "broken"}))
    assert refusal(route_client.get("/ui/checkpoints/scan", params={"name": "../evil"}))


def test_every_verdict_of_a_scan_has_its_words() -> None:
    assert {f"js.scan.{verdict.value}" for verdict in Verdict} <= set(STRINGS)


# ---------------------------------------------------------------------------------------------- pictures' words


def handed_in(route_settings: Settings, name: str, text: str = "") -> str:
    folder = route_settings.data_dir / "server" / "inputs"
    folder.mkdir(parents=True, exist_ok=True)
    info = PngInfo()
    if text:
        info.add_text("parameters", text)
    info.add_text("Title", "a \x1b[31mred title")
    Image.new("RGB", (8, 16)).save(folder / name, pnginfo=info)
    return name


def test_a_picture_says_all_that_is_in_it(route_client: TestClient, route_settings: Settings) -> None:
    text = "a lake\nNegative prompt: fog\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 8x16"
    said = route_client.get("/ui/picture-info", params={"name": handed_in(route_settings, "a.png", text)}).json()
    assert (said["width_px"], said["height_px"], said["format"]) == (8, 16, "PNG")
    assert (said["prompt"], said["negative_prompt"], said["parameters"]) == ("a lake", "fog", text)
    assert dict(said["fields"])["Sampler"] == "Euler a"
    assert "\x1b" not in said["texts"]["Title"]


def test_a_picture_that_says_nothing_is_no_failure(route_client: TestClient, route_settings: Settings) -> None:
    said = route_client.get("/ui/picture-info", params={"name": handed_in(route_settings, "a.png")}).json()
    assert said["parameters"] is None
    assert said["fields"] == []


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "nobody.png", "", ".", "..", "a\0.png"])
def test_only_pictures_that_were_handed_in_are_read(
    name: str, route_client: TestClient, route_settings: Settings
) -> None:
    handed_in(route_settings, "a.png")
    Image.new("RGB", (8, 8)).save(route_settings.data_dir / "server" / "secret.png")
    assert "no such picture" in refusal(route_client.get("/ui/picture-info", params={"name": name}))
