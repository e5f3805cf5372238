"""Token merging, against loops over single tokens in float64 and against whole attention where both must agree."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hayate.models.config import SD1, SD2, SDXL
from hayate.models.layers import scaled_dot_product
from hayate.models.unet import SelfAttention, UNet
from hayate.runtime.fused import fuse_projections
from hayate.runtime.merging import TokenMerging, destinations, match, set_merging
from tests.pipeline.test_latents import tiny

CPU = torch.device("cpu")
SIZES = st.tuples(st.integers(1, 7), st.integers(1, 7))


def normal(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def naive_groups(x: Tensor, size: tuple[int, int], ratio: float) -> list[list[int]]:
    """The groups of one input's tokens, one at a time: the `ratio`·N best matches join the destination they match."""
    stay, move = (part.tolist() for part in destinations(*size, CPU))
    likeness = {m: {s: float(torch.cosine_similarity(x[m], x[s], dim=0)) for s in stay} for m in move}
    nearest = {m: max(stay, key=lambda s, m=m: likeness[m][s]) for m in move}
    ranked = sorted(move, key=lambda m: -likeness[m][nearest[m]])
    joining = ranked[: min(int(len(x) * ratio), len(move))]
    groups = {s: [s] for s in stay} | {m: [m] for m in move if m not in joining}
    for m in joining:
        groups[nearest[m]].append(m)
    return list(groups.values())


@settings(max_examples=60, deadline=None)
@given(SIZES, st.floats(0, 0.75), st.integers(0, 1000))
def test_tokens_stand_together_as_the_paper_says(size: tuple[int, int], ratio: float, seed: int) -> None:
    x = normal(2, size[0] * size[1], 6, seed=seed)
    merged = match(x, size, ratio)
    got = merged.spread(merged.merge(x))
    for image, result in zip(x, got, strict=True):
        groups = naive_groups(image, size, ratio)
        assert merged.rows == len(groups)
        for group in groups:
            expected = image[group].mean(dim=0).expand(len(group), -1)
            torch.testing.assert_close(result[group], expected)


@given(SIZES)
def test_each_two_by_two_has_one_destination(size: tuple[int, int]) -> None:
    stay, move = destinations(*size, CPU)
    cells = {(int(token) // size[1] // 2, int(token) % size[1] // 2) for token in stay}
    assert len(cells) == len(stay) == -(-size[0] // 2) * -(-size[1] // 2)
    assert sorted([*stay.tolist(), *move.tolist()]) == list(range(size[0] * size[1]))


def test_destinations_are_the_same_again_and_draw_from_nobodys_generator() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = destinations(6, 10, CPU)
    destinations.cache_clear()
    again = destinations(6, 10, CPU)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert len(set((first[0] % 10 % 2).tolist())) == 2  # not one column of every cell: that would show as a grid


@pytest.mark.parametrize("is_fused", [False, True])
def test_merging_tokens_that_are_equal_changes_nothing(is_fused: bool) -> None:
    """Four equal keys weigh in a softmax as much as one where every key is there four times."""
    holder = nn.Sequential(SelfAttention(16, 2, scaled_dot_product)).double()
    if is_fused:
        fuse_projections(holder)
    small = normal(2, 16, 3, 4)
    x = small.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3).flatten(2).transpose(1, 2)
    residual = normal(*x.shape, seed=4)
    merging = TokenMerging(0.75)
    with torch.inference_mode():
        got, expected = merging(holder[0], x, residual, (6, 8)), holder[0](x, residual)
    torch.testing.assert_close(got, expected)
    assert merging.tokens == 2 * 36
    assert merging.evidence().active


def test_a_ratio_that_merges_no_token_is_no_evidence() -> None:
    merging = TokenMerging(0.1)
    attend = SelfAttention(4, 1, scaled_dot_product).double()
    x = normal(1, 4, 4)
    torch.testing.assert_close(merging(attend, x, x, (2, 2)), attend(x, x))
    assert not merging.evidence().active


@pytest.mark.parametrize("config", [SD1, SD2, SDXL], ids=["sd1", "sd2", "sdxl"])
def test_the_largest_maps_and_they_alone_are_merged(config) -> None:
    unet = UNet(tiny(config).unet)
    lengths: list[int] = []
    for module in unet.modules():
        if isinstance(module, SelfAttention):
            module.register_forward_pre_hook(lambda _, inputs: lengths.append(inputs[0].shape[1]))
    width = unet.config.vector_width
    inputs = (torch.randn(1, 4, 16, 8), torch.tensor([5.0]), torch.randn(1, 77, unet.config.context_width))
    vector = torch.randn(1, width) if width else None
    with torch.inference_mode():
        plain = unet(*inputs, vector)
        whole, lengths[:] = list(lengths), []
        merging = TokenMerging(0.5)
        count = set_merging(unet, merging)
        merged = unet(*inputs, vector)
        largest = max(whole)
        assert lengths == [length // 2 if length == largest else length for length in whole]
        assert count == merging.calls == whole.count(largest)
        assert not torch.allclose(merged, plain)
        set_merging(unet, None)
        assert torch.equal(unet(*inputs, vector), plain)
