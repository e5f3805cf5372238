"""The forecast against what a real run was seen to allocate, by PyTorch's own profiler, which knows nothing of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hayate.models.config import SD1, SDXL, Family, ModelConfig
from hayate.models.layers import scaled_dot_product
from hayate.models.unet import UNet
from hayate.models.vae import AutoencoderKL
from hayate.runtime import live
from hayate.runtime.live import LiveBytes
from hayate.runtime.memory import (
    OFFLOADS,
    WORKSPACE_BYTES,
    Forecast,
    Work,
    forecast,
    free_bytes,
    needed_bytes,
    resolve_offload,
)
from hayate.runtime.precision import Precision
from tests.tiny_models import tiny_config

CUDA = torch.device("cuda")
FP32 = Precision(unet=torch.float32, text=torch.float32, vae=torch.float32, reason="")
HALF = Precision(unet=torch.float16, text=torch.float16, vae=torch.bfloat16, reason="")
TINY = Work(inputs=2, images=1, height_px=256, width_px=192)
TOLERANCE = 0.05
"""What a forecast may be off by: kernels' scratch memory on the one side, fusions on the other."""


def explicit(q: Tensor, k: Tensor, v: Tensor, is_causal: bool = False) -> Tensor:  # noqa: ARG001
    scores = q @ k.transpose(-1, -2)
    return scores.softmax(-1) @ v


def measured_bytes(run: Callable[[], Tensor]) -> int:
    """The highest sum of allocations while `run` runs, from the allocator's own reports."""
    with torch.no_grad(), torch.profiler.profile(profile_memory=True) as profile:
        result = run()
    now = peak = 0
    for event in profile.profiler.kineto_results.events():  # pyright: ignore[reportOptionalMemberAccess]
        if event.name() == "[memory]":
            now += event.nbytes()  # pyright: ignore[reportAttributeAccessIssue]
            peak = max(peak, now)
    del result
    return peak


def step_of(config: ModelConfig, work: Work, attention: Callable[..., Tensor]) -> Callable[[], Tensor]:
    torch.manual_seed(0)
    unet = UNet(config.unet, attention).requires_grad_(requires_grad=False)
    contexts = [
        torch.randn(work.inputs, work.context_length, 2 * block.attn2.to_q.out_features)
        for block in unet.transformer_blocks()
    ]
    times = torch.randn(work.inputs, max(block.times.stop for block in unet.res_blocks()))
    x = torch.randn(work.inputs, config.unet.in_channels, work.height_px // 8, work.width_px // 8)
    return lambda: unet.step(x, times, contexts)


@pytest.mark.parametrize("family", list(Family))
@pytest.mark.parametrize(("attention", "mine"), [(scaled_dot_product, None), (explicit, explicit)])
def test_a_step_takes_what_was_forecast(
    family: Family, attention: Callable[..., Tensor], mine: Callable[..., Tensor] | None
) -> None:
    config = tiny_config(family)
    actual = measured_bytes(step_of(config, TINY, attention))
    expected = forecast(config, FP32, TINY, mine).step_bytes
    assert expected == pytest.approx(actual, rel=TOLERANCE)


@pytest.mark.parametrize("images", [1, 3])
def test_a_decode_takes_what_was_forecast(images: int) -> None:
    config = tiny_config(Family.SD1)
    work = replace(TINY, images=images)
    vae = AutoencoderKL(config.vae).requires_grad_(requires_grad=False)
    latents = torch.randn(images, 4, work.height_px // 8, work.width_px // 8)
    actual = measured_bytes(lambda: vae.decode(latents))
    assert forecast(config, FP32, work).decode_bytes == pytest.approx(actual, rel=TOLERANCE)


def test_explicit_scores_are_counted_where_they_are_chosen_only() -> None:
    """The largest: of 8 heads over 32×24 positions, for two inputs, before and after the softmax."""
    config = tiny_config(Family.SD1)
    scores_bytes = 2 * (2 * 8 * (32 * 24) ** 2 * 4)
    with_scores, fused = (forecast(config, FP32, TINY, each).step_bytes for each in (explicit, None))
    assert scores_bytes < with_scores < fused + scores_bytes


def test_transformer_blocks_in_a_row_take_what_one_does() -> None:
    config = tiny_config(Family.SDXL)
    deep = replace(config, unet=replace(config.unet, transformer_depths=(0, 4), middle_depth=3))
    actual = measured_bytes(step_of(deep, TINY, scaled_dot_product))
    assert forecast(deep, FP32, TINY).step_bytes == pytest.approx(actual, rel=TOLERANCE)


@pytest.mark.parametrize("family", list(Family))
def test_our_shapes_are_those_that_pytorch_gives(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(family)
    work = replace(TINY, height_px=264)
    quick = forecast(config, HALF, work, explicit)
    monkeypatch.setattr(live, "_ANSWERS", {})
    assert forecast(config, HALF, work, partial(explicit)) == quick


@pytest.mark.parametrize(
    ("config", "unet", "vae", "text"),
    [  # parameters as published: U-Net, VAE, text encoders (SDXL: CLIP-L and bigG)
        (SD1, 859_520_964, 83_653_863, 123_060_480),
        (SDXL, 2_567_463_684, 83_653_863, 123_060_480 + 694_659_840),
    ],
)
def test_weights_are_those_of_the_published_models(config: ModelConfig, unet: int, vae: int, text: int) -> None:
    found = forecast(config, HALF, TINY)
    assert (found.unet_bytes, found.vae_bytes, found.text_bytes) == (2 * unet, 2 * vae, 2 * text)


@settings(max_examples=12)
@given(inputs=st.integers(1, 8), height=st.integers(8, 32), width=st.integers(8, 32), more=st.integers(1, 3))
def test_more_work_never_takes_less(inputs: int, height: int, width: int, more: int) -> None:
    config = tiny_config(Family.SD2)
    work = Work(inputs=inputs, images=inputs, height_px=8 * height, width_px=8 * width)
    small = forecast(config, HALF, work)
    for larger in (
        replace(work, inputs=inputs + more, images=inputs + more),
        replace(work, height_px=8 * (height + more)),
        replace(work, context_length=77 * (1 + more)),
    ):
        large = forecast(config, HALF, larger)
        assert large.step_bytes >= small.step_bytes
        assert all(large.peak_bytes(offload) >= small.peak_bytes(offload) for offload in OFFLOADS)


def test_tiles_take_less_and_the_picture_that_they_are_pasted_into() -> None:
    whole = replace(TINY, height_px=1024, width_px=1024)
    tiled = replace(whole, tile_px=256)
    picture_bytes = 3 * 1024 * 1024 * 4
    tile = forecast(SD1, HALF, replace(whole, height_px=256, width_px=256)).decode_bytes
    assert forecast(SD1, HALF, tiled).decode_bytes == tile + picture_bytes
    assert forecast(SD1, HALF, replace(whole, tile_px=2048)) == forecast(SD1, HALF, whole)


def test_living_tensors_are_counted_once_and_no_longer_than_they_live() -> None:
    outside = torch.ones(1000)
    with torch.no_grad(), LiveBytes(ignored=[outside]) as count:
        a = outside + 1
        view = a.view(10, 100)[2:].transpose(0, 1)
        seen = outside[5:]
        assert count.now_bytes == 4000
        b = view.double()
        del a
        assert count.now_bytes == 4000 + 6400, "the view keeps its memory alive"
        del view
        assert count.now_bytes == 6400
        del b, seen
    assert (count.now_bytes, count.peak_bytes) == (0, 10400)


def a_forecast() -> Forecast:
    return Forecast(
        text_bytes=1 << 30,
        unet_bytes=5 << 30,
        vae_bytes=1 << 28,
        projections_bytes=1 << 29,
        window_bytes=1 << 30,
        told_bytes=0,
        step_bytes=1 << 28,
        decode_bytes=1 << 30,
    )


def test_the_least_offload_that_fits_is_chosen() -> None:
    peaks = {each: needed_bytes(a_forecast(), each) for each in OFFLOADS}
    assert peaks["none"] > peaks["medvram"] > peaks["lowvram"] > WORKSPACE_BYTES
    for offload in OFFLOADS:
        plan = resolve_offload(None, a_forecast(), peaks[offload], CUDA)
        assert (plan.offload, plan.is_enough) == (offload, True)
        assert "GiB free" in plan.reason
    plan = resolve_offload(None, a_forecast(), peaks["lowvram"] - 1, CUDA)
    assert (plan.offload, plan.is_enough) == ("lowvram", False)


def test_what_is_asked_for_is_done() -> None:
    for offload in OFFLOADS:
        plan = resolve_offload(offload, a_forecast(), 1 << 40, CUDA)
        assert (plan.offload, plan.is_enough) == (offload, True)
        assert "asked for" in plan.reason
    assert not resolve_offload("none", a_forecast(), 1 << 30, CUDA).is_enough


def test_nothing_is_moved_where_there_is_nowhere_else() -> None:
    plan = resolve_offload("lowvram", a_forecast(), 1 << 20, torch.device("cpu"))
    assert plan.offload == "none"
    assert plan.reason


def test_unknown_memory_is_no_reason_to_be_slow() -> None:
    assert resolve_offload(None, a_forecast(), None, CUDA).offload == "none"


@pytest.mark.skipif(sys.platform != "linux", reason="not known elsewhere")
def test_free_memory_of_the_machine_is_part_of_it() -> None:
    free = free_bytes(torch.device("cpu"))
    assert free is not None
    assert 0 < free <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(("fraction", "expected_gib"), [(1.0, 70 + 1), (0.1, 8 - 1)])
def test_free_memory_of_a_gpu_is_that_of_this_process(
    fraction: float, expected_gib: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 80 GiB 70 are free; the process holds 2, of which a tensor has 1 and the other is free to be used again."""
    gib = 1 << 30
    told = {"mem_get_info": (70 * gib, 80 * gib), "memory_reserved": 2 * gib, "memory_allocated": gib}
    told["get_per_process_memory_fraction"] = fraction
    for name, value in told.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    assert free_bytes(CUDA) == expected_gib * gib


def test_sdxl_on_a_card_of_8_gb_is_offloaded_whole_and_on_one_of_4_in_blocks() -> None:
    found = forecast(SDXL, HALF, Work(inputs=2, images=1, height_px=1024, width_px=1024))
    chosen = [resolve_offload(None, found, size << 30, CUDA).offload for size in (24, 8, 4)]
    assert chosen == ["none", "medvram", "lowvram"]


def test_a_forecast_loads_no_compiler() -> None:
    """PyTorch would import it, and symbolic mathematics, for the first tensor without memory."""
    code = (
        "import sys, torch\n"
        "from hayate.models.config import SDXL\n"
        "from hayate.runtime.memory import Work, forecast\n"
        "from hayate.runtime.precision import Precision\n"
        "half = Precision(unet=torch.float16, text=torch.float16, vae=torch.float16, reason='')\n"
        "forecast(SDXL, half, Work(inputs=2, images=1, height_px=1024, width_px=1024))\n"
        "assert not {'torch._dynamo', 'sympy'} & set(sys.modules), 'too much was imported'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
