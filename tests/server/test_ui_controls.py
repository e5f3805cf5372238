"""What the page lets people set is what a request has, within the bounds that the request itself checks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from hayate.jobs.bodies import read_body
from hayate.jobs.generate import Generate
from hayate.request import BOUNDS, FILLS, RESIZE_MODES, Hires, StartImage, TextToImage, validate
from hayate.runtime.asked import Asked
from hayate.server.ui.choices import SOURCES, choices_of
from hayate.server.ui.controls import Control, Tab
from hayate.server.ui.picture_controls import IMG2IMG, NOT_SHOWN, PICTURE_TABS, TOP, TXT2IMG
from hayate.server.ui.tabs import TABS
from hayate.settings import load_settings

PARTS = {".request", ".asked", ".script", ".settings"}
"""Of a job's body: what is looked at by itself, and what the page's own tab sets."""


def controls_of(tab: Tab) -> list[Control]:
    return [*TOP.controls, *tab.controls()]


def every_control() -> Iterator[Control]:
    yield from TOP.controls
    for tab in TABS:
        yield from tab.controls()


def leaves(kind: type, prefix: str) -> set[str]:
    return {f"{prefix}.{each.name}" for each in fields(kind)}


def test_every_field_of_a_request_has_a_control_or_a_reason() -> None:
    shown = {control.key for tab in PICTURE_TABS for control in controls_of(tab)}
    known = leaves(TextToImage, "request") | leaves(Hires, "request.hires") | leaves(StartImage, "request.start")
    known |= leaves(Asked, "asked") | {name for name in leaves(Generate, "") if name not in PARTS}
    assert {name.removeprefix(".") for name in known} - shown == set(NOT_SHOWN)


def test_no_control_of_pictures_is_for_nothing() -> None:
    sides = {f"request.start.extend_px.{place}" for place in range(4)}
    known = (
        leaves(TextToImage, "request")
        | leaves(Hires, "request.hires")
        | leaves(StartImage, "request.start")
        | leaves(Asked, "asked")
        | sides
        | {"asked.guidance_interval.0", "asked.guidance_interval.1"}
        | {"saves_pictures", "saves_grid", "wants_grid", "half_made", "preview_every", "preview_vae"}
    )
    keys = {control.key for tab in PICTURE_TABS for control in controls_of(tab)}
    assert {key for key in keys if not key.startswith("script.")} <= known


@pytest.mark.parametrize("tab", PICTURE_TABS, ids=lambda tab: tab.id)
def test_no_key_stands_twice(tab: Tab) -> None:
    keys = [control.key for control in controls_of(tab)]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    "control",
    [each for each in controls_of(TXT2IMG) if each.key.removeprefix("request.") in BOUNDS],
    ids=lambda each: each.key,
)
def test_a_number_has_the_bounds_of_the_request(control: Control) -> None:
    name = control.key.removeprefix("request.")
    assert (control.low, control.high) == (BOUNDS[name].low, BOUNDS[name].high)
    for value in (control.low, control.high):
        assert value is not None
        number = int(value) if BOUNDS[name].multiple else float(value)
        validate(TextToImage(prompt="", **{name: number}))
    if control.slider_high is not None:
        assert BOUNDS[name].low < control.slider_high <= BOUNDS[name].high


def test_choices_of_the_start_are_those_that_it_takes() -> None:
    by_key = {control.key: control for control in IMG2IMG.controls()}
    assert by_key["request.start.resize_mode"].choices == RESIZE_MODES
    assert by_key["request.start.fill"].choices == FILLS


def test_defaults_of_hires_and_start_are_those_of_the_request() -> None:
    for kind, prefix, needed in ((Hires, "request.hires", {}), (StartImage, "request.start", {"path": "x"})):
        own = kind(**needed)
        for control in (each for tab in PICTURE_TABS for each in tab.controls()):
            name = control.key.removeprefix(f"{prefix}.")
            if control.key.startswith(f"{prefix}.") and "." not in name:
                assert control.default == getattr(own, name), control.key


@pytest.mark.parametrize("control", list(every_control()), ids=lambda each: each.key)
def test_every_control_can_be_rendered(control: Control) -> None:
    if control.source:
        assert control.source in SOURCES
    if control.kind == "truth":
        assert set(control.choices) <= {"true", "false"}
    if control.kind in ("choice", "truth", "many"):
        assert bool(control.choices) != bool(control.source)
        assert not control.choices or control.default is None or control.default in control.choices
    if control.kind == "slider":
        assert control.low is not None
        assert (control.slider_high or control.high) is not None


def test_what_a_control_depends_on_is_in_its_tab() -> None:
    for tab in TABS:
        keys = {control.key for control in tab.controls()}
        for item in (*tab.groups, *tab.controls()):
            if item.shown_when:
                assert item.shown_when.partition("=")[0] in keys


def defaults(tab: Tab) -> dict[str, Any]:
    """The body that the page makes of an untouched form, as form.js does it."""
    body: dict[str, Any] = {}
    for group in (*tab.groups, TOP):
        if group.look == "switched":
            continue
        for control in group.controls:
            value = [] if control.kind == "many" else control.default
            if value is None or control.shown_when or control.key.startswith(("request.start", "script")):
                continue
            target = body
            *path, name = control.key.split(".")
            for part in path:
                target = target.setdefault(part, {})
            target[name] = value
    return body


@pytest.mark.parametrize("tab", PICTURE_TABS, ids=lambda tab: tab.id)
def test_an_untouched_form_is_a_job_that_can_be(tab: Tab, tmp_path: Path) -> None:
    settings = load_settings({"models_dir": tmp_path, "data_dir": tmp_path})
    read_body("generate", defaults(tab)).check(settings, tmp_path)


@pytest.mark.parametrize("source", SOURCES)
def test_every_list_can_be_made_on_a_machine_without_files(source: str, tmp_path: Path) -> None:
    folders = {
        name: tmp_path / name for name in ("models_dir", "vae_dir", "lora_dir", "embeddings_dir", "upscalers_dir")
    }
    settings = load_settings({**folders, "styles_file": tmp_path / "styles.csv"})
    values = [choice.value for choice in choices_of(source, settings)]
    assert len(values) == len(set(values))


def test_scripts_are_those_that_a_job_knows() -> None:
    from hayate.jobs.scripts import SCRIPTS

    chosen = next(each for each in IMG2IMG.controls() if each.key == "script.name")
    assert set(chosen.choices) == set(SCRIPTS)


def test_controls_of_scripts_are_their_fields() -> None:
    from hayate.jobs.scripts import SCRIPTS

    for control in IMG2IMG.controls():
        _, is_script, name = control.key.partition("script.")
        if is_script and name != "name":
            script = control.shown_when.removeprefix("script.name=")
            assert name.partition(".")[0] in {each.name for each in fields(SCRIPTS[script])}  # pyright: ignore
