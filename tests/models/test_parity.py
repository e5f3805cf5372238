"""Full-width, full-depth parity with diffusers and transformers, on the same random weights in fp32."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from hayate.models.clip import text_encoder
from hayate.models.config import (
    CLIP_L,
    OPEN_CLIP_H,
    SD1,
    SD1_UNET,
    SD2_UNET,
    SDXL,
    SDXL_CLIP_L,
    SDXL_OPEN_CLIP_G,
    SDXL_UNET,
    TextConfig,
    UNetConfig,
    VAEConfig,
)
from hayate.models.unet import UNet
from hayate.models.vae import AutoencoderKL

from .diffusers_names import text_state, unet_state, vae_state
from .reference import reference_text, reference_unet, reference_vae, relative_error

BOUND = 1e-5


@pytest.fixture(autouse=True)
def _one_network_at_a_time() -> Iterator[None]:
    """Frees what the test before made: the references point at themselves, and two of SDXL's size don't fit."""
    gc.collect()
    yield
    gc.collect()


def normal(*shape: int, seed: int = 7) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.full
@pytest.mark.parametrize("config", [SD1_UNET, SD2_UNET, SDXL_UNET], ids=["sd15", "sd21", "sdxl"])
@torch.inference_mode()
def test_unet_equals_diffusers(config: UNetConfig) -> None:
    theirs = reference_unet(config)
    with torch.device("meta"):
        ours = UNet(config)
    ours.load_state_dict(unet_state(theirs.state_dict(), config), assign=True)
    x, context = normal(2, 4, 16, 8), normal(2, 154, config.context_width)
    timesteps = torch.tensor([981.0, 3.25])
    vector, added = None, None
    if config.vector_width:
        pooled, sizes = normal(2, 1280), torch.tensor([[1024.0, 768, 0, 16, 1024, 768]] * 2)
        from hayate.models.layers import sinusoidal_embedding

        vector = torch.cat([pooled, sinusoidal_embedding(sizes.flatten(), 256).view(2, -1)], dim=1)
        added = {"text_embeds": pooled, "time_ids": sizes}
    expected = theirs(x, timesteps, context, added_cond_kwargs=added).sample
    assert expected.std() > 0.1
    assert relative_error(ours(x, timesteps, context, vector), expected) <= BOUND


@pytest.mark.full
@pytest.mark.parametrize("config", [SD1.vae, SDXL.vae], ids=["sd", "sdxl"])
@torch.inference_mode()
def test_vae_equals_diffusers(config: VAEConfig) -> None:
    theirs = reference_vae(config)
    with torch.device("meta"):
        ours = AutoencoderKL(config)
    ours.load_state_dict(vae_state(theirs.state_dict(), config), assign=True)
    pixels, latents = normal(1, 3, 64, 40).clamp(-1, 1), normal(1, 4, 8, 5)
    expected = theirs.encode(pixels).latent_dist
    mean, log_variance = ours.encode_moments(pixels)
    assert relative_error(mean, expected.mean) <= BOUND
    assert relative_error(log_variance, expected.logvar) <= BOUND
    assert relative_error(ours.decode(latents), theirs.decode(latents).sample) <= BOUND


def token_ids(config: TextConfig) -> Tensor:
    """Two prompts of different length, each with start, end and the encoder's own padding."""
    ids = torch.randint(0, 49000, (2, 77), generator=torch.Generator().manual_seed(5))
    ids[:, 0] = 49406
    for row, length in enumerate((9, 76)):
        ids[row, length] = 49407
        ids[row, length + 1 :] = config.pad_id
    return ids


@pytest.mark.full
@pytest.mark.parametrize(
    "config", [CLIP_L, OPEN_CLIP_H, SDXL_CLIP_L, SDXL_OPEN_CLIP_G], ids=["sd15", "sd21", "sdxl-l", "sdxl-g"]
)
@torch.inference_mode()
def test_text_encoder_equals_transformers(config: TextConfig) -> None:
    theirs = reference_text(config)
    with torch.device("meta"):
        ours = text_encoder(config)
    ours.load_state_dict(text_state(theirs.state_dict(), config), assign=True)
    ids = token_ids(config)
    expected = theirs(ids, output_hidden_states=True)
    norm = ours.final_layer_norm if hasattr(ours, "final_layer_norm") else ours.ln_final
    for skip in (config.skip, 4):
        hidden = expected.hidden_states[-skip]
        context = norm(hidden) if config.has_final_norm else hidden
        encoding = ours(ids, skip)
        assert relative_error(encoding.context, context) <= BOUND
        if config.projection_width:
            assert relative_error(encoding.pooled, expected.text_embeds) <= BOUND
        else:
            assert encoding.pooled is None


def test_final_norm_is_the_reference_s_last_hidden_state() -> None:
    theirs = reference_text(CLIP_L)
    with torch.device("meta"):
        ours = text_encoder(CLIP_L)
    ours.load_state_dict(text_state(theirs.state_dict(), CLIP_L), assign=True)
    ids = token_ids(CLIP_L)
    with torch.inference_mode():
        assert relative_error(ours(ids).context, theirs(ids).last_hidden_state) <= BOUND
