"""The sums that diffusers publishes for its schedulers' full loops, reproduced by the tables.

Its loop: a sample that counts from 0 to 1, the model eps = x * t / (t + 1), ten steps (Apache-2.0, tests/schedulers
at 58eb52c). It ran in float32, hence a relative 1e-5 where a sum is large. diffusers' grids are its own, so they are
rebuilt here; the rows are the ones that users get.

Not reproduced: DPM-SDE's, whose value depends on the device and on one Brownian tree for the whole batch; the
single-step and TCD ones, which are samplers that Hayate doesn't have; PNDM's, which starts with Runge-Kutta steps.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from hayate.samplers import multistep, singlestep
from hayate.samplers.sigmas import NoiseSchedule, ScheduleOptions, latent_consistency, pick_sigmas, resolve_schedule
from hayate.samplers.table import Grid, Noise, StepTable, make_table

SHAPE = (4, 3, 8, 8)
STEPS = 10
SAMPLE = np.moveaxis(np.arange(math.prod(SHAPE)).reshape(3, 8, 8, 4), -1, 0) / math.prod(SHAPE)


def linear_betas(levels: int) -> NoiseSchedule:
    return NoiseSchedule(alphas_cumprod=np.cumprod(1 - np.linspace(1e-4, 0.02, levels)))


def full_loop(
    table: StepTable, *, is_v: bool = False, is_clipped: bool = False, steps_from_scaled: bool = False
) -> np.ndarray:
    """The absolute latents that the table makes of the published sample with the published model.

    With `steps_from_scaled` each step starts from the model's scaled input, x / sqrt(sigma^2 + 1), as the published
    loops of the sigma-based schedulers do.
    """
    input_scale = 1 / np.sqrt(table.sigma**2 + 1)
    if steps_from_scaled:
        matrix = table.matrix.copy()
        matrix[:, :, 0] *= input_scale[:, None]
        table = replace(table, matrix=matrix)

    def denoise(x: np.ndarray, sigma: float, t: float) -> tuple[np.ndarray, np.ndarray]:
        scaled = x / math.sqrt(sigma**2 + 1)
        output = scaled * t / (t + 1)
        x = scaled if steps_from_scaled else x
        from_v = x / (sigma**2 + 1) - sigma / math.sqrt(sigma**2 + 1) * output
        denoised = from_v if is_v else x - sigma * output
        return (np.clip(denoised, -1, 1) if is_clipped else denoised), x

    generator = torch.Generator().manual_seed(0)

    def draw(_: Noise) -> np.ndarray:
        return torch.randn(SHAPE, generator=generator).double().numpy()

    return np.abs(table.run(denoise, SAMPLE, draw))


def k_grid(levels: NoiseSchedule, is_karras: bool = False) -> Grid:
    """Evenly spaced timesteps, not rounded, with sigma linear between the levels; or Karras over the same ends."""
    timesteps = np.linspace(0, levels.alphas_cumprod.size - 1, STEPS)[::-1]
    sigmas = np.append(np.interp(timesteps, np.arange(levels.sigmas.size), levels.sigmas), 0.0)
    if is_karras:
        sigmas = pick_sigmas(STEPS, resolve_schedule("Karras"), levels, ScheduleOptions())
    return Grid(sigmas=sigmas, schedule="published", initial_scale=float(sigmas[0]))


def vp_grid(levels: NoiseSchedule, timesteps: np.ndarray, end_alpha: float, is_karras: bool = False) -> Grid:
    """A sampler that works on x = sqrt(a) x0 + sqrt(1 - a) noise and stops at `end_alpha`."""
    sigmas = levels.sigmas[timesteps]
    if is_karras:
        # The VP schedulers round the timesteps that they find for Karras' sigmas.
        sigmas = pick_sigmas(len(timesteps), resolve_schedule("Karras"), levels, ScheduleOptions())[:-1]
        timesteps = np.round(levels.sigma_to_t(sigmas))
    end = math.sqrt((1 - end_alpha) / end_alpha)
    return Grid(
        sigmas=np.append(sigmas, end),
        schedule="published",
        timesteps=np.append(timesteps, 0.0),
        initial_scale=math.hypot(1, sigmas[0]),
        final_scale=math.sqrt(end_alpha),
    )


def linspace_timesteps() -> np.ndarray:
    return np.linspace(0, 999, STEPS + 1).round()[::-1][:-1].astype(int)


@pytest.mark.parametrize(
    ("rows_of", "is_karras", "is_v", "published"),
    [
        (singlestep.euler, False, False, 10.0807),
        (singlestep.euler, True, False, 124.5230),
        (singlestep.euler, False, True, 0.0002),
        (singlestep.euler_ancestral, False, False, 152.3192),
        (singlestep.euler_ancestral, False, True, 108.4439),
        (singlestep.heun, False, False, 0.1233),
        (singlestep.dpm_2, False, False, 20.4125),
        (singlestep.dpm_2_ancestral, False, False, 13979.9433),
        (multistep.lms, False, False, 1006.388),
        (multistep.lms, True, False, 3812.9927),
    ],
)
def test_k_samplers(rows_of, is_karras: bool, is_v: bool, published: float):
    levels = linear_betas(1100)
    grid = k_grid(levels, is_karras)
    table = make_table("published", rows_of(grid.sigmas), grid, levels)
    assert full_loop(table, is_v=is_v, steps_from_scaled=True).sum() == pytest.approx(published, rel=1e-5, abs=1e-2)


@pytest.mark.parametrize(("is_v", "published"), [(False, 172.0067), (True, 52.5302)])
def test_ddim(is_v: bool, published: float):
    levels = linear_betas(1000)
    grid = vp_grid(levels, np.arange(0, 1000, 100)[::-1], 1.0)
    table = make_table("published", singlestep.euler(grid.sigmas), grid, levels)
    assert full_loop(table, is_v=is_v, is_clipped=True).sum() == pytest.approx(published, abs=1e-2)


def test_ddpm_is_ancestral_euler_over_every_level():
    levels = linear_betas(1000)
    grid = vp_grid(levels, np.arange(1000)[::-1], 1.0)
    table = make_table("published", singlestep.euler_ancestral(grid.sigmas), grid, levels)
    assert full_loop(table, is_clipped=True).sum() == pytest.approx(258.9606, abs=1e-2)


@pytest.mark.parametrize(
    ("is_karras", "is_v", "published"), [(False, False, 0.3301), (False, True, 0.2251), (True, True, 0.2096)]
)
def test_dpmpp_2m(is_karras: bool, is_v: bool, published: float):
    levels = linear_betas(1000)
    grid = vp_grid(levels, linspace_timesteps(), levels.alphas_cumprod[0], is_karras)
    table = make_table("published", multistep.dpmpp_2m(grid.sigmas), grid, levels)
    assert full_loop(table, is_v=is_v).mean() == pytest.approx(published, abs=1e-3)


@pytest.mark.parametrize(("is_karras", "published"), [(False, 0.2464), (True, 0.2925)])
def test_unipc(is_karras: bool, published: float):
    levels = linear_betas(1000)
    grid = vp_grid(levels, linspace_timesteps(), levels.alphas_cumprod[0], is_karras)
    table = make_table("published", multistep.unipc(grid.sigmas, order=2, is_bh2=True), grid, levels)
    assert full_loop(table).mean() == pytest.approx(published, abs=1e-3)


@pytest.mark.parametrize(("is_v", "published"), [(False, 0.23916), (True, 0.091)])
def test_deis(is_v: bool, published: float):
    levels = linear_betas(1000)
    grid = vp_grid(levels, linspace_timesteps(), levels.alphas_cumprod[0])
    table = make_table("published", multistep.deis(grid.sigmas, order=2), grid, levels)
    assert full_loop(table, is_v=is_v).mean() == pytest.approx(published, abs=1e-3)


@pytest.mark.parametrize(("steps", "published"), [(1, 18.7097), (10, 197.7616)])
def test_lcm(steps: int, published: float):
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    levels = NoiseSchedule(alphas_cumprod=np.cumprod(1 - betas))
    timesteps = np.arange(999, 0, -20)[np.floor(np.linspace(0, 50, steps, endpoint=False)).astype(int)]
    grid = vp_grid(levels, timesteps, 1.0)
    table = make_table("published", singlestep.lcm(grid), grid, latent_consistency(levels))
    assert full_loop(table).sum() == pytest.approx(published, abs=1e-3)
