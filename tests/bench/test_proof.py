"""What was asked for and did not act is found, switch by switch."""

from __future__ import annotations

import pytest

from hayate.bench.proof import unproved
from hayate.runtime.asked import Asked

TYPES = {"unet": "bf16", "text": "bf16", "vae": "fp32"}


def plan(**choices: str) -> dict:
    return {"dtype": TYPES, "choices": {name: {"value": value, "reason": "why"} for name, value in choices.items()}}


def seen(name: str, requested: str, *, active: bool = True) -> dict:
    return {"name": name, "requested": requested, "active": active, "detail": "counted"}


CASES = {
    "attention": (Asked(attention="math"), seen("attention", "math")),
    "a wished attention": (Asked(wished_attention="split"), seen("attention", "split")),
    "packed layers": (Asked(layers="packed"), seen("layers", "packed")),
    "fused layers": (Asked(layers="fused"), seen("qkv", "fused")),
    "layout": (Asked(layout="channels-last"), seen("layout", "channels-last")),
    "compile": (Asked(compile="default"), seen("compile unet", "default")),
    "compile vae": (Asked(compile="default", compile_parts=("vae",)), seen("compile vae", "default")),
    "graphs": (Asked(is_graphed=True), seen("CUDA graphs", "on")),
    "offload": (Asked(offload="lowvram"), seen("offload", "lowvram")),
    "tiles": (Asked(vae_tile_px=256), seen("VAE tiles", "256 px")),
    "guidance": (Asked(guidance_interval=(0.3, 5.0)), seen("guidance", "sigma 0.3 to 5")),
    "NGMS": (Asked(s_min_uncond=1.0), seen("guidance", "NGMS 1")),
    "DeepCache": (Asked(deepcache=3), seen("DeepCache", "1 of 3")),
    "merged tokens": (Asked(tome=0.5), seen("token merging", "0.5")),
    "tiny VAE": (Asked(tiny_vae="taesd.safetensors"), seen("tiny VAE", "taesd.safetensors")),
    "inputs": (Asked(inputs_at_once=1), seen("inputs at once", "1")),
}


@pytest.mark.parametrize(("asked", "row"), CASES.values(), ids=CASES)
def test_a_switch_is_proved_by_its_own_active_row_only(asked: Asked, row: dict) -> None:
    assert unproved(asked, plan(), [row]) == []
    assert len(unproved(asked, plan(), [])) == 1
    assert len(unproved(asked, plan(), [{**row, "active": False}])) == 1
    assert len(unproved(asked, plan(), [{**row, "name": "something else"}])) == 1


def test_another_attention_than_asked_for_is_no_proof() -> None:
    (lacking,) = unproved(Asked(attention="sage"), plan(attention="sdp"), [seen("attention", "sdp")])
    assert "sage" in lacking
    assert "sdp" in lacking


def test_types_are_compared_part_by_part() -> None:
    assert unproved(Asked(dtype="bf16", vae_dtype="fp32"), plan(), []) == []
    assert unproved(Asked(dtype="auto"), plan(), []) == []
    assert unproved(Asked(dtype="bf16"), plan(), []) == ["vae in bf16: fp32 served"]
    assert len(unproved(Asked(dtype="fp16"), plan(), [])) == 3


def test_nothing_asked_nothing_lacking() -> None:
    assert unproved(Asked(), plan(), []) == []
