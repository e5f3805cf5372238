"""Conditioning and guidance on a tiny model, against direct formulas and transformers' own encoder."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hayate.models.config import SD1, SDXL
from hayate.pipeline.encode import TextStyle, apply_emphasis, encode_texts
from hayate.pipeline.guidance import GuidanceScale, build_guidance, combine, stage_index
from hayate.prompt.chunks import Emphasis
from hayate.prompt.schedule import Stage, parse_prompt
from hayate.prompt.tokenizer import load_tokenizer
from tests.pipeline.test_latents import PROMPT, PROMPT_IDS, engine_and_references, reference_embeddings, tiny

STEPS = 4


@pytest.fixture(scope="module")
def sd1():
    return engine_and_references(tiny(SD1))


@pytest.fixture(scope="module")
def sdxl():
    return engine_and_references(tiny(SDXL))


def style(**changes: object) -> TextStyle:
    return replace(TextStyle(tokenizer=load_tokenizer(), width_px=128, height_px=64), **changes)


def guidance(engine, text: str, negative: str = "", scale: GuidanceScale | None = None):
    prompts = (parse_prompt(text, STEPS), parse_prompt(negative, STEPS, is_negative=True))
    return build_guidance(engine, prompts, style(), scale or GuidanceScale(scale=7.0), STEPS)


def test_weights_multiply_the_encoders_output(sd1) -> None:
    engine, references = sd1
    plain, _ = reference_embeddings(references, engine.config, PROMPT_IDS)
    weights = torch.ones(1, 77)
    weights[0, 5] = 1.3  # "astronaut" is the fifth token after the start
    text = PROMPT.replace("astronaut", "(astronaut:1.3)")
    got = encode_texts(engine, [text], style(emphasis=Emphasis.NO_NORM))[0].context
    torch.testing.assert_close(got, (plain * weights[..., None])[0], rtol=1e-4, atol=1e-5)
    original = encode_texts(engine, [text], style(emphasis=Emphasis.ORIGINAL))[0].context
    torch.testing.assert_close(original.mean(), plain.mean(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(original / original[0, 0], got / got[0, 0], rtol=1e-3, atol=1e-4)
    ignored = encode_texts(engine, [text], style(emphasis=Emphasis.IGNORE))[0].context
    torch.testing.assert_close(ignored, plain[0], rtol=1e-4, atol=1e-5)


@given(st.sampled_from([Emphasis.IGNORE, Emphasis.NONE]), st.floats(0.1, 3))
def test_emphasis_that_is_off_changes_nothing(emphasis: Emphasis, weight: float) -> None:
    context = torch.randn(2, 77, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(apply_emphasis(context, torch.full((2, 77), weight), emphasis), context)


def test_clip_skip_is_the_reference_s_hidden_state(sd1) -> None:
    engine, references = sd1
    deeper = replace(engine.config, text=(replace(engine.config.text[0], skip=2),))
    expected, _ = reference_embeddings(references, deeper, PROMPT_IDS)
    got = encode_texts(engine, [PROMPT], style(clip_skip=2))[0].context
    torch.testing.assert_close(got, expected[0], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(got, encode_texts(engine, [PROMPT], style())[0].context, atol=1e-3)


def test_long_prompts_are_chunks_side_by_side(sd1) -> None:
    engine, _ = sd1
    first, second = "a photo of a horse", "an astronaut"
    both = encode_texts(engine, [f"{first} BREAK {second}"], style())[0].context
    apart = [encode_texts(engine, [text], style())[0].context for text in (first, second)]
    torch.testing.assert_close(both, torch.cat(apart))


def test_sdxl_vector_is_pooled_text_then_sizes(sdxl) -> None:
    from diffusers.models.embeddings import get_timestep_embedding

    engine, references = sdxl
    _, pooled = reference_embeddings(references, engine.config, PROMPT_IDS)
    sizes = torch.tensor([64.0, 128, 0, 0, 64, 128])
    embedded = get_timestep_embedding(sizes, 256, flip_sin_to_cos=True, downscale_freq_shift=0)
    vector = encode_texts(engine, [PROMPT], style())[0].vector
    torch.testing.assert_close(vector, torch.cat([pooled[0], embedded.flatten()]), rtol=1e-4, atol=1e-4)


def test_sdxl_empty_negative_prompt_is_zeros(sdxl) -> None:
    engine, _ = sdxl
    empty = encode_texts(engine, [""], style(), is_negative=True)[0]
    assert not empty.context.any()
    assert not empty.vector[:32].any()
    assert empty.vector[32:].any()
    assert encode_texts(engine, [""], style())[0].context.any()


def test_and_adds_weighted_differences() -> None:
    outputs = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weights = (7.0, 3.5, -1.0)
    guided, negative = combine(outputs, weights)
    expected = outputs[3] + sum(weight * (outputs[index] - outputs[3]) for index, weight in enumerate(weights))
    torch.testing.assert_close(guided, expected)
    assert torch.equal(negative, outputs[3])


def test_and_makes_one_batch_with_the_negative_prompt_last(sd1) -> None:
    engine, _ = sd1
    both = guidance(engine, "a cat AND a dog :0.5", "rain")
    assert both.batch == 3
    assert both.weights == (7.0, 3.5)
    for row, text in enumerate(("a cat", "a dog", "rain")):
        torch.testing.assert_close(both.variants[0].context[row], encode_texts(engine, [text], style())[0].context)


def test_scale_one_leaves_the_negative_prompt_out(sd1) -> None:
    engine, _ = sd1
    assert guidance(engine, "a cat", "rain", GuidanceScale(scale=1.0)).batch == 1
    assert guidance(engine, "a cat", "rain", GuidanceScale(scale=1.0, needs_negative=True)).batch == 2
    assert guidance(engine, "a cat :2", "rain", GuidanceScale(scale=1.0)).batch == 2


def test_shorter_prompt_is_padded_with_the_empty_prompt(sd1) -> None:
    engine, _ = sd1
    padded = guidance(engine, "a cat BREAK a dog", "rain")
    assert padded.has_padding
    empty = encode_texts(engine, [""], style())[0].context
    torch.testing.assert_close(padded.variants[0].context[1][77:], empty)
    assert not guidance(engine, "a cat", "rain").has_padding


def test_each_evaluation_sees_its_stage(sd1) -> None:
    engine, _ = sd1
    plan = guidance(engine, "[a cat:a dog:2] x", "rain")
    cat, dog = (encode_texts(engine, [f"{animal} x"], style())[0].context for animal in ("a cat", "a dog"))
    seen = [plan.variants[index].context[0] for index in plan.variant_of_evaluation]
    # A1111 counts evaluations from 0 and a stage lasts through the number it names: 0, 1 and 2 see the cat.
    for context, expected in zip(seen, (cat, cat, cat, dog), strict=True):
        torch.testing.assert_close(context, expected, rtol=1e-4, atol=1e-5)


def test_evaluations_past_the_last_stage_keep_it() -> None:
    stages = (Stage(until_step=1, text="a"), Stage(until_step=3, text="b"))
    assert [stage_index(stages, step) for step in range(6)] == [0, 0, 1, 1, 1, 1]
