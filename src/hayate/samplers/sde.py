"""DPM-Solver++ for the diffusion SDE: noise comes from a Brownian path, so it doesn't depend on the step count."""

from __future__ import annotations

import math
from itertools import pairwise

from hayate.samplers.sigmas import Array
from hayate.samplers.table import A, B, Brownian, D, N, Row, X, ancestral_split, move


def dpmpp_sde(sigmas: Array, eta: float = 1.0, noise_scale: float = 1.0) -> list[Row]:
    """DPM-Solver++ (2S) for the SDE, with the midpoint in log sigma.

    Source: Lu et al. 2022 (DPM-Solver++), appendix; k-diffusion's sample_dpmpp_sde with r = 1/2.
    """
    rows = []
    for step, (sigma, to) in enumerate(pairwise(sigmas)):
        if to == 0:
            rows.append(Row(step=step, sigma=sigma, next=(D,)))
            continue
        middle = math.sqrt(sigma * to)
        down, up = ancestral_split(sigma, middle, eta)
        after = move(X, D, sigma, down) + noise_scale * up * N
        rows.append(Row(step=step, sigma=sigma, next=(after, X), noise=_brownian(sigma, middle, eta)))
        down, up = ancestral_split(sigma, to, eta)
        # With r = 1/2 the first evaluation's weight is 1 - 1 / (2 r) = 0.
        after = move(A, D, sigma, down) + noise_scale * up * N
        rows.append(Row(step=step, sigma=middle, next=(after,), noise=_brownian(sigma, to, eta)))
    return rows


def dpmpp_2m_sde(sigmas: Array, eta: float = 1.0, noise_scale: float = 1.0, *, is_heun: bool = False) -> list[Row]:
    """DPM-Solver++(2M) for the SDE, with the midpoint or Heun's weight for the second order.

    Source: Lu et al. 2022 (DPM-Solver++), eq. for SDE-DPM-Solver++(2M); k-diffusion's eta.
    """
    rows = []
    for step, (sigma, to) in enumerate(pairwise(sigmas)):
        if to == 0:
            rows.append(Row(step=step, sigma=sigma, next=(D, D)))
            continue
        h = math.log(sigma / to)
        keep = to / sigma * math.exp(-eta * h)
        after = keep * X + (1 - keep) * D
        if step > 0:
            ratio = math.log(sigmas[step - 1] / sigma) / h
            weight = _phi_2((1 + eta) * h) if is_heun else (1 - keep) / 2
            after = after + weight / ratio * (D - A)
        after = after + noise_scale * _fresh_part(to, eta * h) * N
        rows.append(Row(step=step, sigma=sigma, next=(after, D), noise=_brownian(sigma, to, eta)))
    return rows


def dpmpp_3m_sde(sigmas: Array, eta: float = 1.0, noise_scale: float = 1.0) -> list[Row]:
    """DPM-Solver++(3M) for the SDE. Source: k-diffusion's sample_dpmpp_3m_sde (K. Crowson, 2023)."""
    rows = []
    for step, (sigma, to) in enumerate(pairwise(sigmas)):
        if to == 0:
            rows.append(Row(step=step, sigma=sigma, next=(D, D, A)))
            continue
        h = math.log(sigma / to)
        keep = to / sigma * math.exp(-eta * h)
        phi_2 = _phi_2((1 + eta) * h)
        after = keep * X + (1 - keep) * D
        near = math.log(sigmas[step - 1] / sigma) / h if step > 0 else math.inf
        newer = (D - A) / near
        if step > 1:
            far = math.log(sigmas[step - 2] / sigmas[step - 1]) / h
            bend = (newer - (A - B) / far) / (near + far)
            after = after + phi_2 * (newer + near * bend) - (phi_2 / ((1 + eta) * h) - 0.5) * bend
        elif step > 0:
            after = after + phi_2 * newer
        after = after + noise_scale * _fresh_part(to, eta * h) * N
        rows.append(Row(step=step, sigma=sigma, next=(after, D, A), noise=_brownian(sigma, to, eta)))
    return rows


def _brownian(sigma_from: float, sigma_to: float, eta: float) -> Brownian | None:
    return Brownian(float(sigma_from), float(sigma_to)) if eta else None


def _phi_2(h: float) -> float:
    """(exp(-h) - 1) / h + 1."""
    return math.expm1(-h) / h + 1


def _fresh_part(sigma: float, h: float) -> float:
    """The part of the noise at `sigma` that is new after the SDE ran for `h`."""
    return sigma * math.sqrt(-math.expm1(-2 * h))
