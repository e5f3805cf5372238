"""What the loop leaves out: which evaluations, what they then see, and that it is counted and written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hayate.engines.reuse import FeatureReuse
from hayate.engines.torch import TorchEngine, load_engine
from hayate.models.config import SD1, SDXL, Family
from hayate.pipeline.acted import Acted
from hayate.pipeline.denoise import LatentNoise, denoise, project_conditions
from hayate.pipeline.encode import TextStyle
from hayate.pipeline.guards import Guard
from hayate.pipeline.guidance import GuidanceScale, build_guidance, combine, unguided
from hayate.pipeline.infotext import format_infotext, parse_infotext
from hayate.pipeline.parameters import describe
from hayate.pipeline.text2image import tell
from hayate.prompt.schedule import parse_prompt
from hayate.prompt.tokenizer import load_tokenizer
from hayate.runtime.approximate import Approximate
from hayate.runtime.precision import resolve_precision
from hayate.samplers.catalogue import build
from hayate.samplers.sigmas import scaled_linear
from tests.models.reference import relative_error
from tests.pipeline.faulty import CPU, job_of, pictures_of
from tests.pipeline.test_latents import engine_and_references, no_draw, tiny
from tests.tiny_models import write_tiny

STEPS = 6
NEVER = Approximate(guidance_interval=(1e6, 2e6))
INTERVALS = st.tuples(st.floats(0, 20), st.floats(0, 20)).map(lambda ends: (min(ends), max(ends) + 1e-3))


@dataclass(kw_only=True)
class Witness:
    """An engine that writes down how many inputs and which contexts each evaluation had."""

    inner: TorchEngine
    inputs: list[int] = field(default_factory=list)
    contexts: list[Tensor] = field(default_factory=list)

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def predict(self, x: Tensor, times: Tensor, contexts: Sequence[Tensor], *features: object) -> Tensor:
        assert len(x) == len(times) == len(contexts[0])
        self.inputs.append(len(x))
        self.contexts.append(contexts[0])
        return self.inner.predict(x, times, contexts, *features)


@pytest.fixture(scope="module")
def sd1():
    return engine_and_references(tiny(SD1))[0]


@pytest.fixture(scope="module")
def sdxl():
    return engine_and_references(tiny(SDXL))[0]


def latents(
    engine, methods: Approximate, *, prompt: str = "a cat", scale: float = 7.0, images: int = 2, acted=None
) -> Tensor:
    """The latents of the whole loop on a tiny model."""
    table = build("Euler", "Karras", STEPS, scaled_linear())
    style = TextStyle(tokenizer=load_tokenizer(), width_px=64, height_px=64)
    prompts = (parse_prompt(prompt, STEPS), parse_prompt("rain", STEPS, is_negative=True))
    guidance = build_guidance(engine, prompts, style, GuidanceScale(scale=scale), table.rows)
    guidance = guidance.limited(table.sigma, methods)
    noise = torch.randn((images, 4, 8, 8), generator=torch.Generator().manual_seed(11))
    reuse = FeatureReuse(methods.deepcache) if methods.deepcache > 1 else None
    first = LatentNoise(first=noise, draw=no_draw)
    conditions = project_conditions(engine, table, guidance)
    return denoise(engine, table, guidance, conditions, first, on_row=lambda done, rows: None, reuse=reuse, acted=acted)


@given(st.lists(st.floats(0.01, 20), min_size=1, max_size=12), INTERVALS, st.floats(0, 20))
def test_evaluations_are_spared_by_their_noise_level(sigmas: list[float], interval, below: float) -> None:
    methods = Approximate(guidance_interval=interval, s_min_uncond=below)
    found = unguided(np.array(sigmas), methods)
    for number, sigma in enumerate(sigmas):
        is_inside = interval[0] <= sigma <= interval[1]
        is_ngms = number % 2 == 1 and sigma < below  # A1111: steps 1, 3, 5 …, from 0
        assert (number in found) == (is_ngms or not is_inside)


def test_karras_levels_of_ten_steps_published_by_their_paper() -> None:
    """σ_i of Karras et al. 2022, eq. 5, with ρ 7 between SD1's ends: which are inside (0.28, 5.42] is arithmetic."""
    low, high, steps = 0.0291675, 14.614642, 10
    ramp = np.linspace(0, 1, steps)
    sigmas = (high ** (1 / 7) + ramp * (low ** (1 / 7) - high ** (1 / 7))) ** 7
    table = build("Euler", "Karras", steps, scaled_linear())
    expected = {number for number, sigma in enumerate(sigmas) if not 0.28 < sigma <= 5.42}
    assert unguided(table.sigma, Approximate(guidance_interval=(0.28, 5.42))) == expected
    assert 0 < len(expected) < steps


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("model", ["sd1", "sdxl"])
def test_guidance_that_never_acts_is_scale_one(model, images, request) -> None:
    engine = request.getfixturevalue(model)
    unlimited = latents(engine, Approximate(), scale=1.0, images=images)
    assert relative_error(latents(engine, NEVER, images=images), unlimited) <= 1e-4
    assert relative_error(latents(engine, Approximate(), images=images), unlimited) > 1e-2


def test_an_interval_that_takes_in_everything_changes_no_bit(sd1) -> None:
    everything = Approximate(guidance_interval=(0.0, float("inf")))
    assert torch.equal(latents(sd1, everything), latents(sd1, Approximate()))


def test_spared_evaluations_have_half_the_inputs_and_are_counted(sd1) -> None:
    witness, acted = Witness(inner=sd1), Acted()
    methods = Approximate(s_min_uncond=100.0)
    latents(witness, methods, acted=acted)
    assert witness.inputs == [4, 2] * (STEPS // 2)
    [line] = acted.evidence(methods)
    assert line.active
    assert line.detail.startswith(f"{STEPS // 2} of {STEPS} ")


def test_spared_evaluations_see_their_stage_of_the_prompt(sd1) -> None:
    plain, spared = Witness(inner=sd1), Witness(inner=sd1)
    latents(plain, Approximate(), prompt="[a cat:a dog:2] x")
    latents(spared, NEVER, prompt="[a cat:a dog:2] x")
    assert not torch.equal(plain.contexts[0], plain.contexts[-1])
    for with_negative, alone in zip(plain.contexts, spared.contexts, strict=True):
        assert torch.equal(with_negative[: len(alone)], alone)
        assert len(alone) == 2


@given(st.lists(st.floats(-2, 2), min_size=1, max_size=4), st.integers(0, 100))
def test_without_the_negative_prompt_the_first_stands_in_for_it(weights: list[float], seed: int) -> None:
    """A1111's formula: Dᵤ + Σ wᵢ·(Dᵢ − Dᵤ), with Dᵤ = D₀."""
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn((len(weights), 2, 4, 3, 3), generator=generator, dtype=torch.float64)
    expected = outputs[0] + sum(w * (o - outputs[0]) for w, o in zip(weights, outputs, strict=True))
    guided, negative = combine(outputs, weights)
    torch.testing.assert_close(guided, expected)
    assert torch.equal(negative, outputs[0])


def test_composed_prompts_are_spared_the_negative_one_alone(sd1) -> None:
    witness = Witness(inner=sd1)
    latents(witness, NEVER, prompt="a cat AND a dog :0.5", images=1)
    assert witness.inputs == [2] * STEPS


def test_deep_features_end_with_their_batch(tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    write_tiny(path, Family.SD1, seed=5)
    engine = load_engine(path, CPU, resolve_precision("fp32", CPU))
    methods = Approximate(deepcache=2)
    both = pictures_of(engine, job_of(path, seed=7, batch_count=2).with_approximate(methods))
    alone = pictures_of(engine, job_of(path, seed=8).with_approximate(methods))
    exact = pictures_of(engine, job_of(path, seed=8))
    assert np.array_equal(both[1], alone[0])
    assert not np.array_equal(alone, exact)


def test_a_batch_in_parts_uses_the_features_of_each_part(sd1) -> None:
    methods = Approximate(deepcache=3, s_min_uncond=100.0)
    whole, acted = latents(sd1, methods), Acted()
    guard = Guard(engine=sd1, inputs_at_once=1)
    assert relative_error(latents(guard, methods, acted=acted), whole) <= 1e-3  # other batches, other rounding
    assert relative_error(latents(sd1, Approximate()), whole) > 1e-2
    assert acted.reused > 0
    assert guard.parts > STEPS


def test_deep_features_act_beside_a_changing_prompt_and_are_counted(sd1) -> None:
    acted, methods = Acted(), Approximate(deepcache=3)
    latents(sd1, methods, prompt="[a cat:a dog:2] x", acted=acted)
    assert (acted.evaluations, acted.reused) == (STEPS, 4)  # whole: 0, and 3 for the new prompt
    [line] = acted.evidence(methods)
    assert line.active


def job(tmp_path: Path, **asked: object):
    path = tmp_path / "tiny.safetensors"
    if not path.exists():
        write_tiny(path, Family.SD1)
    return path, job_of(path, **asked)


def test_samplers_that_need_the_negative_prompt_keep_it_and_say_so(tmp_path: Path) -> None:
    methods = Approximate(guidance_interval=(0.3, 5.0), s_min_uncond=1.0, deepcache=2)
    _, plain = job(tmp_path, sampler="DDIM CFG++")
    limited = plain.with_approximate(methods)
    assert limited.approximate == Approximate(deepcache=2)
    assert [note for note in limited.notes if "DDIM CFG++ needs the negative prompt" in note]


def test_without_guidance_there_is_nothing_to_limit(tmp_path: Path) -> None:
    _, plain = job(tmp_path, cfg=1.0)
    limited = plain.with_approximate(NEVER)
    assert limited.approximate == Approximate()
    assert len(limited.notes) == len(plain.notes) + 1


def test_the_infotext_has_a1111s_keys(tmp_path: Path) -> None:
    path, plain = job(tmp_path)
    methods = Approximate(guidance_interval=(0.3, 5.0), s_min_uncond=1.0, deepcache=3, tome=0.5, tiny_vae=Path("x"))
    engine = load_engine(path, CPU, resolve_precision("fp32", CPU))
    limited = plain.with_approximate(methods)
    guidance = tell(Guard(engine=engine), limited).guidance
    keys = parse_infotext(format_infotext(describe(limited, guidance, 0, {}))).parameters
    assert {name: keys[name] for name in ("NGMS", "Token merging ratio", "VAE Decoder")} == {
        "NGMS": "1",
        "Token merging ratio": "0.5",
        "VAE Decoder": "TAESD",
    }
    assert keys["Guidance interval"] == "0.3-5"
    assert keys["DeepCache"] == "3"
    exact = parse_infotext(format_infotext(describe(plain, replace(guidance), 0, {}))).parameters
    assert not {"NGMS", "Token merging ratio", "VAE Decoder", "Guidance interval", "DeepCache"} & set(exact)
