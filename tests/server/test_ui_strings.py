"""Everything that the page says is there in every language, and nothing is there that it doesn't say."""

from __future__ import annotations

import re
import string

import pytest

from hayate.jobs.records import WorkerPhase
from hayate.server.ui.controls import Control, Group
from hayate.server.ui.picture_controls import TOP
from hayate.server.ui.static_files import ui_folder
from hayate.server.ui.strings import LANGUAGES, STRINGS, TABLES, choose_language, for_scripts, in_language
from hayate.server.ui.tabs import TABS

TEMPLATES = {path: path.read_text("utf-8") for path in (ui_folder() / "templates").rglob("*.html")}
SCRIPTS = {path: path.read_text("utf-8") for path in (ui_folder() / "static").rglob("*.js")}
GROUPS: list[Group] = [TOP, *(group for tab in TABS for group in tab.groups)]
CONTROLS: list[Control] = [control for group in GROUPS for control in group.controls]
FAMILIES = (
    *("theme.", "tab.", "group.", "send ", "js.phase.", "js.worker.", "canvas.", "js.extensions.origin."),
    *("formula.", "settings.", "builtin.", "js.tune.", "js.bench.", "js.models."),
    *("js.scan.", "js.send.", "js.verdict.", "js.duplicates.", "js.doctor."),
)
"""Strings that are chosen while the page runs."""


def test_no_string_stands_in_two_tables() -> None:
    assert sum(map(len, TABLES)) == len(STRINGS)


@pytest.mark.parametrize("key", STRINGS)
def test_a_string_is_there_in_every_language(key: str) -> None:
    row = STRINGS[key]
    assert len(row) == len(LANGUAGES)
    assert all(text.strip() == text and text for text in row)
    fields = [sorted(name for _, name, _, _ in string.Formatter().parse(text) if name) for text in row]
    assert fields.count(fields[0]) == len(fields), "the languages fill in different values"


def test_japanese_is_japanese() -> None:
    japanese = re.compile(r"[぀-ヿ一-鿿]")
    helps = {key: row[1] for key, row in STRINGS.items() if key.endswith(".help")}
    assert [key for key, text in helps.items() if not japanese.search(text)] == []


@pytest.mark.parametrize("control", CONTROLS, ids=lambda each: each.key)
def test_a_control_has_its_label_and_its_help(control: Control) -> None:
    assert control.key in STRINGS
    assert f"{control.key}.help" in STRINGS
    assert not control.empty or control.empty in STRINGS


@pytest.mark.parametrize("group", GROUPS, ids=lambda each: each.id)
def test_a_group_has_its_title(group: Group) -> None:
    assert f"group.{group.id}" in STRINGS


def test_what_templates_and_scripts_say_is_there() -> None:
    said = {key for text in TEMPLATES.values() for key in re.findall(r"t\['([^']+)'\]", text)}
    said |= {f"js.{key}" for text in SCRIPTS.values() for key in re.findall(r'\bsay\(\s*"([^"]+)"', text)}
    assert said - set(STRINGS) == set()


def test_every_phase_of_a_job_and_of_the_worker_has_its_word() -> None:
    sources = [path.read_text("utf-8") for path in (ui_folder().parents[1] / "jobs").rglob("*.py")]
    phases = {name for text in sources for name in re.findall(r"""\bphase(?:\(|=)"(\w+)\"""", text)}
    assert {"loading", "saving", "starting"} <= phases
    assert {f"js.phase.{name}" for name in {*phases, "queued", "sampling", "decoding"}} <= set(STRINGS)
    assert {f"js.worker.{phase}" for phase in WorkerPhase} <= set(STRINGS)


def test_nothing_is_left_over() -> None:
    texts = "\n".join([*TEMPLATES.values(), *SCRIPTS.values()])
    declared = {name for control in CONTROLS for name in (control.key, f"{control.key}.help", control.empty)}
    declared |= {f"{control.key}={value}" for control in CONTROLS for value in control.choices}
    left = [
        key
        for key in STRINGS
        if key not in declared
        and not key.startswith(FAMILIES)
        and not re.match(r"[\w.]+=", key)
        and not re.search(r"""["'`]""" + re.escape(key.removeprefix("js.")) + r"""["'`]""", texts)
    ]
    assert left == []


def test_a_chosen_value_that_has_a_string_is_one_that_can_be_chosen() -> None:
    keys = {control.key for control in CONTROLS}
    named = [key.partition("=")[0] for key in STRINGS if "=" in key]
    assert set(named) <= keys


def test_scripts_are_given_their_strings_alone() -> None:
    given = for_scripts("ja")
    assert given["close"] == in_language("ja")["js.close"]
    assert len(given) == sum(key.startswith("js.") for key in STRINGS)


@pytest.mark.parametrize(
    ("chosen", "accepted", "language"),
    [
        (None, "", "en"),
        (None, "ja", "ja"),
        (None, "de-DE,de;q=0.9,ja;q=0.8,en;q=0.7", "ja"),
        (None, "en-GB,ja", "en"),
        ("ja", "en", "ja"),
        ("en", "ja", "en"),
        ("xx", "ja-JP", "ja"),
        (None, ";;,,ja" + "," * 10_000, "ja"),
        (None, "\x00<script>", "en"),
    ],
)
def test_the_language_is_the_chosen_one_else_the_browsers(chosen: str | None, accepted: str, language: str) -> None:
    assert choose_language(chosen, accepted) == language
