"""The latents of whole tiny models after ten steps, against diffusers' own pipelines on the same weights and noise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hayate.engines.networks import Loaders
from hayate.engines.torch import EngineFiles, TorchEngine
from hayate.models.clip import text_encoder
from hayate.models.config import SD1, SD2, SDXL, ModelConfig, Prediction
from hayate.models.unet import UNet
from hayate.models.vae import AutoencoderKL
from hayate.pipeline.decode import decode_latents
from hayate.pipeline.denoise import LatentNoise, denoise, project_conditions
from hayate.pipeline.encode import TextStyle
from hayate.pipeline.guidance import GuidanceScale, build_guidance
from hayate.prompt.schedule import parse_prompt
from hayate.prompt.tokenizer import load_tokenizer
from hayate.runtime.precision import resolve_precision
from hayate.samplers.catalogue import build
from hayate.samplers.sigmas import scaled_linear
from tests.models.diffusers_names import text_state, unet_state, vae_state
from tests.models.reference import reference_text, reference_unet, reference_vae, relative_error

STEPS = 10
PROMPT = "a photo of an astronaut riding a horse"
PROMPT_IDS = [49406, 320, 1125, 539, 550, 18376, 6765, 320, 4558, 49407]
"""Published ids of `PROMPT`, with start and end."""
NEGATIVE = "a horse"
NEGATIVE_IDS = [49406, 320, 4558, 49407]

TINY_UNET = {"channels": 32, "norm_groups": 32, "res_blocks": 1}
TINY_VAE = {"channels": 32, "multipliers": (1, 1, 2, 2), "res_blocks": 1}
TINY_TEXT = {"width": 32, "depth": 3, "heads": 2, "mlp_width": 64}


def tiny(config: ModelConfig) -> ModelConfig:
    """`config` with few channels and layers, and everything else as published."""
    text = tuple(
        replace(part, **TINY_TEXT, projection_width=32 if part.projection_width else 0) for part in config.text
    )
    is_xl = len(text) == 2
    heads = {} if config.unet.heads else {"head_width": 8}
    unet = replace(
        config.unet,
        **TINY_UNET,
        **heads,
        multipliers=(1, 2, 2),
        transformer_depths=(0, 1, 2) if is_xl else (1, 1, 0),
        middle_depth=2 if is_xl else 1,
        context_width=32 * len(text),
        vector_width=32 + 6 * 256 if is_xl else 0,
    )
    return replace(config, unet=unet, vae=replace(config.vae, **TINY_VAE), text=text)


def engine_and_references(config: ModelConfig, seed: int = 0) -> tuple[TorchEngine, dict]:
    """An engine and the reference networks that share its weights."""
    references = {
        "unet": reference_unet(config.unet, seed),
        "vae": reference_vae(config.vae, seed + 1),
        "text": [reference_text(part, seed=20 + seed + index) for index, part in enumerate(config.text)],
    }
    with torch.device("meta"):
        unet, vae = UNet(config.unet), AutoencoderKL(config.vae)
        text = tuple(text_encoder(part) for part in config.text)
    unet.load_state_dict(unet_state(references["unet"].state_dict(), config.unet), assign=True)
    vae.load_state_dict(vae_state(references["vae"].state_dict(), config.vae), assign=True)
    for encoder, reference, part in zip(text, references["text"], config.text, strict=True):
        encoder.load_state_dict(text_state(reference.state_dict(), part), assign=True)
    engine = TorchEngine(
        config=config,
        device=torch.device("cpu"),
        precision=resolve_precision("fp32", torch.device("cpu")),
        unet=unet,
        vae=vae,
        text=text,
        files=EngineFiles(model=Path(), vae=Path(), loaders=Loaders()),
    )
    return engine, references


def reference_embeddings(references: dict, config: ModelConfig, ids: list[int]) -> tuple[Tensor, Tensor | None]:
    """Context and pooled vector by transformers, from published ids."""
    contexts, pooled = [], None
    for part, encoder in zip(config.text, references["text"], strict=True):
        row = torch.tensor([ids + [part.pad_id] * (77 - len(ids))])
        out = encoder(row, output_hidden_states=True)
        hidden = out.hidden_states[-part.skip]
        if part.has_final_norm:
            hidden = getattr(encoder, "text_model", encoder).final_layer_norm(hidden)
        contexts.append(hidden)
        pooled = getattr(out, "text_embeds", None)
    return torch.cat(contexts, dim=-1), pooled


def reference_latents(references: dict, config: ModelConfig, noise: Tensor, sampler: str) -> Tensor:
    """Latents by StableDiffusionPipeline or StableDiffusionXLPipeline."""
    import diffusers

    options = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    options["prediction_type"] = "v_prediction" if config.prediction is Prediction.V else "epsilon"
    if sampler == "Euler":
        scheduler = diffusers.EulerDiscreteScheduler(**options, use_karras_sigmas=True)
    else:
        scheduler = diffusers.DDIMScheduler(
            **options, clip_sample=False, set_alpha_to_one=False, steps_offset=1, timestep_spacing="leading"
        )
    context, pooled = reference_embeddings(references, config, PROMPT_IDS)
    negative, negative_pooled = reference_embeddings(references, config, NEGATIVE_IDS)
    call = {
        "prompt_embeds": context,
        "negative_prompt_embeds": negative,
        "latents": noise.clone(),
        "num_inference_steps": STEPS,
        "guidance_scale": 7.0,
        "width": 8 * noise.shape[3],
        "height": 8 * noise.shape[2],
        "output_type": "latent",
    }
    parts = {"vae": references["vae"], "unet": references["unet"], "scheduler": scheduler}
    if len(config.text) == 2:
        pipeline = diffusers.StableDiffusionXLPipeline(
            **parts,
            text_encoder=None,
            text_encoder_2=references["text"][1],
            tokenizer=None,
            tokenizer_2=None,
            add_watermarker=False,
        )
        call |= {"pooled_prompt_embeds": pooled, "negative_pooled_prompt_embeds": negative_pooled}
    else:
        pipeline = diffusers.StableDiffusionPipeline(
            **parts,
            text_encoder=references["text"][0],
            tokenizer=None,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(**call).images


def our_latents(engine: TorchEngine, noise: Tensor, sampler: str, schedule: str) -> Tensor:
    """Latents from the texts, by Hayate's own tokenizer, encoders, table and loop."""
    table = build(sampler, schedule, STEPS, scaled_linear())
    style = TextStyle(tokenizer=load_tokenizer(), width_px=8 * noise.shape[3], height_px=8 * noise.shape[2])
    prompts = (parse_prompt(PROMPT, STEPS), parse_prompt(NEGATIVE, STEPS, is_negative=True))
    guidance = build_guidance(engine, prompts, style, GuidanceScale(scale=7.0), table.rows)
    conditions = project_conditions(engine, table, guidance)
    first = LatentNoise(first=noise, draw=no_draw)
    return denoise(engine, table, guidance, conditions, first, on_row=lambda done, rows: None)


def no_draw(noise: object) -> Tensor:
    raise AssertionError(f"a deterministic sampler asked for {noise}")


@pytest.mark.parametrize(
    ("config", "sampler", "schedule"),
    [
        (SD1, "Euler", "Karras"),
        (SD1, "DDIM", "Automatic"),
        (SD2, "Euler", "Karras"),
        (replace(SD2, prediction=Prediction.V), "Euler", "Karras"),
        (SDXL, "Euler", "Karras"),
    ],
    ids=["sd1-euler", "sd1-ddim", "sd2-epsilon", "sd2-v", "sdxl-euler"],
)
def test_latents_equal_diffusers(config: ModelConfig, sampler: str, schedule: str) -> None:
    config = tiny(config)
    engine, references = engine_and_references(config)
    noise = torch.randn((2, 4, 16, 8), generator=torch.Generator().manual_seed(11))
    with torch.inference_mode():
        expected = torch.cat(
            [reference_latents(references, config, noise[i : i + 1], sampler) for i in range(len(noise))]
        )
    ours = our_latents(engine, noise, sampler, schedule)
    assert expected.std() > 0.1
    assert relative_error(ours, expected) <= 1e-3


def test_pictures_equal_diffusers_vae() -> None:
    config = tiny(SD1)
    engine, references = engine_and_references(config)
    latents = torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(3)) * config.vae.scale
    with torch.inference_mode():
        expected = references["vae"].decode(latents / config.vae.scale).sample
    levels = ((expected / 2 + 0.5).clamp(0, 1) * 255).round().permute(0, 2, 3, 1)
    assert (torch.from_numpy(decode_latents(engine, latents)).float() - levels).abs().max() <= 1
