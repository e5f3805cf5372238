"""Every sampler by name, and the table it makes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hayate.errors import UnknownName, UsageError
from hayate.extensions.current import current
from hayate.samplers import multistep, sde, singlestep
from hayate.samplers.grid import (
    RESTART_STEPS,
    ddim_grid,
    discard_penultimate,
    dpm_fast_grid,
    restart_walk,
    schedule_grid,
    unipc_grid,
)
from hayate.samplers.lent import lent
from hayate.samplers.sigmas import (
    AUTOMATIC,
    SCHEDULES,
    Array,
    NoiseSchedule,
    ScheduleInfo,
    ScheduleOptions,
    latent_consistency,
    pick_sigmas,
    resolve_schedule,
)
from hayate.samplers.table import Grid, Row, StepTable, make_table

MAX_STEPS = 1000
CFG_PLUS_PLUS_FACTOR = 1 / 12.5
"""A1111 maps a CFG scale of 0 to 12.5 onto CFG++'s 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What a stochastic sampler may be given: how much noise it adds, and how that noise is scaled."""

    eta: float
    noise_scale: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerInfo:
    """A sampler as users know it."""

    name: str
    aliases: tuple[str, ...]
    build_rows: Callable[[Grid, Tuning], Sequence[Row]]
    default_schedule: str = "Uniform"
    """What Automatic means."""
    make_grid: Callable[[int, NoiseSchedule, int | None], Grid] | None = None
    """The sampler's own timesteps; None for samplers that walk any schedule."""
    default_eta: float | None = None
    """None for samplers without eta."""
    uses_ensd: bool = False
    walk: Callable[[Array], Array] | None = None
    """What the sampler makes of the schedule's levels, where it doesn't take them as they are."""
    extra_levels: int = 0
    """Levels that the schedule has to give beyond the steps, because `walk` leaves them out."""
    is_second_order: bool = False
    """Whether each step asks the model twice."""
    is_sde: bool = False
    """Whether it draws Brownian noise."""
    is_consistency: bool = False
    """Whether it walks the levels of latent consistency models."""
    guidance_factor: float = 1.0

    @property
    def adds_noise(self) -> bool:
        """Whether it can draw noise after the first."""
        return self.default_eta is not None or self.is_consistency or self.walk is restart_walk


SAMPLERS: tuple[SamplerInfo, ...] = (
    SamplerInfo(
        name="DPM++ 2M",
        aliases=("k_dpmpp_2m",),
        build_rows=lambda grid, _: multistep.dpmpp_2m(grid.sigmas),
        default_schedule="Karras",
    ),
    SamplerInfo(
        name="DPM++ SDE",
        aliases=("k_dpmpp_sde",),
        build_rows=lambda grid, tuning: sde.dpmpp_sde(grid.sigmas, tuning.eta, tuning.noise_scale),
        default_schedule="Karras",
        default_eta=1.0,
        is_second_order=True,
        is_sde=True,
    ),
    SamplerInfo(
        name="DPM++ 2M SDE",
        aliases=("k_dpmpp_2m_sde",),
        build_rows=lambda grid, tuning: sde.dpmpp_2m_sde(grid.sigmas, tuning.eta, tuning.noise_scale),
        default_schedule="Exponential",
        default_eta=1.0,
        is_sde=True,
    ),
    SamplerInfo(
        name="DPM++ 2M SDE Heun",
        aliases=("k_dpmpp_2m_sde_heun",),
        build_rows=lambda grid, tuning: sde.dpmpp_2m_sde(grid.sigmas, tuning.eta, tuning.noise_scale, is_heun=True),
        default_schedule="Exponential",
        default_eta=1.0,
        is_sde=True,
    ),
    SamplerInfo(
        name="DPM++ 2S a",
        aliases=("k_dpmpp_2s_a",),
        build_rows=lambda grid, tuning: singlestep.dpmpp_2s_ancestral(grid.sigmas, tuning.eta, tuning.noise_scale),
        default_schedule="Karras",
        default_eta=1.0,
        uses_ensd=True,
        is_second_order=True,
    ),
    SamplerInfo(
        name="DPM++ 3M SDE",
        aliases=("k_dpmpp_3m_sde",),
        build_rows=lambda grid, tuning: sde.dpmpp_3m_sde(grid.sigmas, tuning.eta, tuning.noise_scale),
        default_schedule="Exponential",
        default_eta=1.0,
        walk=discard_penultimate,
        extra_levels=1,
        is_sde=True,
    ),
    SamplerInfo(
        name="Euler a",
        aliases=("k_euler_a", "k_euler_ancestral"),
        build_rows=lambda grid, tuning: singlestep.euler_ancestral(grid.sigmas, tuning.eta, tuning.noise_scale),
        default_eta=1.0,
        uses_ensd=True,
    ),
    SamplerInfo(
        name="Euler",
        aliases=("k_euler",),
        build_rows=lambda grid, _: singlestep.euler(grid.sigmas),
    ),
    SamplerInfo(
        name="LMS",
        aliases=("k_lms",),
        build_rows=lambda grid, _: multistep.lms(grid.sigmas),
    ),
    SamplerInfo(
        name="Heun",
        aliases=("k_heun",),
        build_rows=lambda grid, _: singlestep.heun(grid.sigmas),
        is_second_order=True,
    ),
    SamplerInfo(
        name="DPM2",
        aliases=("k_dpm_2",),
        build_rows=lambda grid, _: singlestep.dpm_2(grid.sigmas),
        default_schedule="Karras",
        walk=discard_penultimate,
        extra_levels=1,
        is_second_order=True,
    ),
    SamplerInfo(
        name="DPM2 a",
        aliases=("k_dpm_2_a",),
        build_rows=lambda grid, tuning: singlestep.dpm_2_ancestral(grid.sigmas, tuning.eta, tuning.noise_scale),
        default_schedule="Karras",
        default_eta=1.0,
        uses_ensd=True,
        walk=discard_penultimate,
        extra_levels=1,
        is_second_order=True,
    ),
    SamplerInfo(
        name="DPM fast",
        aliases=("k_dpm_fast",),
        build_rows=lambda grid, tuning: singlestep.dpm_fast(grid.sigmas, tuning.eta, tuning.noise_scale),
        make_grid=dpm_fast_grid,
        default_eta=1.0,
        uses_ensd=True,
    ),
    SamplerInfo(
        name="Restart",
        aliases=("restart",),
        build_rows=lambda grid, tuning: singlestep.restart(grid.sigmas, tuning.noise_scale),
        default_schedule="Karras",
        walk=restart_walk,
        is_second_order=True,
    ),
    SamplerInfo(
        name="DDIM",
        aliases=("ddim",),
        build_rows=lambda grid, tuning: singlestep.euler_ancestral(grid.sigmas, tuning.eta, tuning.noise_scale),
        make_grid=ddim_grid,
        default_eta=0.0,
    ),
    SamplerInfo(
        name="DDIM CFG++",
        aliases=("ddim_cfgpp",),
        build_rows=lambda grid, tuning: singlestep.ddim_cfg_plus_plus(grid.sigmas, tuning.eta, tuning.noise_scale),
        make_grid=ddim_grid,
        default_eta=0.0,
        guidance_factor=CFG_PLUS_PLUS_FACTOR,
    ),
    SamplerInfo(
        name="PLMS",
        aliases=("plms",),
        build_rows=lambda grid, _: multistep.plms(grid.sigmas),
        make_grid=ddim_grid,
    ),
    SamplerInfo(
        name="UniPC",
        aliases=("unipc",),
        build_rows=lambda grid, _: multistep.unipc(grid.sigmas),
        make_grid=unipc_grid,
    ),
    SamplerInfo(
        name="LCM",
        aliases=("k_lcm",),
        build_rows=lambda grid, tuning: singlestep.lcm(grid, tuning.noise_scale),
        is_consistency=True,
    ),
    SamplerInfo(
        name="DEIS",
        aliases=("k_deis", "deis"),
        build_rows=lambda grid, _: multistep.deis(grid.sigmas),
    ),
)

REFUSED = ("DPM adaptive", "k_dpm_ad", "k_dpm_adaptive")
OLD_SUFFIXES = {"_ka": "Karras", "_exp": "Exponential"}
"""How A1111 before 1.9 ended the aliases of samplers that were joined with a schedule."""


def sampler_names() -> tuple[str, ...]:
    """The display names, in A1111's order, and behind them those of extensions."""
    return (*(info.name for info in SAMPLERS), *current().names("samplers"))


def resolve_sampler(name: str) -> tuple[SamplerInfo, str | None]:
    """The sampler that `name` means, and the schedule if the name carries one ("DPM++ 2M Karras").

    Display names, aliases and old joined names are read in any case.
    Raises: `UnknownName` with the nearest names; `UsageError` for DPM adaptive.
    """
    wanted = name.strip()
    for sampler, schedule in _readings(wanted):
        info = _find(sampler)
        if info is not None:
            return info, schedule
    raise UnknownName("sampler", name, sampler_names())


def build(
    sampler: str,
    schedule: str,
    steps: int,
    noise_schedule: NoiseSchedule,
    *,
    eta: float | None = None,
    noise_scale: float = 1.0,
    options: ScheduleOptions | None = None,
    is_sgm_noise: bool = False,
    moves: int | None = None,
) -> StepTable:
    """The table of `sampler` over `schedule` for a model with `noise_schedule`.

    With `moves` a picture is given to start from, and the schedule's end alone is walked: so many steps and one
    (`moves_of`). None starts from noise alone.

    `noise_scale` is A1111's s_noise; `is_sgm_noise` its "SGM noise multiplier" (X starts at sqrt(1 + sigma^2)).
    Whatever was asked for and can't act is said in the table's `notes`.
    Raises: `UnknownName`, `UsageError`.
    """
    info, joined = resolve_sampler(sampler)
    asked = resolve_schedule(joined or schedule)
    _check_steps(steps)
    tuning = _check_tuning(info, eta, noise_scale)
    options = options or ScheduleOptions()
    levels = latent_consistency(noise_schedule) if info.is_consistency else noise_schedule
    if info.make_grid is not None:
        grid = info.make_grid(steps, levels, moves)
    else:
        used = _resolve_automatic(info, asked)
        sigmas = pick_sigmas(steps + info.extra_levels, used, levels, options)
        if moves is not None:
            sigmas = sigmas[steps - moves - 1 :]
        sigmas = sigmas if info.walk is None else info.walk(sigmas)
        grid = schedule_grid(sigmas, used.name, levels, is_sgm_noise=is_sgm_noise)
    return make_table(
        info.name,
        info.build_rows(grid, tuning),
        grid,
        levels,
        eta=None if info.default_eta is None else tuning.eta,
        guidance_factor=info.guidance_factor,
        notes=(
            *_schedule_notes(info, asked, steps, options),
            *_tuning_notes(info, eta, noise_scale, is_sgm_noise),
        ),
    )


def _readings(name: str) -> list[tuple[str, str | None]]:
    """The ways to split `name` into sampler and schedule, the undivided one first."""
    readings: list[tuple[str, str | None]] = [(name, None)]
    folded = name.casefold()
    for schedule in SCHEDULES:
        for known in (schedule.name, *schedule.aliases):
            if folded.endswith(" " + known.casefold()):
                readings.append((name[: -len(known) - 1].rstrip(), schedule.name))
    for suffix, schedule_name in OLD_SUFFIXES.items():
        if folded.endswith(suffix):
            readings.append((name[: -len(suffix)], schedule_name))
    return readings


def _find(name: str) -> SamplerInfo | None:
    wanted = name.casefold()
    if wanted in {refused.casefold() for refused in REFUSED}:
        raise UsageError(
            "DPM adaptive chooses its step sizes as it goes, which a fixed table of steps can't hold",
            hint="take DPM++ 2M or DPM++ 3M SDE with 30 steps",
        )
    for info in SAMPLERS:
        if wanted in {known.casefold() for known in (info.name, *info.aliases)}:
            return info
    return lent("samplers", name, SamplerInfo)


def _check_steps(steps: int) -> None:
    if not 1 <= steps <= MAX_STEPS:
        raise UsageError(f"{steps} steps can't be taken", hint=f"1 to {MAX_STEPS}")


def _check_tuning(info: SamplerInfo, eta: float | None, noise_scale: float) -> Tuning:
    used = (info.default_eta or 0.0) if eta is None else eta
    for label, value in (("eta", used), ("noise_scale", noise_scale)):
        if not 0 <= value < np.inf:
            raise UsageError(f"{label} must be a number from 0 up, not {value}")
    return Tuning(eta=used, noise_scale=noise_scale)


def _resolve_automatic(info: SamplerInfo, asked: ScheduleInfo) -> ScheduleInfo:
    return resolve_schedule(info.default_schedule) if asked is AUTOMATIC else asked


def _schedule_notes(info: SamplerInfo, asked: ScheduleInfo, steps: int, options: ScheduleOptions) -> list[str]:
    """What was asked of the schedule and does not act."""
    changed = [name for name in ("sigma_min", "sigma_max", "rho") if getattr(options, name) is not None]
    if info.make_grid is not None:
        unused = [f"the schedule {asked.name}"] if asked is not AUTOMATIC else []
        return [f"{info.name} has its own timesteps: {name} is not used" for name in unused + changed]
    schedule = _resolve_automatic(info, asked)
    has_rho = schedule.default_rho is not None
    acts = {"sigma_min": schedule.has_range, "sigma_max": schedule.has_range, "rho": has_rho}
    notes = [f"the schedule {schedule.name} takes no {name}" for name in changed if not acts[name]]
    if info.walk is restart_walk and steps >= RESTART_STEPS and schedule.name != info.default_schedule:
        notes.append(f"Restart goes by Karras between the ends of {schedule.name} from {RESTART_STEPS} steps on")
    return notes


def _tuning_notes(info: SamplerInfo, eta: float | None, noise_scale: float, is_sgm_noise: bool) -> list[str]:
    """What was asked of the noise and does not act."""
    notes = []
    if eta is not None and info.default_eta is None:
        notes.append(f"{info.name} takes no eta")
    if noise_scale != 1 and not info.adds_noise:
        notes.append(f"{info.name} adds no noise: noise_scale is not used")
    if is_sgm_noise and info.make_grid is not None:
        notes.append(f"{info.name} has its own start: the SGM noise multiplier is not used")
    return notes


def samplers_page() -> str:
    """docs/samplers.md."""
    rows = "\n".join(
        f"| {info.name} | {', '.join(f'`{alias}`' for alias in info.aliases)} | {_schedule_of(info)} | "
        f"{2 if info.is_second_order else 1} | {'–' if info.default_eta is None else f'{info.default_eta:g}'} | "
        f"{'Brownian' if info.is_sde else 'fresh' if info.adds_noise else '–'} |"
        for info in SAMPLERS
    )
    schedules = "\n".join(
        f"| {schedule.name} | {', '.join(f'`{alias}`' for alias in schedule.aliases)} |" for schedule in SCHEDULES
    )
    return f"""# Samplers and schedules

Written by `scripts/docs` from `src/hayate/samplers/`. Names are read in any case, by alias, or joined, as in "DPM++ 2M
Karras".

| Sampler | Aliases | Automatic schedule | U-Net calls per step | Eta | Noise |
|---|---|---|---|---|---|
{rows}

DPM adaptive is refused: it chooses its steps as it goes, which no table can hold.

| Schedule | Aliases |
|---|---|
{schedules}
"""


def _schedule_of(info: SamplerInfo) -> str:
    return "its own timesteps" if info.make_grid is not None else info.default_schedule


if __name__ == "__main__":
    sys.stdout.write(samplers_page())
