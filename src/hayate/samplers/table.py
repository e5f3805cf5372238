"""A sampler as a table: rows of linear coefficients over the state, the denoised image and the noise.

Every row asks the model once, at the state's first slot, and then replaces the whole state:

    state' = M · [X, A, B, C, D, U, N]

`X` is what the U-Net sees, at the row's noise level: x = x0 + sigma * noise. `A`, `B` and `C` are what the sampler
remembers. `D` is the denoised image after guidance, `U` the one of the unconditional prompt alone, and `N` the row's
unit noise. The seven names are basis vectors, so a sampler's formula is written as its paper writes it:

    move(X, D, sigma, sigma_next) == sigma_next / sigma * X + (1 - sigma_next / sigma) * D
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from hayate.samplers.sigmas import Array, NoiseSchedule

SLOTS = 4
"""Slots of the state: X, A, B, C."""
WIDTH = SLOTS + 3
"""What a row combines: the slots, then D, U and N."""

Vector: TypeAlias = Array

_BASIS = np.eye(WIDTH)
_BASIS.setflags(write=False)
X, A, B, C, D, U, N = _BASIS


@dataclass(frozen=True, slots=True)
class Fresh:
    """The next draw of each image's own generator."""


@dataclass(frozen=True, slots=True)
class Brownian:
    """The increment of each image's Brownian path between two noise levels, scaled to unit variance."""

    sigma_from: float
    sigma_to: float


Noise: TypeAlias = Fresh | Brownian
FRESH = Fresh()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Row:
    """One evaluation of the model and the linear update that follows it."""

    step: int
    sigma: float
    next: tuple[Vector, ...]
    """The new X, A, B, C; slots left out are cleared."""
    noise: Noise | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Grid:
    """The noise levels that a sampler walks, and how its ends join the latents."""

    sigmas: Array
    """One more than there are steps; they fall, but for Restart's."""
    schedule: str
    """The display name of the resolved schedule."""
    timesteps: Array | None = None
    """The timesteps of `sigmas` where a sampler prescribes them; otherwise they follow from sigma."""
    initial_scale: float
    """X at the start is this times unit noise."""
    image_scale: float = 1.0
    """Plus, where a picture is given to start from, this times its latents."""
    final_scale: float = 1.0
    """The latents are this times the last X (less than 1 where a sampler stops short of zero, in VP units)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepTable:
    """A sampler resolved for one run: everything the denoising loop needs, in float64.

    Shapes: matrix [rows, SLOTS, WIDTH]; sigma, timestep, step [rows].
    """

    sampler: str
    schedule: str
    matrix: Array
    sigma: Array
    timestep: Array
    """What the U-Net is told, not necessarily whole."""
    step: np.ndarray
    """The step a user sees, from 0; samplers with two evaluations per step have two rows for it."""
    noise: tuple[Noise | None, ...]
    initial_scale: float
    sigma_end: float
    """The noise level that is left in the result; 0 but for DDIM, PLMS, UniPC, DPM fast and KL Optimal."""
    final_scale: float
    eta: float | None
    image_scale: float = 1.0
    """What the latents of a given picture are multiplied by at the start."""
    guidance_factor: float = 1.0
    """What the CFG scale is multiplied by (1/12.5 for CFG++)."""
    notes: tuple[str, ...] = ()
    """What was asked for and does not act, in words for the user."""

    @property
    def rows(self) -> int:
        """How often the model is asked."""
        return len(self.noise)

    @property
    def steps(self) -> int:
        """How many steps the user sees."""
        return int(self.step[-1]) + 1

    @property
    def uses_uncond(self) -> bool:
        """Whether any row needs the unconditional denoised image by itself."""
        return bool(self.matrix[:, :, SLOTS + 1].any())

    @property
    def brownian_range(self) -> tuple[float, float] | None:
        """The lowest and highest noise level that Brownian noise is asked for, or None where there is none."""
        ends = [level for noise in self.noise if isinstance(noise, Brownian) for level in _ends(noise)]
        return (min(ends), max(ends)) if ends else None

    def run(
        self,
        denoise: Callable[[Array, float, float], tuple[Array, Array]],
        noise: Array,
        draw: Callable[[Noise], Array],
        image: Array | None = None,
    ) -> Array:
        """The latents that this table makes of unit `noise`, and of a picture's: the reference, plain and slow.

        `denoise(x, sigma, timestep)` gives the guided and the unconditional denoised image.
        """
        state = np.zeros((SLOTS, *noise.shape))
        state[0] = self.initial_scale * noise + (0 if image is None else self.image_scale * image)
        for row in range(self.rows):
            guided, uncond = denoise(state[0], float(self.sigma[row]), float(self.timestep[row]))
            wanted = self.noise[row]
            drawn = np.zeros_like(noise) if wanted is None else draw(wanted)
            state = np.tensordot(self.matrix[row], np.stack([*state, guided, uncond, drawn]), axes=1)
        return state[0]


def make_table(
    sampler: str,
    rows: Sequence[Row],
    grid: Grid,
    schedule: NoiseSchedule,
    *,
    eta: float | None = None,
    guidance_factor: float = 1.0,
    notes: tuple[str, ...] = (),
) -> StepTable:
    """`rows` as arrays, with the timesteps filled in and the invariants checked."""
    matrix = np.zeros((len(rows), SLOTS, WIDTH))
    for index, row in enumerate(rows):
        matrix[index, : len(row.next)] = row.next
    matrix[-1, 0] *= grid.final_scale
    _clear_unread(matrix)
    sigma = np.array([row.sigma for row in rows], dtype=np.float64)
    table = StepTable(
        sampler=sampler,
        schedule=grid.schedule,
        matrix=matrix,
        sigma=sigma,
        timestep=_timesteps(sigma, grid, schedule),
        step=np.array([row.step for row in rows], dtype=np.int64),
        noise=tuple(row.noise for row in rows),
        initial_scale=grid.initial_scale,
        image_scale=grid.image_scale,
        sigma_end=float(grid.sigmas[-1]),
        final_scale=grid.final_scale,
        eta=eta,
        guidance_factor=guidance_factor,
        notes=notes,
    )
    check(table)
    return table


def check(table: StepTable) -> None:
    """Asserts what holds for every sampler: finite numbers, steps in order, noise where it is used, a fixed point.

    The fixed point: if the model always answers with the same image and X is that image, X stays it.
    """
    assert np.isfinite(table.matrix).all(), table.sampler
    assert (table.sigma > 0).all(), table.sampler
    assert set(np.diff(table.step)) <= {0, 1}, table.sampler
    assert table.step[0] == 0, table.sampler
    weight = np.array([1.0, 0.0, 0.0, 0.0])
    for row in range(table.rows):
        assert table.noise[row] is not None or not table.matrix[row, :, -1].any(), (table.sampler, row)
        weight = table.matrix[row] @ np.concatenate([weight, [1.0, 0.0, 0.0]]) + table.matrix[row, :, SLOTS + 1]
        expected = table.final_scale if row == table.rows - 1 else 1.0
        assert math.isclose(weight[0], expected, rel_tol=1e-5), (table.sampler, row, weight[0])


def move(x: Vector, denoised: Vector, sigma: float, sigma_next: float) -> Vector:
    """`x` taken from one noise level to another along the straight line through `denoised`.

    Euler's step on dx/dsigma = (x - denoised) / sigma, and equally DDIM's step without noise.
    Source: Karras et al. 2022, algorithm 1; Song et al. 2020 (DDIM), eq. 12.
    """
    ratio = sigma_next / sigma
    return ratio * x + (1 - ratio) * denoised


def ancestral_split(sigma: float, sigma_next: float, eta: float) -> tuple[float, float]:
    """The level to step down to and the noise to add back, so that `sigma_next` is reached: down^2 + up^2 = next^2."""
    if sigma_next == 0 or eta == 0:
        return sigma_next, 0.0
    up = min(sigma_next, eta * math.sqrt(sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2))
    return math.sqrt(sigma_next**2 - up**2), up


def _clear_unread(matrix: Array) -> None:
    """Zeroes what no later row reads, so that every number left in a table matters."""
    read = np.array([True, False, False, False])
    for row in reversed(matrix):
        row[~read] = 0
        read = row[:, :SLOTS].any(axis=0)
        read[0] = True


def _timesteps(sigma: Array, grid: Grid, schedule: NoiseSchedule) -> Array:
    if grid.timesteps is None:
        return schedule.sigma_to_t(sigma)
    nearest = np.abs(sigma[:, None] - grid.sigmas[None, :]).argmin(axis=1)
    return np.asarray(grid.timesteps[nearest], dtype=np.float64)


def _ends(noise: Brownian) -> tuple[float, float]:
    return noise.sigma_from, noise.sigma_to
