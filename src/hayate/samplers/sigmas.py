"""The noise levels a model was trained on, and the schedules that choose some of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from hayate.errors import UnknownName, UsageError
from hayate.extensions.current import current
from hayate.samplers.lent import lent

Array: TypeAlias = NDArray[np.float64]

ZERO_SNR_ALPHA = 4.8973451890853435e-08
"""What A1111 and its peers put in place of the zero of a zero-terminal-SNR schedule."""

ALIGN_YOUR_STEPS_SD1 = (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029)
ALIGN_YOUR_STEPS_SDXL = (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029)
"""The published optima for SD1.5 and SDXL. Source: Sabour et al. 2024, "Align Your Steps", how-to page."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NoiseSchedule:
    """The noise levels of a discrete diffusion model, in ascending order.

    A level is sigma = sqrt((1 - alpha_cumprod) / alpha_cumprod): x = x0 + sigma * noise.

    Units: `first_timestep` and `stride` in training timesteps: level i belongs to timestep first + i * stride.
    """

    alphas_cumprod: Array = field(repr=False)
    first_timestep: int = 0
    stride: int = 1
    is_quantized: bool = False
    """Whether the model may only be asked at the levels themselves (latent consistency models)."""

    def __post_init__(self) -> None:
        alphas = np.array(self.alphas_cumprod, dtype=np.float64)
        is_valid = alphas.ndim == 1 and alphas.size > 1 and alphas[-1] > 0 and alphas[0] < 1
        if not is_valid or not np.all(np.diff(alphas) < 0):
            raise UsageError("a noise schedule must fall strictly from below 1 to above 0")
        alphas.setflags(write=False)
        object.__setattr__(self, "alphas_cumprod", alphas)

    @property
    def sigmas(self) -> Array:
        """Every level, ascending."""
        return np.sqrt((1 - self.alphas_cumprod) / self.alphas_cumprod)

    @property
    def log_sigmas(self) -> Array:
        """The logarithm of every level, ascending."""
        return np.log(self.sigmas)

    @property
    def sigma_min(self) -> float:
        """The lowest level that the model was trained on."""
        return float(self.sigmas[0])

    @property
    def sigma_max(self) -> float:
        """The highest level that the model was trained on."""
        return float(self.sigmas[-1])

    def sigma_to_t(self, sigma: Array | float) -> Array:
        """The timestep of each level, linear in log sigma between neighbours and clamped to the model's range."""
        log_sigma, log_sigmas = np.log(np.asarray(sigma, dtype=np.float64)), self.log_sigmas
        if self.is_quantized:
            index = np.abs(log_sigma[..., None] - log_sigmas).argmin(axis=-1).astype(np.float64)
        else:
            index = np.interp(log_sigma, log_sigmas, np.arange(log_sigmas.size))
        return np.asarray(index * self.stride + self.first_timestep, dtype=np.float64)

    def t_to_sigma(self, timestep: Array | float) -> Array:
        """The level of each timestep, log-linear between neighbours and clamped to the model's range."""
        index = (np.asarray(timestep, dtype=np.float64) - self.first_timestep) / self.stride
        log_sigmas = self.log_sigmas
        return np.exp(np.interp(index, np.arange(log_sigmas.size), log_sigmas))


def scaled_linear(beta_start: float = 0.00085, beta_end: float = 0.012, levels: int = 1000) -> NoiseSchedule:
    """The schedule of Stable Diffusion: betas whose square roots rise linearly.

    The cumulative products are rounded to float32, because that is what checkpoints store and every
    implementation reads: at the low end it moves sigma_min in the fifth digit.
    """
    betas = np.linspace(beta_start**0.5, beta_end**0.5, levels, dtype=np.float64) ** 2
    return NoiseSchedule(alphas_cumprod=_as_stored(np.cumprod(1 - betas)))


def zero_terminal_snr(schedule: NoiseSchedule) -> NoiseSchedule:
    """`schedule` shifted and stretched so that its last level is (almost) pure noise.

    Source: Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed", algorithm 1;
    the last value as A1111 has it.
    """
    roots = np.sqrt(schedule.alphas_cumprod)
    alphas = ((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])) ** 2
    alphas[-1] = ZERO_SNR_ALPHA
    return NoiseSchedule(alphas_cumprod=_as_stored(alphas))


def latent_consistency(schedule: NoiseSchedule, levels: int = 50) -> NoiseSchedule:
    """The `levels` evenly spread levels that latent consistency models were distilled on, highest included."""
    stride = schedule.alphas_cumprod.size // levels
    kept = schedule.alphas_cumprod[stride - 1 :: stride]
    return NoiseSchedule(alphas_cumprod=kept, first_timestep=stride - 1, stride=stride, is_quantized=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleOptions:
    """What a user may change in a schedule; None leaves the schedule's own value."""

    sigma_min: float | None = None
    sigma_max: float | None = None
    rho: float | None = None
    beta_alpha: float = 0.6
    beta_beta: float = 0.6
    is_sdxl: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Span:
    """What a schedule function works from, nothing left open."""

    schedule: NoiseSchedule
    sigma_min: float
    sigma_max: float
    rho: float
    options: ScheduleOptions


def uniform(n: int, span: Span) -> Array:
    """Evenly spaced timesteps from the highest level to the lowest."""
    schedule = span.schedule
    start, end = schedule.sigma_to_t(schedule.sigma_max), schedule.sigma_to_t(schedule.sigma_min)
    return _append_zero(schedule.t_to_sigma(np.linspace(start, end, n)))


def karras(n: int, span: Span) -> Array:
    """sigma^(1/rho) evenly spaced. Source: Karras et al. 2022, eq. 5."""
    return _append_zero(karras_levels(n, span.sigma_max, span.sigma_min, span.rho))


def exponential(n: int, span: Span) -> Array:
    """log sigma evenly spaced."""
    return _append_zero(np.exp(np.linspace(math.log(span.sigma_max), math.log(span.sigma_min), n)))


def polyexponential(n: int, span: Span) -> Array:
    """log sigma along a power of an even ramp; rho = 1 is exponential."""
    ramp = np.linspace(1, 0, n) ** span.rho
    return _append_zero(np.exp(ramp * math.log(span.sigma_max / span.sigma_min) + math.log(span.sigma_min)))


def sgm_uniform(n: int, span: Span) -> Array:
    """Evenly spaced timesteps without the lowest level."""
    start, end = span.schedule.sigma_to_t(span.sigma_max), span.schedule.sigma_to_t(span.sigma_min)
    return _append_zero(span.schedule.t_to_sigma(np.linspace(start, end, n + 1)[:-1]))


def kl_optimal(n: int, span: Span) -> Array:
    """arctan sigma evenly spaced. It ends at the lowest level, not at zero (A1111 behaviour, docs/compat.md).

    Source: Sabour et al. 2024, "Align Your Steps", theorem 3.1.
    """
    return np.tan(np.linspace(math.atan(span.sigma_max), math.atan(span.sigma_min), n + 1))


def align_your_steps(n: int, span: Span) -> Array:
    """The published optimum for SD1.5 or SDXL, log-linearly resampled to n levels."""
    optimum = ALIGN_YOUR_STEPS_SDXL if span.options.is_sdxl else ALIGN_YOUR_STEPS_SD1
    positions = np.linspace(0, len(optimum) - 1, n)
    return _append_zero(np.exp(np.interp(positions, np.arange(len(optimum)), np.log(optimum))))


def simple(n: int, span: Span) -> Array:
    """Every (levels / n)-th level, from the highest."""
    sigmas = span.schedule.sigmas
    return _append_zero(sigmas[[-(1 + int(i * (sigmas.size / n))) for i in range(n)]])


def normal(n: int, span: Span) -> Array:
    """Evenly spaced timesteps between sigma_max and sigma_min, both included."""
    start, end = span.schedule.sigma_to_t(span.sigma_max), span.schedule.sigma_to_t(span.sigma_min)
    return _append_zero(span.schedule.t_to_sigma(np.linspace(start, end, n)))


def ddim_uniform(n: int, span: Span) -> Array:
    """Every (levels // n)-th level from the second up; more than n when n does not divide the levels.

    Raises: `UsageError` for a single step, which would start where hardly any noise is left.
    """
    if n < 2:
        raise UsageError("the schedule DDIM needs at least 2 steps", hint="for one step take SGM Uniform")
    sigmas = span.schedule.sigmas
    return _append_zero(sigmas[1 :: max(sigmas.size // n, 1)][::-1])


def beta(n: int, span: Span) -> Array:
    """sigma spread by the quantiles of a beta distribution: dense at both ends.

    Source: Lee et al. 2024, "Beta Sampling is All You Need"; over sigma rather than timesteps, as A1111.
    """
    quantiles = beta_quantile(np.linspace(1, 0, n), span.options.beta_alpha, span.options.beta_beta)
    return _append_zero(span.sigma_min + quantiles * (span.sigma_max - span.sigma_min))


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleInfo:
    """A schedule as users know it: names, function, and which of its options act."""

    name: str
    aliases: tuple[str, ...]
    function: Callable[[int, Span], Array] | None
    """None for Automatic, which stands for the sampler's own choice."""
    default_rho: float | None = None
    has_range: bool = False
    """Whether `sigma_min` and `sigma_max` may be changed."""


AUTOMATIC = ScheduleInfo(name="Automatic", aliases=("automatic",), function=None)
SCHEDULES: tuple[ScheduleInfo, ...] = (
    AUTOMATIC,
    ScheduleInfo(name="Uniform", aliases=("uniform",), function=uniform),
    ScheduleInfo(name="Karras", aliases=("karras",), function=karras, default_rho=7.0, has_range=True),
    ScheduleInfo(name="Exponential", aliases=("exponential",), function=exponential, has_range=True),
    ScheduleInfo(
        name="Polyexponential", aliases=("polyexponential",), function=polyexponential, default_rho=1.0, has_range=True
    ),
    ScheduleInfo(name="SGM Uniform", aliases=("sgm_uniform", "SGMUniform"), function=sgm_uniform, has_range=True),
    ScheduleInfo(name="KL Optimal", aliases=("kl_optimal",), function=kl_optimal, has_range=True),
    ScheduleInfo(name="Align Your Steps", aliases=("align_your_steps",), function=align_your_steps),
    ScheduleInfo(name="Simple", aliases=("simple",), function=simple),
    ScheduleInfo(name="Normal", aliases=("normal",), function=normal, has_range=True),
    ScheduleInfo(name="DDIM", aliases=("ddim", "ddim_uniform"), function=ddim_uniform),
    ScheduleInfo(name="Beta", aliases=("beta",), function=beta, has_range=True),
)


def schedule_names() -> tuple[str, ...]:
    """The display names, in A1111's order, and behind them those of extensions."""
    return (*(info.name for info in SCHEDULES), *current().names("schedules"))


def resolve_schedule(name: str) -> ScheduleInfo:
    """The schedule that `name` means, by display name or alias, in any case.

    Raises: `UnknownName` with the nearest names.
    """
    wanted = name.strip().casefold()
    for info in SCHEDULES:
        if wanted in {known.casefold() for known in (info.name, *info.aliases)}:
            return info
    if (info := lent("schedules", name, ScheduleInfo)) is not None:
        return info
    raise UnknownName("schedule", name, schedule_names())


def pick_sigmas(n: int, info: ScheduleInfo, schedule: NoiseSchedule, options: ScheduleOptions) -> Array:
    """The levels of `n` steps: n + 1 falling values, the last zero but for KL Optimal. The schedule DDIM may give more.

    Raises: `UsageError` where the options leave no falling range.
    """
    if info.function is None:
        raise ValueError("Automatic has to be resolved by the sampler first")
    span = Span(
        schedule=schedule,
        sigma_min=schedule.sigma_min if options.sigma_min is None else options.sigma_min,
        sigma_max=schedule.sigma_max if options.sigma_max is None else options.sigma_max,
        rho=(info.default_rho or 1.0) if options.rho is None else options.rho,
        options=options,
    )
    _check_span(span)
    return info.function(n, span)


def _check_span(span: Span) -> None:
    if not 0 < span.sigma_min < span.sigma_max < math.inf:
        raise UsageError(
            f"sigma_min {span.sigma_min:g} and sigma_max {span.sigma_max:g} span no noise",
            hint="0 < sigma_min < sigma_max",
        )
    for name in ("rho", "beta_alpha", "beta_beta"):
        value = span.rho if name == "rho" else getattr(span.options, name)
        if not 0 < value < math.inf:
            raise UsageError(f"{name} must be a positive number, not {value:g}")


def karras_levels(n: int, sigma_max: float, sigma_min: float, rho: float = 7.0) -> Array:
    """`n` levels between and including both ends, evenly spaced in sigma^(1/rho)."""
    return np.linspace(sigma_max ** (1 / rho), sigma_min ** (1 / rho), n) ** rho


def _as_stored(alphas: NDArray[np.floating]) -> Array:
    return alphas.astype(np.float32).astype(np.float64)


def _append_zero(sigmas: Array) -> Array:
    return np.append(sigmas, 0.0)


def beta_quantile(probability: Array, alpha: float, beta: float) -> Array:
    """The inverse of the regularized incomplete beta function, by bisection to the last bit of [0, 1]."""
    low, high = np.zeros_like(probability), np.ones_like(probability)
    for _ in range(60):
        middle = (low + high) / 2
        is_below = _beta_cdf(middle, alpha, beta) < probability
        low, high = np.where(is_below, middle, low), np.where(is_below, high, middle)
    return np.where(probability <= 0, 0.0, np.where(probability >= 1, 1.0, (low + high) / 2))


def _beta_cdf(x: Array, a: float, b: float) -> Array:
    """The regularized incomplete beta function, from whichever tail its continued fraction converges fast."""
    is_lower = x < (a + 1) / (a + b + 2)
    lower = _beta_tail(np.where(is_lower, x, 0.5), a, b)
    upper = 1 - _beta_tail(np.where(is_lower, 0.5, 1 - x), b, a)
    return np.where(is_lower, lower, upper)


def _beta_tail(x: Array, a: float, b: float) -> Array:
    """x^a (1-x)^b / (a B(a,b)) times the continued fraction, by Lentz's method. Source: DLMF 8.17.22."""
    log_beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    front = np.exp(a * np.log(np.maximum(x, np.finfo(np.float64).tiny)) + b * np.log1p(-x) - log_beta) / a
    d = 1 / (1 - (a + b) / (a + 1) * x)
    c, fraction = np.ones_like(x), d
    for m in range(1, 100):
        for term in (
            m * (b - m) / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d, c = 1 / (1 + term * x * d), 1 + term * x / c
            fraction = fraction * c * d
        if np.all(np.abs(c * d - 1) < 1e-15):
            break
    return front * fraction
