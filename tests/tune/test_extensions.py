"""Attention backends of extensions: tried in the processes of a search, and left where a profile can't have them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hayate.bench.presets import QUICK
from hayate.extensions.handed import hand_over, take_over
from hayate.extensions.session import Session
from hayate.extensions.switching import switch
from hayate.models.config import Family
from hayate.pipeline.hooked import NOBODY
from hayate.pipeline.prepared import prepare_request
from hayate.pipeline.workspace import Workspace
from hayate.request import TextToImage
from hayate.runtime.asked import Asked
from hayate.runtime.plan import Plan
from hayate.runtime.profiles import Profile, all_profiles, save_profile, slot_for, versions_of
from hayate.server.ui.tuned import adopted_profile
from hayate.settings import Settings, load_settings
from hayate.tune.pool import TrialFailed, Worker
from hayate.tune.space import Candidate, Refused, candidates, groups
from hayate.tune.trial import Task
from hayate.tune.tuning import Goal, aim_for
from tests.extensions.folders import session_in, write_extension
from tests.tiny_models import write_tiny

ROOT = Path(__file__).parents[2]
LIMIT_S = 120.0
CODE = """
import torch


class Mine:
    name = "whatever"
    is_exact = is_deterministic = True
    has_scratch = False

    def refusal(self, device, dtype, head_dims):
        return None

    def misfit(self, q, k, v, is_causal):
        return None

    def __call__(self, q, k, v, is_causal=False):
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=is_causal)


class Broken(Mine):
    def __call__(self, q, k, v, is_causal=False):
        raise ZeroDivisionError("no heads")


class Wrong(Mine):
    def __call__(self, q, k, v, is_causal=False):
        return torch.zeros_like(q)
"""
LENT = {"fine": "Mine", "broken": "Broken", "wrong": "Wrong"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    write_tiny(tmp_path / "tiny.safetensors", Family.SD1)
    keys = ("cache_dir", "data_dir", "extensions_dir", "outputs_dir")
    return load_settings({key: tmp_path / key for key in keys} | {"models_dir": tmp_path}, environment={})


@pytest.fixture
def session(settings: Settings) -> Iterator[Session]:
    for name, kind in LENT.items():
        write_extension(settings.extensions_dir, f"has-{name}", CODE, {"attention": {name: kind}})
    write_extension(settings.extensions_dir, "has-none", "raise ValueError('no luck')", {"attention": {"none": "X"}})
    write_extension(settings.extensions_dir, "is-off", CODE, {"attention": {"off": "Mine"}})
    switch(settings, "is-off", is_on=False)
    with session_in(settings.extensions_dir, settings.data_dir) as opened:
        yield opened


def model_in(settings: Settings) -> Path:
    return settings.models_dir / "tiny.safetensors"


def request_of(settings: Settings) -> TextToImage:
    return replace(QUICK, model=str(model_in(settings)), width_px=64, height_px=64, steps=2)


@pytest.mark.usefixtures("session")
def test_those_that_act_are_candidates_and_those_that_fail_are_refused_with_the_reason(settings: Settings) -> None:
    aim, _ = aim_for(request_of(settings), settings, Goal(budget_s=60.0), Asked())
    known = {*LENT, "none", "off"}
    lent = [each for group in groups(aim.place) for each in group if each[1].get("attention") in known]
    found = {each.name: each for each in candidates(lent, Asked(ignores_profile=True), aim.place)}
    assert set(found) == {f"attention {name}" for name in ("broken", "fine", "none", "wrong")}
    refused = found.pop("attention none")
    assert isinstance(refused, Refused)
    assert "no luck" in refused.reason
    assert all(isinstance(each, Candidate) for each in found.values())


@pytest.mark.usefixtures("session")
def test_a_trial_in_another_process_computes_with_them(settings: Settings) -> None:
    path = os.pathsep.join((str(ROOT / "src"), str(ROOT)))
    environment = {**os.environ, "PYTHONPATH": path, "HAYATE_CACHE_DIR": str(settings.cache_dir)}
    request = {"prompt": "a", "seed": 1, "steps": 1, "width_px": 64, "height_px": 64, "model": str(model_in(settings))}

    def task(name: str) -> Task:
        return Task(request=request, asked={"attention": name, "ignores_profile": True}, runs=0)

    with Worker(environment=environment) as worker:
        fine = worker.trial(task("fine"), LIMIT_S)
        assert (fine.lacking, fine.plan["choices"]["attention"]["value"]) == ([], "fine")
        broken = worker.trial(task("broken"), LIMIT_S)
        assert ["the extension has-broken failed" in each for each in broken.lacking] == [True]
        with pytest.raises(TrialFailed, match="ZeroDivisionError: no heads"):
            worker.trial(task("broken"), LIMIT_S)
        assert worker.starts == 1


def test_the_same_extensions_act_in_another_process(session: Session, settings: Settings) -> None:
    session.standing("has-wrong").problem = "it failed"
    made = take_over(hand_over())
    assert made.names("attention") == session.names("attention") == ("broken", "fine", "none")
    assert made.names("scripts") == session.names("scripts")
    assert "left out" in made.problems()["has-wrong"]
    assert (made.folder, made.limit_s) == (settings.extensions_dir, session.limit_s)


def test_where_there_are_none_the_built_in_ones_are_handed_over() -> None:
    assert "x/y/z plot" in take_over(hand_over()).names("scripts")


def planned(settings: Settings) -> Plan:
    with Workspace(settings, is_lasting=False) as workspace:
        return prepare_request(request_of(settings), settings, None, workspace, hooked=NOBODY).plan


def tuned(settings: Settings) -> Plan:
    """The plan of a request whose profile has an extension's attention."""
    with Workspace(settings, is_lasting=False) as workspace:
        prepared = prepare_request(request_of(settings), settings, None, workspace, hooked=NOBODY)
    device, asked = prepared.plan.device, Asked(attention="fine")
    slot = slot_for(device, prepared.config, (64, 64), "exact")
    versions = versions_of(device, asked)
    save_profile(Profile(slot=slot, asked=asked, versions=versions, at="2026-01-01T00:00:00Z"), settings.data_dir)
    return planned(settings)


@pytest.mark.usefixtures("session")
def test_a_profile_with_one_is_followed(settings: Settings) -> None:
    plan = tuned(settings)
    assert plan.attention.backend.name == "fine"
    assert plan.as_object()["profile"]["value"] == "used"


def test_one_that_is_off_or_gone_is_said_in_a_line_and_the_default_plan_serves(
    session: Session, settings: Settings
) -> None:
    assert tuned(settings).attention.backend.name == "fine"
    session.standing("has-fine").is_on = False
    notes = " | ".join(planned(settings).notes)
    assert "what was tuned can't be had any more" in notes
    assert "it is of the extension has-fine, which is switched off" in notes
    assert planned(settings).attention.backend.name != "fine"
    session.standings = tuple(each for each in session.standings if each.name != "has-fine")
    notes = " | ".join(planned(settings).notes)
    assert "what was tuned can't be had any more: unknown attention backend 'fine'" in notes
    assert "\n" not in notes


@pytest.mark.usefixtures("session")
def test_another_version_of_it_makes_the_profile_stale(settings: Settings) -> None:
    assert tuned(settings).attention.backend.name == "fine"
    manifest = settings.extensions_dir / "has-fine" / "extension.toml"
    manifest.write_text(manifest.read_text("utf-8").replace("1.2.3", "2.0.0"), "utf-8")
    with session_in(settings.extensions_dir, settings.data_dir):
        plan = planned(settings)
    assert "extension has-fine 1.2.3 is now 2.0.0" in " | ".join(plan.notes)


@pytest.mark.usefixtures("session")
def test_a_row_that_is_adopted_brings_its_own_extension(settings: Settings) -> None:
    tuned(settings)
    (profile,) = all_profiles(settings.data_dir)
    assert profile.versions["extension has-fine"] == "1.2.3"
    row = {"name": "attention wrong", "verdict": "faster", "asked": {"attention": "wrong"}}
    adopted = adopted_profile(profile, row, datetime(2026, 1, 2, tzinfo=UTC))
    assert "extension has-fine" not in adopted.versions
    save_profile(adopted, settings.data_dir)
    assert planned(settings).attention.backend.name == "wrong"
    own = adopted_profile(adopted, {**row, "asked": {"attention": "math"}}, datetime(2026, 1, 3, tzinfo=UTC))
    assert not [name for name in own.versions if name.startswith("extension")]
