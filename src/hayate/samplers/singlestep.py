"""Samplers that remember nothing from one step to the next."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from hayate.samplers.sigmas import Array
from hayate.samplers.table import FRESH, A, B, D, Grid, N, Row, U, Vector, X, ancestral_split, move

LCM_SIGMA_DATA = 0.5
LCM_TIMESTEP_SCALE = 10.0


def euler(sigmas: Array) -> list[Row]:
    """Euler's method. Source: Karras et al. 2022, algorithm 2 without churn."""
    return euler_ancestral(sigmas, eta=0.0)


def euler_ancestral(sigmas: Array, eta: float = 1.0, noise_scale: float = 1.0) -> list[Row]:
    """Euler's method to a lower level, then noise up to the wanted one; with DDIM's levels, DDIM itself.

    Source: Song et al. 2020 (DDIM), eq. 12 and 16 in the variable x / sqrt(alpha_cumprod).
    """
    rows = []
    for step, (sigma, to) in enumerate(pairwise(sigmas)):
        down, up = ancestral_split(sigma, to, eta)
        after = move(X, D, sigma, down) + noise_scale * up * N
        rows.append(Row(step=step, sigma=sigma, next=(after,), noise=FRESH if eta and to > 0 else None))
    return rows


def ddim_cfg_plus_plus(sigmas: Array, eta: float = 0.0, noise_scale: float = 1.0) -> list[Row]:
    """DDIM that renoises with the unconditional prediction. Source: Chung et al. 2024 (CFG++), algorithm 2."""
    rows = []
    for step, (sigma, to) in enumerate(pairwise(sigmas)):
        down, up = ancestral_split(sigma, to, eta)
        after = D + down / sigma * (X - U) + noise_scale * up * N
        rows.append(Row(step=step, sigma=sigma, next=(after,), noise=FRESH if eta and to > 0 else None))
    return rows


def lcm(grid: Grid, noise_scale: float = 1.0) -> list[Row]:
    """Latent consistency sampling: jump to the image, then noise it anew.

    Source: Luo et al. 2023 (LCM), algorithm 3; boundary scalings as A1111: timesteps times 10, sigma_data 0.5.
    """
    assert grid.timesteps is not None
    rows = []
    for step, (sigma, to) in enumerate(pairwise(grid.sigmas)):
        scaled, data = LCM_TIMESTEP_SCALE * grid.timesteps[step], LCM_SIGMA_DATA
        skip, out = data**2 / (scaled**2 + data**2), scaled / math.hypot(scaled, data)
        # skip + out is not quite 1 in the paper either, so that the fixed point holds to some 1e-6.
        after = out * D + skip * X + noise_scale * to * N
        rows.append(Row(step=step, sigma=sigma, next=(after,), noise=FRESH if to > 0 else None))
    return rows


def heun(sigmas: Array) -> list[Row]:
    """Heun's method. Source: Karras et al. 2022, algorithm 1."""
    rows = []
    for step, (sigma, to) in enumerate(pairwise(sigmas)):
        rows += _heun_step(step, sigma, to)
    return rows


def restart(levels: Array, noise_scale: float = 1.0) -> list[Row]:
    """Heun's method wherever `levels` fall, fresh noise wherever they rise.

    Source: Xu et al. 2023 (Restart Sampling), algorithm 1.
    """
    rows, moves = [], list(pairwise(levels))
    falls = [index for index, (sigma, to) in enumerate(moves) if to < sigma]
    for step, index in enumerate(falls):
        sigma, to = moves[index]
        _, peak = moves[min(index + 1, len(moves) - 1)]
        rise = math.sqrt(peak**2 - to**2) if peak > to else 0.0
        rows += _heun_step(step, sigma, to, noise_scale * rise)
    return rows


def dpm_2(sigmas: Array) -> list[Row]:
    """The midpoint method in log sigma. Source: Lu et al. 2022 (DPM-Solver), as k-diffusion's sample_dpm_2."""
    return dpm_2_ancestral(sigmas, eta=0.0)


def dpm_2_ancestral(sigmas: Array, eta: float = 1.0, noise_scale: float = 1.0) -> list[Row]:
    """DPM2 to a lower level, then noise up to the wanted one."""
    rows = []
    for step, (sigma, to) in enumerate(pairwise(sigmas)):
        down, up = ancestral_split(sigma, to, eta)
        if down == 0:
            rows.append(Row(step=step, sigma=sigma, next=(D,)))
            continue
        middle = math.sqrt(sigma * down)
        after = A + (down - sigma) * (X - D) / middle + noise_scale * up * N
        rows.append(Row(step=step, sigma=sigma, next=(move(X, D, sigma, middle), X)))
        rows.append(Row(step=step, sigma=middle, next=(after,), noise=FRESH if eta else None))
    return rows


def dpmpp_2s_ancestral(sigmas: Array, eta: float = 1.0, noise_scale: float = 1.0) -> list[Row]:
    """DPM-Solver++(2S) with ancestral noise. Source: Lu et al. 2022 (DPM-Solver++), algorithm 1 with r = 1/2."""
    rows = []
    for step, (sigma, to) in enumerate(pairwise(sigmas)):
        down, up = ancestral_split(sigma, to, eta)
        noise = FRESH if eta and to > 0 else None
        if down == 0:
            rows.append(Row(step=step, sigma=sigma, next=(D + noise_scale * up * N,), noise=noise))
            continue
        middle = math.sqrt(sigma * down)
        rows.append(Row(step=step, sigma=sigma, next=(move(X, D, sigma, middle), X)))
        after = move(A, D, sigma, down) + noise_scale * up * N
        rows.append(Row(step=step, sigma=middle, next=(after,), noise=noise))
    return rows


def dpm_fast(sigmas: Array, eta: float = 1.0, noise_scale: float = 1.0) -> list[Row]:
    """DPM-Solver-fast: steps of order 3, with a last one or two of lower order, between the ends of `sigmas`.

    There are as many evaluations as `sigmas` has steps, and each counts as a step; the walk stops at the last level.
    Source: Lu et al. 2022 (DPM-Solver), appendix D.3.
    """
    sigma_min = sigmas[-1]
    steps, rest = divmod(len(sigmas) - 1, 3)
    orders = [3] * (steps - 1) + [2, 1] if rest == 0 else [3] * steps + [rest]
    levels = np.exp(np.linspace(math.log(sigmas[0]), math.log(sigma_min), len(orders) + 1))
    rows: list[Row] = []
    for order, (sigma, to) in zip(orders, pairwise(levels), strict=True):
        down, _ = ancestral_split(sigma, to, eta)
        down = max(down, sigma_min)
        rise = noise_scale * math.sqrt(max(to**2 - down**2, 0.0))
        rows += _solver_step(len(rows), order, (sigma, min(down, to)), rise)
    return rows


def _heun_step(step: int, sigma: float, to: float, rise: float = 0.0) -> list[Row]:
    """One step of Heun's method, then `rise` times fresh noise; to zero it is Euler's."""
    noise = FRESH if rise else None
    if to == 0:
        return [Row(step=step, sigma=sigma, next=(D + rise * N,), noise=noise)]
    slope = ((X - D) / to + B) / 2
    return [
        Row(step=step, sigma=sigma, next=(move(X, D, sigma, to), X, (X - D) / sigma)),
        Row(step=step, sigma=to, next=(A + (to - sigma) * slope + rise * N,), noise=noise),
    ]


def _solver_step(step: int, order: int, span: tuple[float, float], rise: float) -> list[Row]:
    """One step of DPM-Solver of the given order, then `rise` times fresh noise.

    Source: Lu et al. 2022 (DPM-Solver), algorithms 1 and 2.
    """
    sigma, to = span
    h = math.log(sigma / to)
    noise = FRESH if rise else None

    def drift(level: float, slope: Vector, start: Vector = A) -> Vector:
        """The first-order update from `start` at `sigma` to `level` along `slope`."""
        return start - (sigma - level) * slope

    if order == 1:
        return [Row(step=step, sigma=sigma, next=(move(X, D, sigma, to) + rise * N,), noise=noise)]
    if order == 2:
        middle = math.sqrt(sigma * to)
        after = drift(to, B) - (sigma - to) * ((X - D) / middle - B)
        return [
            Row(step=step, sigma=sigma, next=(move(X, D, sigma, middle), X, (X - D) / sigma)),
            Row(step=step + 1, sigma=middle, next=(after + rise * N,), noise=noise),
        ]
    first, second = sigma * math.exp(-h / 3), sigma * math.exp(-2 * h / 3)
    bend_second = 2 * second * (math.expm1(2 * h / 3) / (2 * h / 3) - 1)
    bend_last = 1.5 * to * (math.expm1(h) / h - 1)
    return [
        Row(step=step, sigma=sigma, next=(move(X, D, sigma, first), X, (X - D) / sigma)),
        Row(step=step + 1, sigma=first, next=(drift(second, B) - bend_second * ((X - D) / first - B), A, B)),
        Row(
            step=step + 2,
            sigma=second,
            next=(drift(to, B) - bend_last * ((X - D) / second - B) + rise * N,),
            noise=noise,
        ),
    ]
