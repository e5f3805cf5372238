"""Deep features used again: when, and what a shallow evaluation then computes, against diffusers with a hook in it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hayate.engines.reuse import DeepFeatures, FeatureReuse
from hayate.models.config import SD1, SD2, SDXL
from tests.models.reference import relative_error
from tests.pipeline.test_latents import engine_and_references, tiny


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("config", [SD1, SD2, SDXL], ids=["sd1", "sd2", "sdxl"])
@torch.inference_mode()
def test_a_shallow_evaluation_is_the_whole_one_with_the_deep_feature_of_another(config) -> None:
    config = tiny(config)
    engine, references = engine_and_references(config)
    context = normal(2, 77, config.unet.context_width, seed=1)
    vector, added = None, None
    if config.unet.vector_width:
        from diffusers.models.embeddings import get_timestep_embedding

        pooled, sizes = (
            normal(2, config.unet.vector_width - 6 * 256, seed=2),
            torch.tensor([[64.0, 64, 0, 0, 64, 64]] * 2),
        )
        embedded = get_timestep_embedding(sizes.flatten(), 256, flip_sin_to_cos=True, downscale_freq_shift=0)
        vector, added = torch.cat([pooled, embedded.view(2, -1)], dim=1), {"text_embeds": pooled, "time_ids": sizes}
    times = engine.project_times(torch.tensor([700.0, 650.0]), vector)
    contexts = engine.project_context(context)
    first, second = normal(2, 4, 16, 8, seed=3), normal(2, 4, 16, 8, seed=4)

    features = DeepFeatures()
    whole = engine.predict(first, times[0].expand(2, -1), contexts, features)
    shallow = engine.predict(second, times[1].expand(2, -1), contexts, features)

    theirs = references["unet"]
    channels = config.unet.channels * config.unet.multipliers[0]
    seen: list[Tensor] = []

    def keep_or_replace(_: object, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        joined, *rest = inputs
        deep = joined.shape[1] - channels  # the skip from the first convolution stands last
        seen.append(joined[:, :deep])
        return (torch.cat([seen[0], joined[:, deep:]], dim=1), *rest)

    theirs.up_blocks[-1].resnets[-1].register_forward_pre_hook(keep_or_replace)
    expected = [theirs(x, t, context, added_cond_kwargs=added).sample for x, t in ((first, 700), (second, 650))]
    assert relative_error(whole, expected[0]) <= 1e-5
    assert relative_error(shallow, expected[1]) <= 1e-5
    exact = engine.predict(second, times[1].expand(2, -1), contexts)
    assert relative_error(shallow, exact) > 1e-3


@torch.inference_mode()
def test_a_whole_evaluation_that_keeps_its_feature_is_the_plain_one_to_the_bit() -> None:
    engine, _ = engine_and_references(tiny(SD1))
    times = engine.project_times(torch.tensor([3.0]), None)[0]
    contexts = engine.project_context(normal(1, 77, engine.config.unet.context_width, seed=1))
    x = normal(1, 4, 8, 8, seed=2)
    assert torch.equal(engine.predict(x, times, contexts, DeepFeatures()), engine.predict(x, times, contexts))


@given(st.integers(2, 6), st.lists(st.tuples(st.sampled_from([2, 4]), st.sampled_from([0, 1])), min_size=1))
def test_features_are_used_again_only_where_they_fit(every: int, evaluations: list[tuple[int, int]]) -> None:
    """Never for another prompt or more inputs than they were computed for, and at most every − 1 times."""
    reuse = FeatureReuse(every)
    made_for: tuple[int, int] | None = None
    uses = 0
    for number, (inputs, variant) in enumerate(evaluations):
        features = reuse.next(inputs, variant)
        if features.deep is None:
            assert not reuse.is_reusing
            is_due = made_for is None or made_for[1] != variant or made_for[0] < inputs or uses == every - 1
            assert is_due, "whole without need"
            features.deep = torch.arange(inputs) + 100 * number
            made_for, uses, origin = (inputs, variant), 0, number
        else:
            uses += 1
            assert reuse.is_reusing
            assert made_for is not None
            assert made_for[1] == variant
            assert uses < every
            assert torch.equal(features.deep, torch.arange(inputs) + 100 * origin)
