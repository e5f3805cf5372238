"""A model that takes over: the latents of a plain loop over diffusers' networks of both, and where it begins."""

from __future__ import annotations

import bisect
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hayate.engines.reuse import FeatureReuse
from hayate.errors import UsageError
from hayate.models.config import SD1, SD2, SDXL, Family, ModelConfig, Prediction
from hayate.pipeline.encode import TextStyle, encode_texts
from hayate.pipeline.guards import Guard
from hayate.pipeline.job import Job
from hayate.pipeline.refine import check_space, refine, switch_row
from hayate.pipeline.resolve import resolve
from hayate.pipeline.text2image import sample, tell
from hayate.prompt.tokenizer import load_tokenizer
from hayate.request import Hires, TextToImage
from hayate.samplers.catalogue import build
from hayate.samplers.sigmas import scaled_linear, zero_terminal_snr
from hayate.settings import load_settings
from hayate.weights.detect import PUBLISHED
from tests.models.reference import relative_error
from tests.pipeline.test_latents import (
    NEGATIVE,
    NEGATIVE_IDS,
    PROMPT,
    PROMPT_IDS,
    engine_and_references,
    reference_embeddings,
    tiny,
)

STEPS, CFG, SEED = 10, 7.0, 5
HEIGHT, WIDTH = 64, 96


def tiny_refiner() -> ModelConfig:
    """SDXL's refiner with few channels: one text encoder, and one number beside the prompt instead of two."""
    config = tiny(PUBLISHED[Family.SDXL_REFINER])
    return replace(config, unet=replace(config.unet, vector_width=32 + 5 * 256))


class Model:
    """A tiny model as Hayate's engine and as diffusers' networks."""

    def __init__(self, config: ModelConfig, seed: int) -> None:
        self.config = config
        self.engine, self.references = engine_and_references(config, seed)

    def denoised(self, x: Tensor, sigma: float) -> Tensor:
        """The guided result of one evaluation, by diffusers' U-Net."""
        positive, negative = self._told(x, sigma, PROMPT_IDS, 6.0), self._told(x, sigma, NEGATIVE_IDS, 2.5)
        return negative + CFG * (positive - negative)

    def _told(self, x: Tensor, sigma: float, ids: list[int], score: float) -> Tensor:
        context, pooled = reference_embeddings(self.references, self.config, ids)
        timestep = torch.from_numpy(np.interp(np.log([sigma]), np.log(training_levels()), np.arange(1000.0))).float()
        more = {}
        if self.config.unet.vector_width:
            size = [HEIGHT, WIDTH, 0, 0]
            size += [score] if self.config.family is Family.SDXL_REFINER else [HEIGHT, WIDTH]
            told = {"text_embeds": pooled, "time_ids": torch.tensor([size], dtype=torch.float32)}
            more = {"added_cond_kwargs": told}
        root = (sigma**2 + 1) ** 0.5
        output = self.references["unet"](x / root, timestep, context, **more).sample
        return x / root**2 - sigma / root * output if self.config.prediction is Prediction.V else x - sigma * output


def training_levels() -> np.ndarray:
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    alphas = np.cumprod(1 - betas)
    return np.sqrt((1 - alphas) / alphas)


def karras_sigmas() -> list[float]:
    """Karras et al. 2022, equation 5, between the ends of Stable Diffusion's schedule, and zero."""
    low, high = training_levels()[[0, -1]] ** (1 / 7)
    return [*((high + np.linspace(0, 1, STEPS) * (low - high)) ** 7).tolist(), 0.0]


def first_late_step(at: float) -> int:
    """A1111's rule, a step at a time."""
    for step, sigma in enumerate(karras_sigmas()[:-1]):
        timestep = int(np.argmin(np.abs(training_levels() - sigma)))
        if (999 - timestep) / 1000 >= at:
            return step
    return STEPS


def plain_loop(models: tuple[Model, Model], sampler: str, at: float, x: Tensor) -> Tensor:
    """Euler's method, or DPM-Solver++(2M) with the result of the step before, whoever made that."""
    sigmas, before, last_h = karras_sigmas(), None, 0.0
    x = x * sigmas[0]
    for step, (sigma, after) in enumerate(itertools.pairwise(sigmas)):
        denoised = models[step >= first_late_step(at)].denoised(x, sigma)
        if sampler == "Euler":
            x = x + (x - denoised) / sigma * (after - sigma)
            continue
        if after == 0:
            return denoised
        h = np.log(sigma / after)
        better = denoised
        if before is not None:
            r = last_h / h
            better = (1 + 1 / (2 * r)) * denoised - before / (2 * r)
        x = after / sigma * x - np.expm1(-h) * better
        before, last_h = denoised, h
    return x


def refined_latents(models: tuple[Model, Model], sampler: str, at: float) -> tuple[Job, Tensor]:
    """Two batches one after the other, each by the first model until the second takes over."""
    base, refiner = models
    request = TextToImage(
        prompt=PROMPT,
        negative_prompt=NEGATIVE,
        sampler=sampler,
        scheduler="Karras",
        steps=STEPS,
        cfg=CFG,
        width_px=WIDTH,
        height_px=HEIGHT,
        seed=SEED,
        batch_count=2,
        noise_source="CPU",
        refiner="the other",
        refiner_switch_at=at,
    )
    job = resolve(request, load_settings({}, environment={}), base.config, refiner=refiner.config)
    guard = Guard(engine=base.engine)

    def enter(role: str) -> None:
        guard.engine = refiner.engine if role == "refiner" else base.engine

    guard.enter = enter
    told, found = tell(guard, job), []
    for seeds in job.batches():
        told, latents = sample(guard, job, told, seeds, lambda *_: None)
        found.append(latents)
    return job, torch.cat(found)


@pytest.mark.parametrize(
    ("configs", "sampler", "at"),
    [
        ((tiny(SD1), tiny(SD1)), "Euler", 0.8),
        ((tiny(SD1), tiny(SD1)), "DPM++ 2M", 0.35),
        ((tiny(SD1), replace(tiny(SD1), prediction=Prediction.V)), "Euler", 0.5),
        ((tiny(SD1), tiny(SD2)), "Euler", 0.5),
        ((tiny(SDXL), tiny_refiner()), "Euler", 0.8),
        ((tiny(SDXL), tiny_refiner()), "DPM++ 2M", 0.5),
    ],
    ids=["sd1-sd1", "sd1-sd1-2m", "sd1-v", "sd1-sd2", "sdxl-refiner", "sdxl-refiner-2m"],
)
@torch.inference_mode()
def test_latents_are_those_of_a_plain_loop_over_both(
    configs: tuple[ModelConfig, ModelConfig], sampler: str, at: float
) -> None:
    models = Model(configs[0], 0), Model(configs[1], 7)
    job, found = refined_latents(models, sampler, at)
    assert job.refined is not None
    assert 0 < job.refined.row == first_late_step(at) < STEPS
    for number, latents in enumerate(found.split(1)):
        noise = torch.randn((1, 4, HEIGHT // 8, WIDTH // 8), generator=torch.Generator().manual_seed(SEED + number))
        expected = plain_loop(models, sampler, at, noise)
        assert relative_error(latents, expected) <= 1e-3
        alone = plain_loop((models[0], models[0]), sampler, at, noise)
        assert relative_error(expected, alone) > 0.02, "the refiner makes a difference"


@pytest.mark.parametrize(("is_negative", "score"), [(False, 6.0), (True, 2.5)])
@torch.inference_mode()
def test_sdxls_refiner_is_told_of_size_corner_and_score(is_negative: bool, score: float) -> None:
    """By diffusers' embedding of the five numbers that its own pipeline gives the refiner."""
    from diffusers.models.embeddings import get_timestep_embedding

    model = Model(tiny_refiner(), 7)
    style = TextStyle(tokenizer=load_tokenizer(), width_px=WIDTH, height_px=HEIGHT)
    (found,) = encode_texts(model.engine, [PROMPT], style, is_negative=is_negative)
    _, pooled = reference_embeddings(model.references, model.config, PROMPT_IDS)
    numbers = torch.tensor([HEIGHT, WIDTH, 0.0, 0.0, score])
    told = get_timestep_embedding(numbers, 256, flip_sin_to_cos=True, downscale_freq_shift=0).flatten()
    assert pooled is not None
    assert found.vector is not None
    torch.testing.assert_close(found.vector, torch.cat([pooled[0], told]), atol=1e-4, rtol=1e-4)


LEVELS = scaled_linear().sigmas


@given(sigma=st.lists(st.floats(0.001, 40), min_size=1, max_size=12), at=st.floats(0.01, 1))
def test_the_switch_is_at_the_first_evaluation_that_is_late_enough(sigma: list[float], at: float) -> None:
    """By A1111's rule, a row at a time; also where a sampler goes back up."""
    late = []
    for level in sigma:
        above = min(bisect.bisect(LEVELS, level), 999)
        timestep = min((max(above - 1, 0), above), key=lambda t, level=level: abs(LEVELS[t] - level))
        late.append((999 - timestep) / 1000 >= at)
    assert switch_row(np.array(sigma), LEVELS, at) == (late.index(True) if True in late else None)


def test_ddim_switches_by_the_timesteps_that_it_names() -> None:
    """Its evaluations are at timesteps 951, 901, … 1: at 0.8 the first of 199 or less."""
    schedule = scaled_linear()
    table = build("DDIM", "Automatic", 20, schedule)
    row = switch_row(table.sigma, schedule.sigmas, 0.8)
    assert row is not None
    assert table.timestep[row] <= 199 < table.timestep[row - 1]


def test_no_row_is_late_enough_for_a_switch_at_the_very_end() -> None:
    schedule = scaled_linear()
    table = build("Euler", "Karras", 20, schedule)
    assert refine(table, 1.0, schedule, schedule) is None
    refined = refine(table, 0.999, schedule, schedule)
    assert refined is not None
    assert refined.row == 19


def test_a_refiner_of_other_noise_levels_is_told_its_own_timesteps() -> None:
    ours, theirs = scaled_linear(), zero_terminal_snr(scaled_linear())
    table = build("Euler", "Karras", 20, ours)
    same, other = refine(table, 0.5, ours, ours), refine(table, 0.5, ours, theirs)
    assert same is not None
    assert other is not None
    assert np.array_equal(same.table.timestep, table.timestep)
    np.testing.assert_allclose(theirs.t_to_sigma(other.table.timestep[1:]), table.sigma[1:], rtol=1e-9)
    assert np.array_equal(other.table.matrix, table.matrix), "the sampler goes on as it was"


def job_for(**asked: object) -> Job:
    request = TextToImage(**{"prompt": "x", "steps": 20, "refiner": "r", **asked})
    return resolve(request, load_settings({}, environment={}), SD1, refiner=SD1 if request.refiner else None)


def test_a_second_pass_alone_is_refined() -> None:
    """A1111's "Hires fix: which pass to enable refiner for" is the second one by default."""
    job = job_for(hires=Hires(denoising=0.7))
    assert job.second is not None
    assert job.refined is None
    assert job.second.refined is not None
    assert job_for().refined is not None
    deep = job_for(hires=Hires(denoising=0.1, steps=5)).second
    assert deep is not None
    assert deep.refined is not None
    assert deep.refined.row == 0, "such a pass begins so late that all of it is the refiner's"


@pytest.mark.parametrize(
    ("asked", "note"),
    [
        ({"refiner_switch_at": 1.0}, "switch at 1"),
        ({"hires": Hires(denoising=0.0)}, "does not act"),
        ({"refiner": None, "refiner_switch_at": 0.5}, "there is no refiner"),
    ],
)
def test_a_refiner_that_does_not_act_is_said(asked: dict[str, object], note: str) -> None:
    job = job_for(**asked)
    assert (job.second or job).refined is None
    assert not job.changes_models
    assert any(note in each for each in job.notes), job.notes


def test_models_of_one_latent_space_take_over_from_each_other() -> None:
    for base, other in ((SD1, SD2), (SD2, SD1), (SDXL, PUBLISHED[Family.SDXL_REFINER])):
        check_space(other, base, "the refiner", "--refiner")
    for base, other in ((SD1, SDXL), (SDXL, SD1), (SD1, PUBLISHED[Family.SDXL_REFINER])):
        with pytest.raises(UsageError, match="whose latents are not those of the model"):
            check_space(other, base, "the refiner", "--refiner")


def test_deep_features_of_one_model_are_not_used_by_the_next() -> None:
    reuse = FeatureReuse(3)
    kept = reuse.next(2, 0)
    kept.deep = torch.zeros(2, 1, 1, 1)
    assert reuse.next(2, 0).deep is not None
    assert reuse.is_reusing
    reuse.forget()
    assert reuse.next(2, 0).deep is None
    assert not reuse.is_reusing
