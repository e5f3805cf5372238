"""The end of a pass by another model: from which row on, and which models can take each other's latents.

Source: A1111's refiner, docs/compat.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from hayate.errors import UsageError
from hayate.models.config import ModelConfig
from hayate.samplers.sigmas import NoiseSchedule
from hayate.samplers.table import StepTable

Role = Literal["base", "hires", "refiner"]
"""A model's part in a job: the first pass, the second one, the end of the last."""

SWITCH_AT = 0.8
"""Where nothing is asked for. Source: A1111's page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refined:
    """What the refiner makes of a pass."""

    row: int
    """The first row that is its own."""
    table: StepTable
    """The pass' table, with the timesteps that the refiner knows its noise levels by."""


def refine(table: StepTable, at: float, schedule: NoiseSchedule, refiners: NoiseSchedule) -> Refined | None:
    """What a refiner with the noise levels of `refiners` makes of a pass of a model with those of `schedule`.

    None where no row is so late.
    """
    row = switch_row(table.sigma, schedule.sigmas, at)
    if row is None:
        return None
    if not np.array_equal(schedule.sigmas, refiners.sigmas):
        table = replace(table, timestep=refiners.sigma_to_t(table.sigma))
    return Refined(row=row, table=table)


def switch_row(sigma: np.ndarray, levels: np.ndarray, at: float) -> int | None:
    """The first row whose noise level has at least the share `at` of the model's levels above it, or None.

    Shapes: sigma [rows], levels [timesteps] ascending.
    Source: A1111 1.10: (999 - t) / 1000 is not below the switch, t being the level nearest to the row's.
    """
    nearest = np.abs(levels - sigma[:, None]).argmin(axis=1)
    late = (len(levels) - 1 - nearest) / len(levels) >= at
    return int(late.argmax()) if late.any() else None


def check_space(config: ModelConfig, base: ModelConfig, title: str, flag: str) -> None:
    """Refuses a model whose latents are not those of `base`.

    Raises: UsageError.
    """
    if (config.vae.scale, config.vae.latent_channels) != (base.vae.scale, base.vae.latent_channels):
        ours, theirs = (each.family.value.upper() for each in (base, config))
        message = f"{title} is {theirs}, whose latents are not those of the model, which is {ours}"
        raise UsageError(message, hint=f"{flag} takes a checkpoint of the model's own family")
