"""Which noise levels a sampler walks: a schedule's, or timesteps of its own."""

from __future__ import annotations

import math
from dataclasses import replace

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


MOST_STRENGTH = 0.999
"""A strength of 1 leaves out the first step all the same. Source: A1111 behaviour, docs/compat.md."""


def moves_of(steps: int, strength: float) -> int:
    """How many of `steps` follow the noise of a picture that is given to start from, less one.

    Source: A1111 behaviour, docs/compat.md.
    """
    return int(min(strength, MOST_STRENGTH) * steps)


def ddim_grid(steps: int, schedule: NoiseSchedule, moves: int | None = None) -> Grid:
    """DDIM's evenly spaced timesteps, 1 to 951 for 20 steps; the walk ends at timestep 1, so it makes 19 moves.

    With `moves` the lowest so many of them, for a picture that is given the noise of the next one above.
    Source: A1111 behaviour, docs/compat.md.
    Raises: `UsageError` for one step, which would make no move at all.
    """
    if steps < 2:
        raise UsageError("DDIM, DDIM CFG++ and PLMS need at least 2 steps", hint="for one step take Euler or LCM")
    timesteps = _even_timesteps(steps, schedule)
    if moves is None:
        return _vp_grid(schedule.alphas_cumprod[timesteps], timesteps.astype(np.float64))
    kept = _kept(timesteps, moves)
    grid = _vp_grid(schedule.alphas_cumprod[timesteps[kept:]], timesteps[kept:].astype(np.float64))
    return _noised(grid, float(schedule.alphas_cumprod[timesteps[kept - 1]]))


def unipc_grid(steps: int, schedule: NoiseSchedule, moves: int | None = None) -> Grid:
    """UniPC's evenly spaced times from the last timestep to the first, interpolated in log alpha.

    It makes as many moves as DDIM's grid has timesteps. Source: A1111 behaviour, docs/compat.md.
    """
    levels = schedule.alphas_cumprod.size
    even = _even_timesteps(steps, schedule)
    kept = 0 if moves is None else _kept(even, moves)
    top = levels - 1 if moves is None else int(even[kept])
    timesteps = np.linspace(top, 0, len(even) - kept + 1)
    alphas = np.exp(np.interp(timesteps, np.arange(levels), np.log(schedule.alphas_cumprod)))
    grid = _vp_grid(alphas, timesteps)
    return grid if moves is None else _noised(grid, float(schedule.alphas_cumprod[even[kept - 1]]))


def dpm_fast_grid(steps: int, schedule: NoiseSchedule, moves: int | None = None) -> Grid:
    """The model's whole range, evenly in log sigma, one level per evaluation; with `moves` the lower end of it."""
    sigmas = np.geomspace(schedule.sigma_max, schedule.sigma_min, steps + 1)
    if moves is not None:
        sigmas = sigmas[steps - moves - 1 :]
    return Grid(sigmas=sigmas, schedule=AUTOMATIC.name, initial_scale=float(sigmas[0]))


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


def _even_timesteps(steps: int, schedule: NoiseSchedule) -> np.ndarray:
    levels = schedule.alphas_cumprod.size
    return np.clip(np.arange(0, levels, levels // steps) + 1, 0, levels - 1)[::-1]


def _kept(timesteps: np.ndarray, moves: int) -> int:
    """The place of the first timestep that is kept.

    Raises: `UsageError` where fewer than two are left, for which there is no move.
    """
    if moves < 2:
        hint = "take more steps, a higher denoising strength, or Euler"
        raise UsageError("DDIM, DDIM CFG++, PLMS and UniPC have no move left at this strength", hint=hint)
    return max(len(timesteps) - moves, 1)


def _noised(grid: Grid, alpha: float) -> Grid:
    """`grid` for a picture with the noise of `alpha`, one timestep above where the walk begins.

    The walk is in units in which x is the picture plus sigma times noise, hence the division.
    """
    start = 1 / math.sqrt(1 + float(grid.sigmas[0]) ** 2)
    return replace(grid, image_scale=math.sqrt(alpha) / start, initial_scale=math.sqrt(1 - alpha) / start)
