"""Samplers that reuse what the model said at earlier steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import numpy as np

from hayate.samplers.sigmas import Array
from hayate.samplers.table import A, B, C, D, Row, Vector, X, move

ADAMS_BASHFORTH = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))
"""Weights of the newest and older slopes on an even grid, by order."""


def dpmpp_2m(sigmas: Array) -> list[Row]:
    """DPM-Solver++(2M). Source: Lu et al. 2022 (DPM-Solver++), algorithm 2; the last step of first order."""
    rows = []
    for step, (sigma, to) in enumerate(pairwise(sigmas)):
        denoised = D
        if step > 0 and to > 0:
            ratio = math.log(sigmas[step - 1] / sigma) / math.log(sigma / to)
            denoised = D + (D - A) / (2 * ratio)
        rows.append(Row(step=step, sigma=sigma, next=(move(X, denoised, sigma, to), D)))
    return rows


def lms(sigmas: Array, order: int = 4) -> list[Row]:
    """Linear multistep: the slope's polynomial through the last levels, integrated over sigma.

    Source: Liu et al. 2022 (PNDM), the classical Adams-Bashforth method on an uneven grid.
    """
    rows = []
    for step, (sigma, to) in enumerate(pairwise(sigmas)):
        nodes = sigmas[max(step + 1 - order, 0) : step + 1][::-1]
        weights = lagrange_integrals(nodes, sigma, to)
        rows.append(_slope_row(step, sigma, weights))
    return rows


def deis(sigmas: Array, order: int = 3) -> list[Row]:
    """DEIS: the slope's polynomial in log sigma, integrated over sigma.

    Source: Zhang & Chen 2022 (DEIS), the log-rho variant; orders at the end as diffusers' DEISMultistepScheduler.
    """
    rows, steps = [], len(sigmas) - 1
    for step, (sigma, to) in enumerate(pairwise(sigmas)):
        used = min(step + 1, order, steps - step if steps < 15 else order)
        if to == 0 or used == 1:
            weights = np.array([to - sigma])
        else:
            nodes = np.log(sigmas[step + 1 - used : step + 1][::-1])
            weights = lagrange_integrals(nodes, math.log(sigma), math.log(to), is_log=True)
        rows.append(_slope_row(step, sigma, weights))
    return rows


def plms(sigmas: Array) -> list[Row]:
    """Pseudo linear multistep: Adams-Bashforth weights as on an even grid, started by an improved Euler step.

    Source: Liu et al. 2022 (PNDM), eq. 9 to 13, the variant of latent diffusion; DDIM's transfer is a straight
    move in sigma.
    """
    first, second = sigmas[0], sigmas[1]
    slope = ((X - D) / second + B) / 2
    rows = [
        Row(step=0, sigma=first, next=(move(X, D, first, second), X, (X - D) / first)),
        Row(step=0, sigma=second, next=(A + (second - first) * slope, B)),
    ]
    for step, (sigma, to) in enumerate(pairwise(sigmas[1:]), start=1):
        weights = (to - sigma) * np.array(ADAMS_BASHFORTH[min(step, 3)])
        rows.append(_slope_row(step, sigma, weights))
    return rows


def unipc(sigmas: Array, order: int = 3, is_bh2: bool = False) -> list[Row]:
    """UniPC: every evaluation first corrects the step that led to it, then predicts the next.

    The state before the predictor needn't be kept: the predictor is linear, so X and the history give it back.
    Source: Zhao et al. 2023 (UniPC), algorithms 5 and 6 (multistep, data prediction), orders falling at the end.
    """
    steps = len(sigmas) - 1
    order = min(order, steps)
    orders = [min(step + 1, order, steps - step) for step in range(steps)]
    rows = [Row(step=0, sigma=sigmas[0], next=(move(X, D, sigmas[0], sigmas[1]), D))]
    for step in range(1, steps):
        predictor, corrector = _unipc_weights(sigmas, step - 1, orders[step - 1], is_bh2)
        bends = _unipc_bends(sigmas, step - 1, (A, B, C)[: orders[step - 1]])
        # The newest difference, D - A, belongs to the corrector alone.
        start = X + _mix(predictor, bends) - _mix(corrector, [*bends, D - A])
        predictor, _ = _unipc_weights(sigmas, step, orders[step], is_bh2)
        bends = _unipc_bends(sigmas, step, (D, A, B)[: orders[step]])
        ahead = move(start, D, sigmas[step], sigmas[step + 1]) - _mix(predictor, bends)
        rows.append(Row(step=step, sigma=sigmas[step], next=(ahead, D, A, B)))
    return rows


def lagrange_integrals(nodes: Array, start: float, end: float, *, is_log: bool = False) -> Array:
    """The integral from `start` to `end` of each Lagrange basis polynomial over `nodes`.

    With `is_log` the nodes are log sigmas and the integral is over sigma. Exact for the plain polynomials (order
    16 Gauss-Legendre), to the last digits for the logarithmic ones.
    """
    points, weights = _gauss_legendre()
    points = (end - start) / 2 * points + (end + start) / 2
    weights = (end - start) / 2 * weights * (np.exp(points) if is_log else 1.0)
    integrals = []
    for index, node in enumerate(nodes):
        others = np.delete(nodes, index)
        basis = np.prod((points[:, None] - others) / (node - others), axis=1)
        integrals.append(weights @ basis)
    return np.array(integrals)


@cache
def _gauss_legendre() -> tuple[Array, Array]:
    return np.polynomial.legendre.leggauss(16)


def _slope_row(step: int, sigma: float, weights: Array) -> Row:
    """X moved along the newest slope and up to three older ones, which the state keeps in A, B and C."""
    slope: Vector = (X - D) / sigma
    after = X + _mix(weights, (slope, A, B, C)[: len(weights)])
    return Row(step=step, sigma=sigma, next=(after, slope, A, B))


def _mix(weights: Array, vectors: Sequence[Vector]) -> Vector:
    return sum((weight * vector for weight, vector in zip(weights, vectors, strict=True)), start=np.zeros_like(X))


def _unipc_bends(sigmas: Array, step: int, history: Sequence[Vector]) -> list[Vector]:
    """The differences of older answers from the newest, each divided by how far back it lies."""
    newest, *older = history
    ratios = _ratios(sigmas, step, len(history))
    return [(old - newest) / ratio for old, ratio in zip(older, ratios, strict=True)]


def _ratios(sigmas: Array, step: int, order: int) -> list[float]:
    """How far back the older evaluations lie, in log SNR, as negative multiples of the step from `step`."""
    # The last step, of first order, may go to zero: it has no logarithm and needs none.
    h = math.log(sigmas[step] / sigmas[step + 1]) if order > 1 else 1.0
    return [math.log(sigmas[step] / sigmas[step - back]) / h for back in range(1, order)]


def _unipc_weights(sigmas: Array, step: int, order: int, is_bh2: bool) -> tuple[Array, Array]:
    """B(h) times the weights of the predictor (order - 1) and of the corrector (order)."""
    if sigmas[step + 1] == 0:
        return np.empty(0), np.empty(0)
    h = -math.log(sigmas[step] / sigmas[step + 1])
    ratios = [*_ratios(sigmas, step, order), 1.0]
    scale = math.expm1(h) if is_bh2 else h
    phi, factorial, targets = math.expm1(h) / h - 1, 1, []
    for power in range(1, order + 1):
        targets.append(phi * factorial / scale)
        factorial *= power + 1
        phi = phi / h - 1 / factorial
    system = np.vander(ratios, order, increasing=True).T
    # Orders 1 and 2 are simplified to 1/2, as published.
    half = np.array([0.5])
    corrector = half if order == 1 else np.linalg.solve(system, targets)
    predictor = half if order == 2 else np.linalg.solve(system[:-1, :-1], targets[:-1])
    return np.multiply(scale, predictor, dtype=np.float64), np.multiply(scale, corrector, dtype=np.float64)
