from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hayate.errors import UnknownName, UsageError
from hayate.samplers.sigmas import (
    SCHEDULES,
    NoiseSchedule,
    ScheduleOptions,
    beta_quantile,
    latent_consistency,
    pick_sigmas,
    resolve_schedule,
    scaled_linear,
    schedule_names,
    zero_terminal_snr,
)

LEVELS = scaled_linear()
ZERO_SNR = zero_terminal_snr(LEVELS)
NAMES = [name for name in schedule_names() if name != "Automatic"]


def pick(name: str, n: int, levels: NoiseSchedule = LEVELS, **options) -> np.ndarray:
    return pick_sigmas(n, resolve_schedule(name), levels, ScheduleOptions(**options))


def euler_of_diffusers(**config) -> EulerDiscreteScheduler:
    return EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", **config)


def test_stable_diffusion_levels_are_the_known_ones():
    assert (LEVELS.sigma_min, LEVELS.sigma_max) == pytest.approx((0.0292, 14.6146), abs=5e-5)
    np.testing.assert_allclose(LEVELS.alphas_cumprod, euler_of_diffusers().alphas_cumprod.numpy(), rtol=1e-5)


def test_zero_terminal_snr_equals_diffusers_but_for_the_last_level():
    betas = rescale_zero_terminal_snr(euler_of_diffusers().betas.double())
    expected = torch.cumprod(1 - betas, 0).numpy()
    np.testing.assert_allclose(ZERO_SNR.alphas_cumprod[:-1], expected[:-1], rtol=1e-4, atol=1e-9)
    assert ZERO_SNR.alphas_cumprod[-1] == pytest.approx(4.8973451890853435e-08, rel=1e-7)


@pytest.mark.parametrize("n", [2, 7, 20, 50])
@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("Karras", {"use_karras_sigmas": True}),
        ("Exponential", {"use_exponential_sigmas": True}),
        ("Polyexponential", {"use_exponential_sigmas": True}),
        ("Beta", {"use_beta_sigmas": True}),
    ],
)
def test_schedules_equal_diffusers(name: str, config: dict, n: int):
    scheduler = euler_of_diffusers(**config)
    scheduler.set_timesteps(n)
    levels = NoiseSchedule(alphas_cumprod=scheduler.alphas_cumprod.double().numpy())
    np.testing.assert_allclose(pick(name, n, levels), scheduler.sigmas.numpy(), rtol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 7, 20, 50])
@pytest.mark.parametrize("name", ["Uniform", "Normal"])
def test_even_timesteps_equal_diffusers_with_log_interpolation(name: str, n: int):
    scheduler = euler_of_diffusers(interpolation_type="log_linear", timestep_spacing="linspace")
    levels = NoiseSchedule(alphas_cumprod=scheduler.alphas_cumprod.double().numpy())
    ours = pick(name, n, levels)
    timesteps = np.linspace(0, 999, n)[::-1] if n > 1 else np.array([999.0])
    np.testing.assert_allclose(levels.sigma_to_t(ours[:-1]), timesteps, atol=1e-7)
    theirs = [scheduler._sigma_to_t(sigma, levels.log_sigmas) for sigma in ours[:-1]]
    np.testing.assert_allclose(levels.sigma_to_t(ours[:-1]), theirs, atol=1e-6)


def test_align_your_steps_is_the_published_table():
    sd1 = [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029, 0.0]
    sdxl = [14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029, 0.0]
    np.testing.assert_allclose(pick("Align Your Steps", 11), sd1, rtol=1e-12)
    np.testing.assert_allclose(pick("Align Your Steps", 11, is_sdxl=True), sdxl, rtol=1e-12)


def test_align_your_steps_interpolates_the_logarithm():
    between = pick("Align Your Steps", 21)
    np.testing.assert_allclose(between[:-1:2], pick("Align Your Steps", 11)[:-1], rtol=1e-12)
    np.testing.assert_allclose(between[1:-2:2] ** 2, between[0:-3:2] * between[2:-1:2], rtol=1e-12)


def test_levels_that_are_picked_by_index():
    np.testing.assert_array_equal(pick("Simple", 4)[:-1], LEVELS.sigmas[[999, 749, 499, 249]])
    np.testing.assert_array_equal(pick("Simple", 3)[:-1], LEVELS.sigmas[[999, 666, 333]])
    np.testing.assert_array_equal(pick("DDIM", 20)[:-1], LEVELS.sigmas[951::-50])
    np.testing.assert_allclose(pick("Uniform", 1000)[:-1], LEVELS.sigmas[::-1], rtol=1e-10)


def test_sgm_uniform_leaves_out_the_lowest_level():
    np.testing.assert_allclose(pick("SGM Uniform", 9)[:-1], pick("Normal", 10)[:-2], rtol=1e-12)


def test_kl_optimal_is_even_in_angle_and_stops_at_the_lowest_level():
    angles = np.arctan(pick("KL Optimal", 9))
    np.testing.assert_allclose(np.diff(angles), np.diff(angles)[0], rtol=1e-9)
    assert np.tan(angles[[0, -1]]) == pytest.approx([LEVELS.sigma_max, LEVELS.sigma_min])


@settings(deadline=None)
@given(st.sampled_from(NAMES), st.integers(1, 1000), st.booleans())
def test_every_schedule_falls_in_n_steps_to_its_end(name: str, n: int, has_zero_snr: bool):
    levels = ZERO_SNR if has_zero_snr else LEVELS
    if name == "DDIM" and n == 1:
        with pytest.raises(UsageError):
            pick(name, n, levels)
        return
    sigmas = pick(name, n, levels)
    # DDIM's starts at the second of the 1,000 levels and steps by a whole number.
    assert len(sigmas) > min(n, 999) if name == "DDIM" else len(sigmas) == n + 1
    assert np.all(np.diff(sigmas) < 0)
    assert sigmas[-1] == (pytest.approx(levels.sigma_min) if name == "KL Optimal" else 0)


@settings(deadline=None)
@given(
    st.sampled_from([info.name for info in SCHEDULES if info.has_range]),
    st.integers(2, 60),
    st.floats(0.05, 0.5),
    st.floats(1, 12),
)
def test_a_range_is_kept(name: str, n: int, sigma_min: float, sigma_max: float):
    sigmas = pick(name, n, sigma_min=sigma_min, sigma_max=sigma_max)
    assert sigmas[0] == pytest.approx(sigma_max)
    lowest = sigmas[-1] if name == "KL Optimal" else sigmas[-2]
    assert lowest > sigma_min if name == "SGM Uniform" else lowest == pytest.approx(sigma_min)


def test_rho_bends_the_schedules_that_have_one():
    np.testing.assert_allclose(pick("Karras", 3, rho=1.0)[1], (LEVELS.sigma_max + LEVELS.sigma_min) / 2)
    expected = np.exp(0.25 * np.log(LEVELS.sigma_max) + 0.75 * np.log(LEVELS.sigma_min))
    np.testing.assert_allclose(pick("Polyexponential", 3, rho=2.0)[1], expected)


@settings(deadline=None)
@given(st.floats(0, 999), st.booleans())
def test_timestep_and_sigma_are_inverse(timestep: float, has_zero_snr: bool):
    levels = ZERO_SNR if has_zero_snr else LEVELS
    assert levels.sigma_to_t(levels.t_to_sigma(timestep)) == pytest.approx(timestep, abs=1e-6)


def test_timesteps_are_clamped_to_the_models_range():
    np.testing.assert_array_equal(LEVELS.sigma_to_t(np.array([1e-9, 1e9])), [0, 999])


def test_consistency_levels_are_every_twentieth_and_quantized():
    levels = latent_consistency(LEVELS)
    np.testing.assert_array_equal(levels.alphas_cumprod, LEVELS.alphas_cumprod[19::20])
    near = np.append(levels.sigmas * 1.001, levels.sigmas * 0.999)
    np.testing.assert_array_equal(levels.sigma_to_t(near), [*range(19, 1000, 20)] * 2)


@settings(deadline=None, max_examples=20)
@given(st.floats(0.001, 0.999), st.floats(0.4, 4), st.floats(0.4, 4))
def test_beta_quantile_inverts_scipys_distribution(probability: float, alpha: float, beta: float):
    ours = beta_quantile(np.array([0.0, probability, 1.0]), alpha, beta)
    np.testing.assert_allclose(stats.beta.cdf(ours, alpha, beta), [0, probability, 1], atol=1e-9)


@pytest.mark.parametrize("name", ["karras", " KARRAS ", "Karras"])
def test_names_are_read_in_any_case(name: str):
    assert resolve_schedule(name).name == "Karras"


def test_every_name_and_alias_means_its_schedule():
    assert all(resolve_schedule(known) is info for info in SCHEDULES for known in (info.name, *info.aliases))


def test_an_unknown_schedule_names_the_nearest():
    with pytest.raises(UnknownName) as caught:
        resolve_schedule("karas")
    assert caught.value.nearest[0] == "Karras"


@pytest.mark.parametrize(
    "options",
    [
        {"sigma_min": 0.0},
        {"sigma_min": 2.0, "sigma_max": 1.0},
        {"sigma_max": float("inf")},
        {"sigma_max": float("nan")},
        {"rho": 0.0},
        {"beta_alpha": -1.0},
    ],
)
def test_impossible_options_are_refused(options: dict):
    with pytest.raises(UsageError):
        pick("Karras", 5, **options)


@pytest.mark.parametrize("alphas", [[0.9], [0.5, 0.9], [1.0, 0.5], [0.5, 0.0], [0.9, 0.9], [0.9, float("nan")]])
def test_an_impossible_noise_schedule_is_refused(alphas: list[float]):
    with pytest.raises(UsageError):
        NoiseSchedule(alphas_cumprod=np.array(alphas))
