"""Every way to merge beside its description in float64 numpy, and what must hold whatever the numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hayate.weights import merge_methods as methods
from hayate.weights.merge_smooth import smooth_add

SHAPES = ((7,), (5, 9), (6, 120), (4, 3, 3, 3), (8, 4, 1, 1))
CLOSE = {"rtol": 0, "atol": 1e-6}
RATIOS = st.floats(-1, 2, width=32)
SEEDS = st.integers(0, 2**31)


def models(shape: tuple[int, ...], seed: int = 0, count: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(shape, generator=generator) * 0.3
    return [common + torch.randn(shape, generator=generator) * 0.1 for _ in range(count)]


def doubles(*tensors: Tensor) -> list[np.ndarray]:
    return [tensor.double().numpy() for tensor in tensors]


def assert_equals(found: Tensor, wanted: np.ndarray) -> None:
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.double().numpy(), wanted, **CLOSE)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("alpha", "beta"), [(0.35, 0.2), (0.0, 1.0), (1.0, 0.0), (-0.4, 1.3)])
def test_sums_and_differences_are_their_formulas(shape: tuple[int, ...], alpha: float, beta: float) -> None:
    a, b, c = models(shape)
    x, y, z = doubles(a, b, c)
    assert_equals(methods.weighted_sum(a, b, alpha), x * (1 - alpha) + y * alpha)
    assert_equals(methods.add_difference(a, b, c, alpha), x + alpha * (y - z))
    assert_equals(methods.triple_sum(a, b, c, alpha, beta), x * (1 - alpha - beta) + y * alpha + z * beta)
    assert_equals(methods.sum_twice(a, b, c, alpha, beta), (x * (1 - alpha) + y * alpha) * (1 - beta) + z * beta)
    assert_equals(methods.scaled(a, alpha), x * alpha if alpha else x)


@pytest.mark.parametrize("shape", SHAPES)
def test_train_difference_weighs_by_the_distances_of_each_number(shape: tuple[int, ...]) -> None:
    a, b, c = models(shape)
    b.flatten()[0] = c.flatten()[0]
    x, y, z = doubles(a, b, c)
    wanted = x.copy()
    for place in np.ndindex(*shape):
        near, far = abs(y[place] - z[place]), abs(y[place] - x[place])
        if near + far:
            wanted[place] += 0.7 * 1.8 * np.sign(y[place] - z[place]) * near * far / (near + far)
    assert_equals(methods.train_difference(a, b, c, 0.7), wanted)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("alpha", "beta", "gamma"), [(0.0, 0.0, 1.0), (0.3, 1.0, 2.0), (1.0, 0.4, 0.0)])
def test_extract_is_its_formula(shape: tuple[int, ...], alpha: float, beta: float, gamma: float) -> None:
    a, b, c = models(shape)
    x, y, z = doubles(a, b, c)
    first, second = y - x, z - x
    dots = (first * second).sum(-1, keepdims=True)
    norms = np.sqrt((first**2).sum(-1, keepdims=True) * (second**2).sum(-1, keepdims=True))
    common = ((1 + dots / norms) / 2) ** gamma
    wanted = x + (first * (1 - alpha) + second * alpha) * (common * (1 - beta) + (1 - common) * beta)
    assert_equals(methods.extract(a, b, c, alpha, beta=beta, gamma=gamma), wanted)


@pytest.mark.parametrize("shape", SHAPES)
def test_smooth_add_is_scipys_median_and_gaussian(shape: tuple[int, ...]) -> None:
    a, b, c = models(shape)
    x, y, z = doubles(a, b, c)
    wanted = scipy.ndimage.gaussian_filter(scipy.ndimage.median_filter(y - z, size=3), sigma=1)
    assert_equals(smooth_add(a, b, c, 0.8), x + 0.8 * wanted)


def test_smooth_add_is_the_same_however_many_rows_it_takes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, c = models((11, 6, 3, 3))
    at_once = smooth_add(a, b, c, 1.0)
    monkeypatch.setattr("hayate.weights.merge_smooth._STACKED", 81 * 6 * 9 * 2)
    assert torch.equal(smooth_add(a, b, c, 1.0), at_once)


def columns(array: np.ndarray) -> np.ndarray:
    return array.reshape(len(array), -1)


def similarity_by_hand(x: np.ndarray, y: np.ndarray, is_normalised: bool) -> np.ndarray:
    """The mean of each column's cosine and the whole tensor's, one column after the other."""
    left, right = columns(x), columns(y)
    cosines = np.array(
        [
            left[:, k] @ right[:, k] / np.sqrt(left[:, k] @ left[:, k] * (right[:, k] @ right[:, k]))
            for k in range(left.shape[1])
        ]
    )
    if is_normalised:
        left, right = (each / np.sqrt((each**2).sum(0)) for each in (left, right))
    whole = (left * right).sum() / np.sqrt((left**2).sum() * (right**2).sum())
    return ((cosines + whole) / 2).reshape(x.shape[1:])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("is_normalised", [True, False])
def test_cosine_modes_follow_the_similarity_of_each_column(shape: tuple[int, ...], is_normalised: bool) -> None:
    a, b, _ = models(shape)
    x, y = doubles(a, b)
    span = (0.2, 1.1)
    share = np.clip((similarity_by_hand(x, y, is_normalised) - span[0]) / (span[1] - span[0]) - 0.3, 0, 1)
    merge = methods.cosine_a if is_normalised else methods.cosine_b
    assert_equals(merge(a, b, 0.3, span), y * (1 - share) + x * share)


def test_the_span_leaves_out_the_outermost_hundredths() -> None:
    found = np.random.default_rng(0).normal(size=1234)
    left = found[found >= np.percentile(found, 1, method="midpoint")]
    left = left[left <= np.percentile(left, 99, method="midpoint")]
    low, high = methods.similarity_span([torch.tensor(found[:1000]), torch.tensor(found[1000:])])
    assert (low, high) == (left.min(), left.max())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("alpha", "beta"), [(0.3, 0.2), (0.5, 0.5), (0.6, 0.7), (1.0, 0.0), (0.0, 0.4)])
def test_tensor_modes_take_slices_and_begin_again_at_the_end(shape: tuple[int, ...], alpha: float, beta: float) -> None:
    a, b, _ = models(shape)
    x, y = doubles(a, b)
    wide = len(shape) > 1 and shape[1] > 100
    for merge, dim in ((methods.tensor_rows, 0), (methods.tensor_columns, 1 if wide else 0)):
        size = shape[dim]
        wanted, other = np.moveaxis(x.copy(), dim, 0), np.moveaxis(y, dim, 0)
        if alpha + beta <= 1:
            chosen = range(int(size * beta), int(size * (alpha + beta)))
        else:
            chosen = sorted({*range(size)} - {*range(int(size * (alpha + beta - 1)), int(size * beta))})
        for row in chosen:
            wanted[row] = other[row]
        assert_equals(merge(a, b, alpha, beta), np.moveaxis(wanted, 0, dim))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("keep", [0.2, 0.5, 1.0])
def test_ties_trims_elects_and_averages(shape: tuple[int, ...], keep: float) -> None:
    a, *others = models(shape, count=4)
    x, *arrays = doubles(a, *others)
    changes = []
    for array in arrays:
        change = (array - x).flatten()
        count = max(1, round(keep * change.size))
        for place in np.argsort(abs(change))[: change.size - count]:
            change[place] = 0
        changes.append(change)
    wanted = np.zeros(x.size)
    for place in range(x.size):
        sign = np.sign(sum(change[place] for change in changes))
        agreeing = [change[place] for change in changes if change[place] * sign > 0]
        wanted[place] = np.mean(agreeing) if agreeing else 0
    assert_equals(methods.ties(a, others, 0.6, keep), x + 0.6 * wanted.reshape(shape))


@pytest.mark.parametrize("shape", SHAPES)
def test_dare_drops_and_rescales(shape: tuple[int, ...]) -> None:
    a, b, c = models(shape)
    x, y, z = doubles(a, b, c)
    masks = [methods.kept_at_random(shape, 0.6, methods.generator_for(1, "w", number)) for number in range(2)]
    kept = [mask.numpy().astype(float) for mask in masks]
    wanted = x + 0.5 * (kept[0] * (y - x) + kept[1] * (z - x)) / 0.4
    assert_equals(methods.dare(a, [b, c], 0.5, 0.6, masks), wanted)


def test_what_dare_keeps_depends_on_the_seed_and_the_tensor_and_has_the_asked_share() -> None:
    kept = methods.kept_at_random((1000, 1000), 0.9, methods.generator_for(7, "w", 0))
    assert abs(float(kept.float().mean()) - 0.1) < 4 * math.sqrt(0.09 / 1e6)
    assert torch.equal(kept, methods.kept_at_random((1000, 1000), 0.9, methods.generator_for(7, "w", 0)))
    for other in ((8, "w", 0), (7, "v", 0), (7, "w", 1)):
        again = methods.kept_at_random((1000, 1000), 0.9, methods.generator_for(*other))
        assert abs(float((again & kept).float().mean()) - 0.01) < 4 * math.sqrt(0.01 / 1e6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
def test_slerp_is_shoemakes_formula(shape: tuple[int, ...], alpha: float) -> None:
    a, b, _ = models(shape)
    x, y = doubles(a, b)
    angle = math.acos((x * y).sum() / math.sqrt((x * x).sum() * (y * y).sum()))
    wanted = (math.sin((1 - alpha) * angle) * x + math.sin(alpha * angle) * y) / math.sin(angle)
    assert_equals(methods.slerp(a, b, alpha), wanted)


@given(SEEDS, RATIOS)
@settings(deadline=None, max_examples=40)
def test_the_ends_of_a_sum_are_its_models_and_its_sides_can_be_changed(seed: int, alpha: float) -> None:
    a, b, c = models((4, 5), seed)
    assert torch.equal(methods.weighted_sum(a, b, 0.0), a)
    assert torch.equal(methods.weighted_sum(a, b, 1.0), b)
    assert torch.equal(methods.triple_sum(a, b, c, 0.0, 0.0), a)
    assert torch.equal(methods.sum_twice(a, b, c, alpha, 1.0), c)
    torch.testing.assert_close(methods.weighted_sum(a, b, alpha), methods.weighted_sum(b, a, 1 - alpha), **CLOSE)
    torch.testing.assert_close(
        methods.triple_sum(a, b, c, alpha, 0.2), methods.triple_sum(a, c, b, 0.2, alpha), **CLOSE
    )
    torch.testing.assert_close(methods.slerp(a, b, alpha), methods.slerp(b, a, 1 - alpha), **CLOSE)


@given(SEEDS, st.floats(0, 1, width=32), st.floats(0, 1, width=32))
@settings(deadline=None, max_examples=40)
def test_a_model_merged_with_itself_is_itself(seed: int, alpha: float, beta: float) -> None:
    (a,) = models((5, 6), seed, count=1)
    masks = [methods.kept_at_random(a.shape, 0.5, methods.generator_for(seed, "w", 0))]
    for merged in (
        methods.weighted_sum(a, a, alpha),
        methods.add_difference(a, a, a, alpha),
        methods.triple_sum(a, a, a, alpha, beta),
        methods.sum_twice(a, a, a, alpha, beta),
        methods.train_difference(a, a, a, alpha),
        methods.extract(a, a, a, alpha, beta=beta, gamma=1.0),
        smooth_add(a, a, a, alpha),
        methods.cosine_a(a, a, alpha, (0.1, 0.9)),
        methods.cosine_b(a, a, alpha, (1.0, 1.0)),
        methods.tensor_rows(a, a, alpha, beta),
        methods.ties(a, [a, a], alpha, 0.2),
        methods.dare(a, [a], alpha, 0.5, masks),
        methods.slerp(a, a, alpha),
    ):
        torch.testing.assert_close(merged, a, **CLOSE)


@given(SEEDS)
@settings(deadline=None, max_examples=25)
def test_whatever_adds_to_a_adds_nothing_at_zero(seed: int) -> None:
    a, b, c = models((5, 6), seed)
    masks = [methods.kept_at_random(a.shape, 0.5, methods.generator_for(seed, "w", 0))]
    for merged in (
        methods.add_difference(a, b, c, 0.0),
        methods.train_difference(a, b, c, 0.0),
        smooth_add(a, b, c, 0.0),
        methods.ties(a, [b, c], 0.0, 0.5),
        methods.dare(a, [b], 0.0, 0.5, masks),
        methods.tensor_rows(a, b, 0.0, 0.3),
        methods.slerp(a, b, 0.0),
    ):
        assert torch.equal(merged, a)


@given(SEEDS, st.floats(0, 1, width=32))
@settings(deadline=None, max_examples=25)
def test_ties_of_all_numbers_and_dare_of_none_dropped_are_sums(seed: int, alpha: float) -> None:
    a, b, c = models((5, 6), seed)
    wanted = methods.weighted_sum(a, b, alpha)
    torch.testing.assert_close(methods.ties(a, [b], alpha, 1.0), wanted, **CLOSE)
    torch.testing.assert_close(methods.dare(a, [b], alpha, 0.0, [torch.ones_like(a).bool()]), wanted, **CLOSE)
    torch.testing.assert_close(methods.ties(a, [b, c], alpha, 0.3), methods.ties(a, [c, b], alpha, 0.3), **CLOSE)


@given(SEEDS, st.floats(0, 1, width=32))
@settings(deadline=None, max_examples=25)
def test_slerp_keeps_the_norm(seed: int, alpha: float) -> None:
    a, b, _ = models((5, 6), seed)
    b = b * (a.norm() / b.norm())
    torch.testing.assert_close(methods.slerp(a, b, alpha).norm(), a.norm(), rtol=1e-5, atol=0)


@given(SEEDS, st.floats(0, 1, width=32), st.floats(0, 1, width=32))
@settings(deadline=None, max_examples=25)
def test_tensor_takes_its_share_of_rows_and_leaves_the_others(seed: int, alpha: float, beta: float) -> None:
    a, b, _ = models((20, 3), seed)
    merged = methods.tensor_rows(a, b, alpha, beta)
    from_b = (merged == b).all(1)
    assert bool(((merged == a).all(1) | from_b).all())
    assert abs(int(from_b.sum()) - 20 * alpha) <= 1


def test_zeros_make_no_nan() -> None:
    a, b, _ = models((4, 5))
    a[:, 0] = b[:, 0] = 0
    none = torch.zeros(4, 5)
    for merged in (
        methods.cosine_a(a, b, 0.2, (0.0, 1.0)),
        methods.cosine_b(none, b, 0.2, (0.0, 1.0)),
        methods.train_difference(none, none, none, 1.0),
        methods.extract(none, none, b, 0.5, beta=0.0, gamma=1.0),
        methods.slerp(none, b, 0.5),
        methods.ties(none, [none], 1.0, 0.2),
    ):
        assert bool(merged.isfinite().all())


def test_no_argument_is_changed() -> None:
    kept = models((6, 120))
    a, b, c = (each.clone() for each in kept)
    mask = [methods.kept_at_random(a.shape, 0.5, methods.generator_for(0, "w", 0))]
    methods.weighted_sum(a, b, 0.5), methods.add_difference(a, b, c, 0.5), methods.triple_sum(a, b, c, 0.5, 0.1)
    methods.sum_twice(a, b, c, 0.5, 0.1), methods.train_difference(a, b, c, 0.5), methods.scaled(a, 0.5)
    methods.extract(a, b, c, 0.5, beta=0.1, gamma=1.0), smooth_add(a, b, c, 0.5), methods.slerp(a, b, 0.5)
    methods.tensor_rows(a, b, 0.5, 0.7), methods.tensor_columns(a, b, 0.5, 0.7)
    methods.cosine_a(a, b, 0.5, (0, 1)), methods.cosine_b(a, b, 0.5, (0, 1))
    methods.ties(a, [b, c], 0.5, 0.5), methods.dare(a, [b], 0.5, 0.5, mask)
    assert all(torch.equal(one, other) for one, other in zip((a, b, c), kept, strict=True))
