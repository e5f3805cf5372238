"""Plans for machines that are not here."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hayate.errors import HayateError, UnknownName, UsageError
from hayate.flags import FLAGS, take_flags
from hayate.models.config import SD1, SDXL, Family
from hayate.runtime.asked import Asked, asked_from
from hayate.runtime.compile.spec import Mode
from hayate.runtime.device import Device
from hayate.runtime.facts import Facts
from hayate.runtime.memory import TILES_PX, Work, needed_bytes
from hayate.runtime.native.kernels import refusal
from hayate.runtime.plan import head_dims, resolve_plan
from hayate.runtime.precision import dtype_name
from tests.tiny_models import tiny_config

TINY = tiny_config(Family.SD1)
WORK = Work(inputs=2, images=1, height_px=512, width_px=512)
CPU = Facts(
    device=Device(torch=torch.device("cpu"), title="CPU, 2 threads", reason="test"),
    has_bf16=True,
    has_onednn=True,
    compile_refusal=None,
    graphs_refusal="CUDA graphs need a CUDA device",
    free_bytes=24 * 2**30,
)
CARD = replace(
    CPU,
    device=Device(torch=torch.device("cuda"), title="a card", reason="test", capability=(8, 6)),
    graphs_refusal=None,
    free_bytes=12 * 2**30,
)


def flags(line: str, own: Asked | None = None) -> Asked:
    return asked_from(take_flags(line.split())[0], own or Asked())


def test_a_cpu_with_bf16_instructions_computes_full_size_models_in_it():
    plan = resolve_plan(Asked(), CPU, SD1, WORK)
    assert plan.precision.unet is plan.precision.vae is torch.bfloat16
    assert plan.is_packed
    assert plan.is_channels_last
    assert plan.offload == "none"
    assert plan.attention.backend.name == ("sdp" if refusal() else "native")


def test_a_cpu_without_them_stays_in_fp32():
    assert resolve_plan(Asked(), replace(CPU, has_bf16=False), SD1, WORK).precision.unet is torch.float32


def test_bf16_is_packed_only_where_the_cpu_multiplies_it():
    assert resolve_plan(Asked(dtype="bf16"), CPU, SD1, WORK).is_packed
    assert not resolve_plan(Asked(dtype="bf16"), replace(CPU, has_bf16=False), SD1, WORK).is_packed


def test_small_models_stay_as_they_are():
    plan = resolve_plan(Asked(), CPU, TINY, WORK)
    assert plan.precision.unet is torch.float32
    assert not plan.is_packed


def test_a_card_computes_in_fp16_with_a_safe_vae():
    plan = resolve_plan(Asked(), CARD, SD1, WORK)
    assert plan.precision.unet is torch.float16
    assert plan.precision.vae is torch.bfloat16
    assert not plan.is_packed
    assert plan.attention.backend.name == "sdp"


@pytest.mark.parametrize(("free_gib", "offload"), [(24, "none"), (7, "medvram"), (3, "lowvram")])
def test_what_stays_on_a_card_follows_from_its_free_memory(free_gib, offload):
    work = replace(WORK, height_px=1024, width_px=1024)
    plan = resolve_plan(Asked(), replace(CARD, free_bytes=free_gib * 2**30), SDXL, work)
    assert plan.offload == offload
    assert "GiB" in next(choice.reason for choice in plan.choices if choice.name == "offload")


@pytest.mark.parametrize(
    ("line", "see"),
    [
        ("--no-half", lambda plan: plan.precision.unet is plan.precision.vae is torch.float32),
        ("--no-half-vae", lambda plan: (plan.precision.unet, plan.precision.vae) == (torch.float16, torch.float32)),
        ("--precision full", lambda plan: plan.precision.text is torch.float32),
        ("--precision half", lambda plan: plan.precision.vae is torch.float16),
        ("--precision autocast", lambda plan: plan.precision.unet is torch.float16),
        ("--opt-channelslast", lambda plan: plan.is_channels_last),
        ("--medvram", lambda plan: plan.offload == "medvram"),
        ("--lowvram", lambda plan: plan.offload == "lowvram"),
        ("--medvram-sdxl", lambda plan: plan.offload == "none"),
        ("--disable-nan-check", lambda plan: not plan.checks_nan),
        ("--opt-sdp-attention", lambda plan: plan.attention.backend.name == "sdp"),
        ("--opt-sdp-no-mem-attention", lambda plan: plan.attention.backend.name == "sdp-no-mem"),
        ("--xformers --opt-sdp-attention", lambda plan: plan.attention.backend.name == "sdp"),
        ("--opt-split-attention", lambda plan: plan.attention.backend.name == "split"),
        ("--opt-sub-quad-attention", lambda plan: plan.attention.backend.name == "sub-quadratic"),
        ("--upcast-sampling", lambda plan: "--upcast-sampling" in plan.notes[0]),
    ],
)
def test_flags_mean_what_they_mean_in_a1111(line, see):
    assert see(resolve_plan(flags(line), CARD, SD1, WORK))


def test_medvram_sdxl_is_for_sdxl():
    assert resolve_plan(flags("--medvram-sdxl"), CARD, SDXL, WORK).offload == "medvram"


def test_xformers_that_is_not_there_is_said_and_gone_around(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "xformers", None)
    plan = resolve_plan(flags("--xformers"), CARD, SD1, WORK)
    assert plan.attention.backend.name == "sdp"
    assert "xformers" in plan.notes[0]
    with pytest.raises(HayateError, match="xformers"):
        resolve_plan(Asked(attention="xformers"), CARD, SD1, WORK)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--medvram --lowvram", "contradict"),
        ("--no-half --precision half", "contradict"),
        ("--use-cpu all --device-id 0", "contradict"),
        ("--precision halff", "unknown precision"),
    ],
)
def test_contradictions_are_errors(line, message):
    with pytest.raises(UsageError, match=message):
        flags(line)


def test_own_options_win_over_flags():
    asked = flags("--opt-split-attention --no-half", Asked(dtype="bf16", attention="math"))
    plan = resolve_plan(asked, CARD, SD1, WORK)
    assert plan.precision.unet is torch.bfloat16
    assert plan.attention.backend.name == "math"


@pytest.mark.parametrize(
    "asked",
    [
        Asked(attention="nope"),
        Asked(layout="nope"),
        Asked(compile="nope"),
        Asked(offload="nope"),
        Asked(promise="nope"),
    ],
)
def test_unknown_names_list_the_known(asked):
    with pytest.raises(UnknownName, match="nearest"):
        resolve_plan(asked, CPU, TINY, WORK)


def test_what_is_approximate_is_fast_and_can_not_be_exact():
    plan = resolve_plan(Asked(vae_tile_px=128), CPU, TINY, WORK)
    assert (plan.promise, plan.vae_tile_px) == ("fast", 128)
    for promise in ("exact", "deterministic"):
        with pytest.raises(UsageError, match="--promise fast"):
            resolve_plan(Asked(vae_tile_px=128, promise=promise), CPU, TINY, WORK)


def test_compiling_takes_plain_weights_and_a_toolchain():
    plan = resolve_plan(Asked(compile="default"), CPU, SD1, WORK)
    assert plan.compile is Mode.DEFAULT
    assert not plan.is_packed
    plan = resolve_plan(Asked(compile="default"), replace(CPU, compile_refusal="no compiler"), SD1, WORK)
    assert plan.compile is Mode.OFF
    assert "no compiler" in " ".join(plan.notes)


def test_graphs_need_what_stays_in_place():
    assert resolve_plan(Asked(is_graphed=True), CARD, SD1, WORK).is_graphed
    for facts, offload in ((CPU, None), (CARD, "medvram")):
        with pytest.raises(UsageError, match="CUDA graphs"):
            resolve_plan(Asked(is_graphed=True, offload=offload), facts, SD1, WORK)


def test_head_dims_are_those_of_the_architectures():
    assert head_dims(SD1) == {40, 80, 160}
    assert head_dims(SDXL) == {64}


@given(names=st.sets(st.sampled_from([name for name, flag in FLAGS.items() if not flag.takes]), max_size=6))
def test_any_flags_give_a_reason_for_every_choice_or_a_hint(names):
    try:
        plan = resolve_plan(flags(" ".join(names)), CPU, TINY, WORK)
    except UsageError as error:
        assert error.hint  # noqa: PT017 - either of two outcomes is right
        return
    assert all(choice.value and choice.reason for choice in plan.choices)


@pytest.mark.parametrize("title", ["NVIDIA GeForce GTX 1660 SUPER", "GeForce GTX 1650"])
def test_cards_whose_fp16_is_faulty_compute_in_fp32(title):
    card = replace(CARD, device=replace(CARD.device, title=title), free_bytes=6 * 2**30)
    plan = resolve_plan(Asked(), card, SD1, WORK)
    assert plan.precision.unet is plan.precision.vae is torch.float32
    assert "NaN" in plan.precision.reason
    asked = resolve_plan(Asked(dtype="fp16"), card, SD1, WORK)
    assert asked.precision.unet is torch.float16
    assert any("NaN" in note for note in asked.notes)


def test_other_cards_are_not_taken_for_them():
    for title in ("NVIDIA GeForce RTX 4060", "NVIDIA GeForce GTX 1080 Ti"):
        card = replace(CARD, device=replace(CARD.device, title=title))
        assert resolve_plan(Asked(), card, SD1, WORK).precision.unet is torch.float16


def test_moving_weights_are_not_compiled():
    for asked in (Asked(compile="default", offload="medvram"), Asked(compile="default")):
        plan = resolve_plan(asked, replace(CARD, free_bytes=5 * 2**30), SDXL, WORK)
        assert plan.offload != "none"
        assert plan.compile is Mode.OFF
        assert any("compile default does not act" in note for note in plan.notes)


def test_a_deterministic_plan_refuses_what_changes_bits():
    with pytest.raises(UsageError, match="bits"):
        resolve_plan(Asked(compile="default", promise="deterministic"), CARD, SD1, WORK)
    plan = resolve_plan(flags("--opt-sdp-attention", Asked(promise="deterministic")), CARD, SD1, WORK)
    assert plan.attention.backend.name == "sdp-no-mem"
    assert any("sdp" in note for note in plan.notes)


def test_an_own_offload_wins_over_one_for_sdxl():
    asked = flags("--medvram-sdxl", Asked(offload="lowvram"))
    assert {resolve_plan(asked, CARD, config, WORK).offload for config in (SD1, SDXL)} == {"lowvram"}


def test_offload_without_a_card_is_said_not_to_act():
    plan = resolve_plan(flags("--lowvram"), CPU, TINY, WORK)
    assert plan.offload == "none"
    assert any("lowvram does not act" in note for note in plan.notes)


def test_too_little_memory_is_said():
    work = replace(WORK, height_px=2048, width_px=2048)
    plan = resolve_plan(Asked(), replace(CARD, free_bytes=2**30), SDXL, work)
    assert plan.offload == "lowvram"
    assert any("may not suffice" in note for note in plan.notes)


def test_a_picture_that_does_not_fit_whole_is_decoded_in_the_largest_tiles_that_do():
    work, small = replace(WORK, height_px=2048, width_px=2048), replace(CARD, free_bytes=4 * 2**30)
    plan = resolve_plan(Asked(), small, SD1, work)
    assert plan.promise == "fast"
    assert any("does not fit" in choice.reason for choice in plan.choices if choice.name == "VAE decode")
    assert needed_bytes(plan.forecast, plan.offload) <= small.free_bytes
    larger = [side for side in TILES_PX if side > (plan.vae_tile_px or 0)]
    for side in larger:
        whole = resolve_plan(Asked(vae_tile_px=side), small, SD1, work)
        assert needed_bytes(whole.forecast, "lowvram") > small.free_bytes
    assert resolve_plan(Asked(), CARD, SD1, WORK).vae_tile_px is None


@pytest.mark.parametrize("promise", ["exact", "deterministic"])
def test_a_promise_is_kept_where_memory_is_short_and_said_so(promise):
    work, small = replace(WORK, height_px=2048, width_px=2048), replace(CARD, free_bytes=4 * 2**30)
    plan = resolve_plan(Asked(promise=promise), small, SD1, work)
    assert (plan.vae_tile_px, plan.promise) == (None, promise)
    assert any("memory may not suffice" in note for note in plan.notes)


def test_reduce_overhead_replays_graphs_where_there_are_some():
    asked = Asked(compile="reduce-overhead")
    assert resolve_plan(asked, CARD, SD1, WORK).is_graphed
    assert not resolve_plan(asked, CPU, SD1, WORK).is_graphed
    assert not resolve_plan(replace(asked, is_graphed=False), CARD, SD1, WORK).is_graphed
    assert not resolve_plan(Asked(compile="default"), CARD, SD1, WORK).is_graphed


MAC = replace(
    CPU,
    device=Device(torch=torch.device("mps"), title="Apple GPU", reason="test"),
    has_bf16=False,
    compile_refusal="compiling for mps is not supported",
    free_bytes=None,
)


def card(title: str, capability: tuple[int, int], free_gib: float) -> Facts:
    device = Device(torch=torch.device("cuda"), title=title, reason="test", capability=capability)
    return replace(CARD, device=device, has_bf16=capability >= (8, 0), free_bytes=int(free_gib * 2**30))


@pytest.mark.parametrize(
    ("facts", "model", "side_px", "expected"),
    [
        # What A1111's users of these machines set by hand, decided from facts alone.
        (card("NVIDIA GeForce GTX 1660 SUPER", (7, 5), 5.5), SD1, 512, ("fp32", "fp32", "sdp", "none")),
        (card("NVIDIA GeForce GTX 1080", (6, 1), 7.3), SD1, 512, ("fp16", "fp32", "sdp", "none")),
        (card("NVIDIA GeForce RTX 3060 Laptop GPU", (8, 6), 5.2), SD1, 512, ("fp16", "bf16", "sdp", "none")),
        (card("NVIDIA GeForce RTX 3060 Laptop GPU", (8, 6), 5.2), SDXL, 1024, ("fp16", "bf16", "sdp", "lowvram")),
        (card("NVIDIA GeForce RTX 3060", (8, 6), 11.2), SDXL, 1024, ("fp16", "bf16", "sdp", "none")),
        (card("NVIDIA GeForce RTX 4090", (8, 9), 23), SDXL, 1024, ("fp16", "bf16", "sdp", "none")),
        (card("NVIDIA H200", (9, 0), 139), SDXL, 1024, ("fp16", "bf16", "sdp", "none")),
        (MAC, SD1, 512, ("fp16", "fp32", "sdp", "none")),
    ],
)
def test_plans_of_well_known_machines(facts, model, side_px, expected):
    plan = resolve_plan(Asked(), facts, model, replace(WORK, height_px=side_px, width_px=side_px))
    found = (dtype_name(plan.precision.unet), dtype_name(plan.precision.vae), plan.attention.backend.name, plan.offload)
    assert found == expected
    assert plan.promise == "exact"


def test_tiles_are_in_the_forecast():
    whole, tiled = (
        resolve_plan(
            Asked(vae_tile_px=tile_px, promise="fast"), CARD, SD1, replace(WORK, height_px=2048, width_px=2048)
        )
        for tile_px in (None, 512)
    )
    assert tiled.forecast.decode_bytes < whole.forecast.decode_bytes / 4


@given(
    names=st.sets(st.sampled_from([name for name, flag in FLAGS.items() if not flag.takes]), max_size=6),
    own=st.builds(
        Asked,
        dtype=st.sampled_from([None, "auto", "fp32", "fp16", "bf16"]),
        attention=st.sampled_from([None, "auto", "sdp", "sdp-no-mem", "split", "math"]),
        compile=st.sampled_from([None, "off", "default", "max-autotune"]),
        is_graphed=st.sampled_from([None, True, False]),
        offload=st.sampled_from([None, "auto", "none", "medvram", "lowvram"]),
        vae_tile_px=st.sampled_from([None, 256]),
        promise=st.sampled_from([None, "exact", "deterministic", "fast"]),
    ),
    facts=st.sampled_from([CPU, replace(CPU, has_bf16=False), CARD, replace(CARD, free_bytes=2**31)]),
    config=st.sampled_from([TINY, SD1]),
)
def test_any_combination_is_a_plan_that_keeps_its_promise_or_an_error_with_a_hint(names, own, facts, config):
    try:
        plan = resolve_plan(flags(" ".join(names), own), facts, config, WORK)
    except HayateError as error:
        assert error.hint  # noqa: PT017 - either of two outcomes is right
        return
    assert all(choice.value and choice.reason for choice in plan.choices)
    is_card = facts.device.torch.type == "cuda"
    if plan.promise == "deterministic":
        assert plan.compile is Mode.OFF
        assert plan.attention.backend.is_deterministic or not is_card
    if plan.promise != "fast":
        assert plan.vae_tile_px is None
        assert plan.attention.backend.is_exact
    assert plan.offload == "none" or (is_card and not plan.is_graphed and plan.compile is Mode.OFF)
    assert not plan.is_packed or (not is_card and plan.compile is Mode.OFF)
