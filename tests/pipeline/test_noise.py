from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
import torchsde
from hypothesis import given, settings
from hypothesis import strategies as st

from hayate.errors import UsageError
from hayate.pipeline.brownian import BrownianNoise, BrownianTree
from hayate.pipeline.noise import (
    BatchNoise,
    NoiseRequest,
    NoiseSource,
    brownian_noise,
    noise_for,
    paste_centred,
    resolve_source,
    slerp,
)
from hayate.pipeline.philox import philox_randn
from hayate.samplers.catalogue import build
from hayate.samplers.sigmas import scaled_linear

CPU = torch.device("cpu")
SHAPE = (4, 6, 5)
SOURCES = [NoiseSource.CPU, NoiseSource.NV]

# torch.randn(8, 8, device="cuda") after torch.manual_seed(0), as printed in public write-ups.
CUDA_SEED_0 = """
-0.9247 -0.4253 -2.6438 0.1452 -0.1209 -0.5797 -0.6229 -0.3284 -1.0745 -0.3631 -1.6711 2.2655 0.3117 -0.1842 1.2866
1.1820 -0.1271 1.2169 1.4353 1.0605 -0.4941 -1.4244 -0.7244 -1.2973 0.0697 -0.0074 1.8969 0.6878 -0.0779 -0.8373
1.3506 -0.2879 -0.5965 -0.3283 -0.9086 -0.8059 -0.7407 -0.0504 0.5435 1.5150 0.0141 0.4532 1.6349 0.7124 -0.1806
1.0252 -1.4622 -0.7554 -0.1836 0.3824 0.3918 -0.0830 0.8971 -1.1123 0.1116 0.4863 -0.5499 -0.3231 -0.5469 0.9049
0.2837 0.1210 0.4730 -1.0823
"""
# torch.randn(19, device="cuda") after torch.manual_seed(42).
CUDA_SEED_42 = """
0.1940 2.1614 -0.1721 0.8491 -1.9244 0.6530 -0.6494 -0.8175 0.5280 -1.2753 -1.6621 -0.3033 -0.0926 0.1992 -1.1204
1.8577 -0.7145 0.6881 0.7968
"""
# Six torch.randn(4, device="cuda") in a row after torch.manual_seed(42).
CUDA_DRAWS_42 = """
0.1940 2.1614 -0.1721 0.8491 0.1391 -0.1082 -0.7174 0.7566 -0.5187 1.2268 0.6255 -0.9117
-0.6974 -1.8688 -0.8832 -1.6627 -1.2682 -0.0383 -0.1029 1.4400 1.4640 -0.3238 0.7740 1.5892
"""
# The first of seed 0 again, in full float32 prints: by PyTorch on CUDA, and in the usage text of A1111's rng_philox.
CUDA_SEED_0_FULL = """
-0.9246624 -0.42534423 -2.6438458 0.14518386 -0.1208664 -0.57972574 -0.622851 -0.3283869 -1.0745419 -0.36314395
-1.6710504 2.2655048 0.3116848 -0.1841891 1.2866427 1.1819527
"""
NV_SEED_0_FULL = """
-0.92466259 -0.42534415 -2.6438457 0.14518388 -0.12086647 -0.57972564 -0.62285122 -0.32838709 -1.07454231 -0.36314407
-1.67105067 2.26550497
"""


def numbers(text: str) -> np.ndarray:
    return np.array(text.split(), dtype=np.float64)


def request(*seeds: int, **changes) -> NoiseRequest:
    settings = {"seeds": seeds, "shape": SHAPE, "source": NoiseSource.NV, "device": CPU}
    return NoiseRequest(**(settings | changes))


def fresh(source: NoiseSource, seed: int, *shapes: tuple[int, ...]) -> list[torch.Tensor]:
    """Draws of the given shapes in a row, by the plain generators."""
    if source is NoiseSource.NV:
        return [torch.from_numpy(philox_randn(seed, shape, offset=index)) for index, shape in enumerate(shapes)]
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def test_philox_gives_cudas_published_numbers():
    np.testing.assert_allclose(philox_randn(0, (64,)), numbers(CUDA_SEED_0), atol=5.1e-5)
    np.testing.assert_allclose(philox_randn(42, (19,)), numbers(CUDA_SEED_42), atol=5.1e-5)
    np.testing.assert_allclose(philox_randn(0, (16,)), numbers(CUDA_SEED_0_FULL), atol=1e-6)
    np.testing.assert_allclose(philox_randn(0, (3, 4)).ravel(), numbers(NV_SEED_0_FULL), atol=1e-6)


def test_philox_draws_in_a_row_are_cudas():
    stream = BatchNoise(request(42, shape=(1, 1, 4)))
    drawn = torch.cat([stream.first(), *(stream.next() for _ in range(5))])
    np.testing.assert_allclose(drawn.flatten(), numbers(CUDA_DRAWS_42), atol=5.1e-5)


def test_philox_block_is_the_published_known_answer():
    # Random123's kat_vectors: philox4x32-10 of counter 0 and key 0 starts 6627e8d5 e169c58d.
    u, v = (0x6627E8D5 + 0.5) / 2**32, (0xE169C58D + 0.5) / 2**32
    assert philox_randn(0, (1,))[0] == pytest.approx(math.sqrt(-2 * math.log(u)) * math.sin(2 * math.pi * v), rel=1e-6)


def test_philox_is_normal_and_uses_all_64_bits_of_a_seed():
    sample = philox_randn(2**40 + 7, (4, 64, 64))
    assert abs(sample.mean()) < 0.03
    assert abs(sample.std() - 1) < 0.03
    assert not np.array_equal(sample, philox_randn(7, (4, 64, 64)))


def test_the_cpu_source_is_torchs_generator():
    stream = BatchNoise(request(3, 7, source=NoiseSource.CPU))
    draws = [fresh(NoiseSource.CPU, seed, SHAPE, SHAPE) for seed in (3, 7)]
    assert torch.equal(stream.first(), torch.stack([first for first, _ in draws]))
    assert torch.equal(stream.next(), torch.stack([second for _, second in draws]))


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ensd": 31337},
        {"subseeds": (90, 91, 92), "subseed_strength": 0.3},
        {"resize_from_lat": (4, 9)},
        {"subseeds": (90, 91, 92), "subseed_strength": 0.3, "resize_from_lat": (8, 3), "ensd": 5},
    ],
)
def test_a_batch_equals_its_images(source: NoiseSource, changes: dict):
    whole = request(11, 12, 2**63, source=source, **changes)
    batch = BatchNoise(whole)
    drawn = [batch.first(), batch.next(), batch.next()]
    paths = brownian_noise(whole, 0.03, 14.6)(5.0, 1.0)
    for index, seed in enumerate(whole.seeds):
        subseeds = whole.subseeds[index : index + 1]
        alone = replace(whole, seeds=(seed,), subseeds=subseeds)
        single = BatchNoise(alone)
        assert torch.equal(drawn[0][index], single.first()[0])
        assert torch.equal(drawn[1][index], single.next()[0])
        assert torch.equal(drawn[2][index], single.next()[0])
        assert torch.equal(paths[index], brownian_noise(alone, 0.03, 14.6)(5.0, 1.0)[0])


@pytest.mark.parametrize("source", SOURCES)
def test_ensd_starts_the_generators_anew_after_the_first_draw(source: NoiseSource):
    stream = BatchNoise(request(5, source=source, ensd=31337))
    assert torch.equal(stream.first()[0], fresh(source, 5, SHAPE)[0])
    assert torch.equal(stream.next()[0], fresh(source, 5 + 31337, SHAPE)[0])


@pytest.mark.parametrize(("strength", "expected"), [(1e-9, 5), (1.0, 77)])
def test_variation_goes_from_the_seed_to_the_variation_seed(strength: float, expected: int):
    varied = BatchNoise(request(5, subseeds=(77,), subseed_strength=strength)).first()[0]
    torch.testing.assert_close(varied, fresh(NoiseSource.NV, expected, SHAPE)[0], rtol=0, atol=1e-5)


def test_variation_of_a_seed_with_itself_changes_nothing():
    varied = BatchNoise(request(5, subseeds=(5,), subseed_strength=0.4)).first()[0]
    torch.testing.assert_close(varied, fresh(NoiseSource.NV, 5, SHAPE)[0])


@settings(deadline=None)
@given(st.floats(0.01, 0.99))
def test_slerp_turns_each_column_by_its_angle(weight: float):
    low, high = fresh(NoiseSource.NV, 1, SHAPE)[0], fresh(NoiseSource.NV, 2, SHAPE)[0]
    found = slerp(weight, low, high).double().numpy()
    for channel in range(SHAPE[0]):
        for column in range(SHAPE[2]):
            a, b = (noise[channel, :, column].double().numpy() for noise in (low, high))
            angle = math.acos(a @ b / math.sqrt(a @ a) / math.sqrt(b @ b))
            expected = (math.sin((1 - weight) * angle) * a + math.sin(weight * angle) * b) / math.sin(angle)
            np.testing.assert_allclose(found[channel, :, column], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("old", "here", "there"),
    [
        ((4, 3), np.s_[1:5, 1:4], np.s_[0:4, 0:3]),
        ((3, 4), np.s_[1:4, 0:4], np.s_[0:3, 0:4]),
        ((8, 9), np.s_[0:6, 0:5], np.s_[1:7, 2:7]),
        # An odd surplus is cut by one more at both ends, as A1111's rounding down has it.
        ((9, 5), np.s_[0:5, 0:5], np.s_[2:7, 0:5]),
        ((6, 3), np.s_[0:6, 1:4], np.s_[0:6, 0:3]),
    ],
)
def test_seed_resize_puts_the_old_picture_in_the_middle(old: tuple[int, int], here: tuple, there: tuple):
    resized = BatchNoise(request(5, resize_from_lat=old)).first()[0]
    frame, middle = fresh(NoiseSource.NV, 5, SHAPE)[0], fresh(NoiseSource.NV, 5, (4, *old))[0]
    expected = frame.clone()
    expected[(slice(None), *here)] = middle[(slice(None), *there)]
    assert torch.equal(resized, expected)


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12), st.integers(1, 12))
def test_pasting_fits_any_pair_of_sizes(height: int, width: int, old_height: int, old_width: int):
    pasted = paste_centred(torch.ones(1, old_height, old_width), torch.zeros(1, height, width))
    assert pasted.shape == (1, height, width)
    assert pasted.sum() <= min(height, old_height) * min(width, old_width)


def test_gpu_noise_without_cuda_becomes_nv_and_says_so():
    source, why = resolve_source(NoiseSource.GPU, CPU)
    assert source is NoiseSource.NV
    assert "NV" in why
    assert resolve_source(NoiseSource.GPU, torch.device("cuda")) == (NoiseSource.GPU, "")
    assert resolve_source(NoiseSource.CPU, CPU) == (NoiseSource.CPU, "")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_philox_equals_this_cuda_device():
    generator = torch.Generator("cuda").manual_seed(1234)
    for offset in range(3):
        theirs = torch.randn((4, 64, 64), generator=generator, device="cuda").cpu().numpy()
        np.testing.assert_allclose(philox_randn(1234, (4, 64, 64), offset=offset), theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:Should have")
@pytest.mark.parametrize("seed", [0, 31337, 2**40])
def test_brownian_path_equals_torchsde_bit_for_bit(seed: int):
    def draw(node_seed: int) -> torch.Tensor:
        return fresh(NoiseSource.CPU, node_seed, (2, 3))[0]

    low, high = 0.0291675331, 14.614641489
    ours = BrownianTree(low, high, seed, draw)
    theirs = torchsde.BrownianTree(low, torch.zeros(2, 3), high, entropy=seed)
    sigmas = [low, *np.geomspace(0.03, 14, 9), high]
    intervals = [*pairwise(sigmas)][::-1]
    for start, end in [*intervals, (low, high), (0.5, 0.500001), (0.1234567, 7.7777777), (1.0, 2.0)]:
        assert torch.equal(ours.increment(start, end), theirs(start, end)), (start, end)
    assert not ours.increment(1.0, 1.0).any()


def test_brownian_noise_has_unit_variance_and_joins_up():
    def draw(seed: int) -> torch.Tensor:
        return fresh(NoiseSource.CPU, seed, (4, 32, 32))[0]

    noise = BrownianNoise(0.03, 14.6, [8], draw)
    whole, upper, lower = noise(9.0, 1.0), noise(9.0, 4.0), noise(4.0, 1.0)
    torch.testing.assert_close(whole * 8**0.5, upper * 5**0.5 + lower * 3**0.5, atol=1e-5, rtol=1e-5)
    assert torch.equal(noise(1.0, 9.0), -whole)
    assert all(abs(drawn.std().item() - 1) < 0.05 for drawn in (whole, upper, lower))
    assert abs((upper * lower).mean().item()) < 0.05


def test_rows_get_the_noise_they_ask_for():
    asked = request(5)
    ancestral, sde = (build(name, "Automatic", 4, scaled_linear()) for name in ("Euler a", "DPM++ 2M SDE"))
    stream = BatchNoise(asked)
    stream.first()
    draw = noise_for(ancestral, asked, stream)
    expected = fresh(NoiseSource.NV, 5, SHAPE, SHAPE, SHAPE)
    assert torch.equal(draw(ancestral.noise[0])[0], expected[1])
    assert torch.equal(draw(ancestral.noise[1])[0], expected[2])
    drawn = noise_for(sde, asked, stream)(sde.noise[1])
    assert torch.equal(drawn, brownian_noise(asked, *sde.brownian_range)(sde.sigma[1], sde.sigma[2]))


@pytest.mark.parametrize(
    "changes",
    [
        {"seeds": ()},
        {"seeds": (-1,)},
        {"seeds": (2**64,)},
        {"seeds": (2**64 - 1,), "ensd": 1},
        {"subseed_strength": 0.5},
        {"subseeds": (1,), "subseed_strength": 1.5},
        {"subseeds": (1,), "subseed_strength": float("nan")},
        {"resize_from_lat": (0, 8)},
    ],
)
def test_impossible_requests_are_refused(changes: dict):
    with pytest.raises(UsageError):
        request(**({"seeds": (5,)} | changes)) if "seeds" in changes else request(5, **changes)
