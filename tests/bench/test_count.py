"""Counted work against published figures, and against PyTorch's own counter on diffusers' networks."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hayate.bench.count import count_decode, count_step
from hayate.models.config import SD1, SD2, SDXL, ModelConfig
from tests.tiny_models import tiny_config

PUBLISHED = [(SD1, 512, 2 * 401.6e9, 2.5e12), (SDXL, 1024, 2 * 3380.6e9, 10.5e12)]
"""True cost with attention included: MACs of a U-Net run as FLOPs, and FLOPs of a decode."""


@pytest.mark.parametrize(("config", "side_px", "unet_flops", "decode_flops"), PUBLISHED)
def test_a_step_and_a_decode_cost_what_is_published(
    config: ModelConfig, side_px: int, unet_flops: float, decode_flops: float
) -> None:
    size = {"height_px": side_px, "width_px": side_px}
    assert count_step(config.unet, inputs=1, **size).flops == pytest.approx(unet_flops, rel=1e-3)
    assert count_step(config.unet, inputs=2, **size).flops == pytest.approx(2 * unet_flops, rel=1e-3)
    assert count_decode(config.vae, images=1, **size).flops == pytest.approx(decode_flops, rel=1e-2)


@pytest.mark.parametrize(
    ("config", "side_px", "shares"),
    [(SD1, 512, (0.52, 0.19 + 0.13, 0.16)), (SDXL, 1024, (0.24, 0.42 + 0.22, 0.12))],
)
def test_the_kinds_of_work_have_their_published_shares(
    config: ModelConfig, side_px: int, shares: tuple[float, float, float]
) -> None:
    """SD1's 1×1 projections may be called convolution or linear, so that a few points move between the two."""
    work = count_step(config.unet, inputs=2, height_px=side_px, width_px=side_px)
    parts = (work.convolution_flops, work.linear_flops, work.attention_flops)
    assert [part / work.flops for part in parts] == pytest.approx(shares, abs=0.035)


@pytest.mark.parametrize("config", [SD1, SD2, SDXL])
def test_pytorch_counts_the_same_on_diffusers_networks(config: ModelConfig) -> None:
    small = tiny_config(config.family)
    with torch.device("meta"):
        unet, vae = diffusers_networks(small)
        latents, context = torch.empty(2, 4, 32, 24), torch.empty(2, 77, small.unet.context_width)
        extra = {"added_cond_kwargs": conditions(small.unet.vector_width)} if small.unet.vector_width else {}
        unet_flops = counted(lambda: unet(latents, torch.tensor(500.0, device="meta"), context, **extra))
        vae_flops = counted(lambda: vae.decode(latents))
    step = count_step(small.unet, inputs=2, height_px=256, width_px=192)
    assert step.flops == pytest.approx(unet_flops, rel=2e-3)
    assert count_decode(small.vae, images=2, height_px=256, width_px=192).flops == pytest.approx(vae_flops, rel=1e-6)


def test_traffic_is_at_least_the_weights_and_grows_less_than_the_batch() -> None:
    one, four = (count_step(SD1.unet, inputs=inputs, height_px=512, width_px=512) for inputs in (2, 8))
    weights_bytes = 2 * 859_520_964
    assert weights_bytes < one.traffic_bytes < four.traffic_bytes < 4 * one.traffic_bytes
    assert four.flops == pytest.approx(4 * one.flops)
    assert four.operators == one.operators


def diffusers_networks(config: ModelConfig) -> tuple[nn.Module, nn.Module]:
    from tests.models import reference

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "randomised", lambda model, _seed: model.eval())
        return reference.reference_unet(config.unet), reference.reference_vae(config.vae)


def conditions(vector_width: int) -> dict[str, torch.Tensor]:
    """What diffusers makes SDXL's vector of: pooled text, and six numbers of 256 frequencies each."""
    return {"text_embeds": torch.empty(2, vector_width - 6 * 256), "time_ids": torch.empty(2, 6)}


def counted(run) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()
