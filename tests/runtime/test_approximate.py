"""Approximate methods in a plan: off unless asked for, *fast* when they act, and said where they can't."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hayate.errors import UsageError
from hayate.models.config import SD1
from hayate.runtime.approximate import EXACT
from hayate.runtime.asked import Asked
from hayate.runtime.plan import resolve_plan
from tests.runtime.test_plan import CARD, CPU, WORK

ALL = {
    "guidance_interval": (0.3, 5.0),
    "s_min_uncond": 1.0,
    "deepcache": 3,
    "tome": 0.5,
    "tiny_vae": "taesd_decoder.safetensors",
}
ROWS = {"guidance_interval": "guidance", "s_min_uncond": "NGMS", "deepcache": "DeepCache"}
ROWS |= {"tome": "token merging", "tiny_vae": "tiny VAE"}


def test_nothing_is_left_out_unless_asked_for():
    plan = resolve_plan(Asked(), CPU, SD1, WORK)
    assert plan.approximate == EXACT
    assert plan.promise == "exact"
    assert not {choice.name for choice in plan.choices} & set(ROWS.values())


@pytest.mark.parametrize("name", ALL)
def test_what_acts_makes_the_plan_fast_and_has_a_row(name):
    plan = resolve_plan(Asked(**{name: ALL[name]}), CPU, SD1, WORK)
    rows = {choice.name for choice in plan.choices} & set(ROWS.values())
    assert plan.promise == "fast"
    assert rows == {ROWS[name]}
    assert len(plan.approximate.titles()) == 1


@pytest.mark.parametrize("promise", ["exact", "deterministic"])
@pytest.mark.parametrize("name", ALL)
def test_no_other_promise_is_made_with_it(name, promise):
    with pytest.raises(UsageError, match=promise):
        resolve_plan(Asked(**{name: ALL[name]}, promise=promise), CPU, SD1, WORK)
    assert resolve_plan(Asked(**{name: ALL[name]}, promise="fast"), CPU, SD1, WORK).promise == "fast"


@pytest.mark.parametrize("off", [{"s_min_uncond": 0.0}, {"deepcache": 1}, {"tome": 0.0}])
def test_the_value_that_is_off_leaves_the_plan_exact(off):
    plan = resolve_plan(Asked(**off), CPU, SD1, WORK)
    assert plan.approximate == EXACT
    assert plan.promise == "exact"


@pytest.mark.parametrize(
    "wrong",
    [
        {"guidance_interval": (5.0, 0.3)},
        {"guidance_interval": (-1.0, 5.0)},
        {"guidance_interval": (float("nan"), 5.0)},
        {"s_min_uncond": -1.0},
        {"s_min_uncond": float("inf")},
        {"deepcache": 0},
        {"deepcache": 21},
        {"tome": 0.8},
        {"tome": float("nan")},
    ],
)
def test_a_value_that_can_t_be_is_refused_with_a_hint(wrong):
    with pytest.raises(UsageError) as caught:
        resolve_plan(Asked(**wrong), CPU, SD1, WORK)
    assert caught.value.hint


@pytest.mark.parametrize("name", ["deepcache", "tome"])
def test_a_u_net_that_is_changed_inside_is_neither_compiled_nor_recorded(name):
    for other in ({"compile": "default"}, {"is_graphed": True}):
        with pytest.raises(UsageError, match="can't act inside"):
            resolve_plan(Asked(**{name: ALL[name]}, **other), CARD, SD1, WORK)
    beside = resolve_plan(Asked(**{name: ALL[name]}, compile="default", compile_parts=("vae",)), CARD, SD1, WORK)
    assert beside.approximate != EXACT


def test_the_tiny_vae_is_not_compiled():
    asked = Asked(tiny_vae="taesd_decoder.safetensors", compile="default")
    assert resolve_plan(asked, CARD, SD1, WORK).approximate.tiny_vae is not None
    with pytest.raises(UsageError, match="not compiled"):
        resolve_plan(replace(asked, compile_parts=("vae",)), CARD, SD1, WORK)


def test_guidance_in_an_interval_goes_with_compiled_and_recorded_steps():
    plan = resolve_plan(Asked(guidance_interval=(0.3, 5.0), compile="default", is_graphed=True), CARD, SD1, WORK)
    assert plan.is_graphed
    assert plan.approximate.guidance_interval == (0.3, 5.0)


def test_streamed_blocks_keep_deepcache_off_and_say_so():
    plan = resolve_plan(Asked(deepcache=3, tome=0.5, offload="lowvram"), CARD, SD1, WORK)
    assert plan.offload == "lowvram"
    assert plan.approximate.deepcache == 1
    assert plan.approximate.tome == 0.5
    assert [note for note in plan.notes if note.startswith("DeepCache does not act")]
    assert [choice for choice in plan.choices if choice.name == "DeepCache" and choice.value == "off"]
