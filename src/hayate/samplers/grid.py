"""Which noise levels a sampler walks: a schedule's, or timesteps of its own."""

from __future__ import annotations

import math

import numpy as np

from hayate.errors import UsageError
from hayate.samplers.sigmas import AUTOMATIC, Array, NoiseSchedule, karras_levels
from hayate.samplers.table import Grid

RESTART_STEPS = 20
"""From how many steps on Restart goes back up."""


def schedule_grid(sigmas: Array, schedule: str, levels: NoiseSchedule, *, is_sgm_noise: bool = False) -> Grid:
    """The levels that a schedule chose; X starts at the highest times unit noise, or sqrt(1 + highest^2) times."""
    top = float(sigmas[0])
    return Grid(
        sigmas=sigmas,
        schedule=schedule,
        timesteps=levels.sigma_to_t(np.maximum(sigmas, levels.sigma_min)) if levels.is_quantized else None,
        initial_scale=math.hypot(1, top) if is_sgm_noise else top,
    )


def ddim_grid(steps: int, schedule: NoiseSchedule) -> Grid:
    """DDIM's evenly spaced timesteps, 1 to 951 for 20 steps; the walk ends at timestep 1, so it makes 19 moves.

    Source: A1111 behaviour, docs/compat.md.
    Raises: `UsageError` for one step, which would make no move at all.
    """
    if steps < 2:
        raise UsageError("DDIM, DDIM CFG++ and PLMS need at least 2 steps", hint="for one step take Euler or LCM")
    levels = schedule.alphas_cumprod.size
    timesteps = np.clip(np.arange(0, levels, levels // steps) + 1, 0, levels - 1)[::-1]
    return _vp_grid(schedule.alphas_cumprod[timesteps], timesteps.astype(np.float64))


def unipc_grid(steps: int, schedule: NoiseSchedule) -> Grid:
    """UniPC's evenly spaced times from the last timestep to the first, interpolated in log alpha.

    It makes as many moves as DDIM's grid has timesteps. Source: A1111 behaviour, docs/compat.md.
    """
    levels = schedule.alphas_cumprod.size
    moves = len(range(0, levels, levels // steps))
    timesteps = np.linspace(levels - 1, 0, moves + 1)
    alphas = np.exp(np.interp(timesteps, np.arange(levels), np.log(schedule.alphas_cumprod)))
    return _vp_grid(alphas, timesteps)


def dpm_fast_grid(steps: int, schedule: NoiseSchedule) -> Grid:
    """The model's whole range, evenly in log sigma, one level per evaluation."""
    return Grid(
        sigmas=np.geomspace(schedule.sigma_max, schedule.sigma_min, steps + 1),
        schedule=AUTOMATIC.name,
        initial_scale=schedule.sigma_max,
    )


def discard_penultimate(sigmas: Array) -> Array:
    """`sigmas` without the last but one, whose step to zero some samplers take badly."""
    return np.delete(sigmas, -2)


def restart_walk(sigmas: Array) -> Array:
    """Karras' levels between the schedule's ends, the part between 2 and 0.1 walked again; under 20 steps `sigmas`.

    From 20 steps on nine of them are spent on going back once, from 36 on a quarter of them, twice.
    Source: Xu et al. 2023 (Restart Sampling), table of Stable Diffusion; A1111 behaviour, docs/compat.md.
    """
    steps = len(sigmas) - 1
    if steps < RESTART_STEPS:
        return sigmas
    length, times = (steps // 4, 2) if steps >= 36 else (9, 1)
    main = np.append(karras_levels(steps - length * times, sigmas[0], sigmas[-2]), 0.0)
    low, high = (int(np.abs(main - level).argmin()) for level in (0.1, 2.0))
    if low == 0 or high >= low:
        return main
    again = karras_levels(length + 1, main[high], main[low])
    return np.concatenate([main[: low + 1], *[again] * times, main[low + 1 :]])


def _vp_grid(alphas_cumprod: Array, timesteps: Array) -> Grid:
    """A grid whose sampler starts from unit noise and ends in variance-preserving units."""
    return Grid(
        sigmas=np.sqrt((1 - alphas_cumprod) / alphas_cumprod),
        schedule=AUTOMATIC.name,
        timesteps=timesteps,
        initial_scale=float(alphas_cumprod[0] ** -0.5),
        final_scale=float(alphas_cumprod[-1] ** 0.5),
    )
