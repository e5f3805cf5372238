"""Every sampler's table against a plain loop: x, denoised, d = (x - denoised) / sigma, or the paper's own variables."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate

from hayate.samplers.catalogue import build, resolve_sampler, sampler_names
from hayate.samplers.sigmas import ScheduleOptions, latent_consistency, pick_sigmas, resolve_schedule, scaled_linear
from hayate.samplers.table import Brownian, Noise, StepTable

LEVELS = scaled_linear()
SIZE = 6
PATTERN = np.linspace(-1.3, 1.7, SIZE)
START = np.array([0.4, -1.1, 0.3, 1.9, -0.2, -0.7])
ETA, NOISE_SCALE = 0.7, 1.1
MATCH = 1e-13
"""Both sides are float64, so they agree far below the 1e-6 that is asked for."""


def denoised_by_toy(x: np.ndarray, sigma: float) -> np.ndarray:
    """A smooth answer, nonlinear in x and sigma, so that a wrong coefficient anywhere moves everything after it."""
    seen = x / math.sqrt(1 + sigma**2)
    return PATTERN * (1 + 0.2 * math.sin(math.log(sigma))) + np.tanh(seen + 0.3 * PATTERN) - 0.1 * seen**2


def uncond_by_toy(x: np.ndarray, sigma: float) -> np.ndarray:
    return 0.6 * denoised_by_toy(0.9 * x, sigma) + 0.1


@dataclass
class Run:
    """One sampling run: counts the draws and remembers every question to the model."""

    sigmas: np.ndarray = field(default_factory=lambda: np.empty(0))
    eta: float = ETA
    asked: list[np.ndarray] = field(default_factory=list)
    draws: int = 0

    def model(self, x: np.ndarray, sigma: float) -> np.ndarray:
        self.asked.append(np.append(x, sigma))
        return denoised_by_toy(x, sigma)

    def fresh(self) -> np.ndarray:
        self.draws += 1
        return NOISE_SCALE * np.sin(self.draws * (PATTERN + 2.5))

    def brownian(self, sigma_from: float, sigma_to: float) -> np.ndarray:
        return NOISE_SCALE * np.cos(3 * sigma_from + 5 * math.log(sigma_to) + PATTERN)

    def unscaled(self, noise: Noise) -> np.ndarray:
        """What the table's interpreter gets: unit noise."""
        drawn = self.brownian(noise.sigma_from, noise.sigma_to) if isinstance(noise, Brownian) else self.fresh()
        return drawn / NOISE_SCALE


def ancestral(sigma: float, to: float, eta: float) -> tuple[float, float]:
    up = min(to, eta * math.sqrt(to**2 * (sigma**2 - to**2) / sigma**2))
    return math.sqrt(to**2 - up**2), up


def steps_of(run: Run) -> list[tuple[int, float, float]]:
    return [(i, float(run.sigmas[i]), float(run.sigmas[i + 1])) for i in range(len(run.sigmas) - 1)]


def euler(run: Run) -> np.ndarray:
    x = START * run.sigmas[0]
    for _, sigma, to in steps_of(run):
        d = (x - run.model(x, sigma)) / sigma
        x = x + d * (to - sigma)
    return x


def euler_ancestral(run: Run) -> np.ndarray:
    x = START * run.sigmas[0]
    for _, sigma, to in steps_of(run):
        d = (x - run.model(x, sigma)) / sigma
        down, up = ancestral(sigma, to, run.eta)
        x = x + d * (down - sigma)
        if to > 0:
            x = x + up * run.fresh()
    return x


def heun_to(run: Run, x: np.ndarray, sigma: float, to: float) -> np.ndarray:
    d = (x - run.model(x, sigma)) / sigma
    if to == 0:
        return x + d * (to - sigma)
    ahead = x + d * (to - sigma)
    d_ahead = (ahead - run.model(ahead, to)) / to
    return x + (d + d_ahead) / 2 * (to - sigma)


def heun(run: Run) -> np.ndarray:
    x = START * run.sigmas[0]
    for _, sigma, to in steps_of(run):
        x = heun_to(run, x, sigma, to)
    return x


def restart(run: Run) -> np.ndarray:
    """From 20 steps on: nine steps go once more from near 2 to near 0.1; from 36 on: a quarter of them, twice."""
    steps = len(run.sigmas) - 1
    again, times = (steps // 4, 2) if steps >= 36 else (9, 1)

    def rho_7(n: int, top: float, bottom: float) -> list[float]:
        return [(top ** (1 / 7) + i / (n - 1) * (bottom ** (1 / 7) - top ** (1 / 7))) ** 7 for i in range(n)]

    main = [*rho_7(steps - again * times, run.sigmas[0], run.sigmas[-2]), 0.0]
    low = min(range(len(main)), key=lambda i: abs(main[i] - 0.1))
    high = min(range(len(main)), key=lambda i: abs(main[i] - 2))
    x = START * main[0]
    for i in range(len(main) - 1):
        x = heun_to(run, x, main[i], main[i + 1])
        if i + 1 == low:
            for _ in range(times):
                levels = rho_7(again + 1, main[high], main[low])
                x = x + math.sqrt(levels[0] ** 2 - main[low] ** 2) * run.fresh()
                for j in range(again):
                    x = heun_to(run, x, levels[j], levels[j + 1])
    return x


def dpm_2(run: Run) -> np.ndarray:
    return dpm_2_ancestral(replace_eta(run, 0))


def dpm_2_ancestral(run: Run) -> np.ndarray:
    x = START * run.sigmas[0]
    for _, sigma, to in steps_of(run):
        d = (x - run.model(x, sigma)) / sigma
        down, up = ancestral(sigma, to, run.eta)
        if down == 0:
            x = x - d * sigma
            continue
        middle = math.exp((math.log(sigma) + math.log(down)) / 2)
        halfway = x + d * (middle - sigma)
        x = x + (halfway - run.model(halfway, middle)) / middle * (down - sigma)
        if up:
            x = x + up * run.fresh()
    return x


def dpmpp_2s_ancestral(run: Run) -> np.ndarray:
    x = START * run.sigmas[0]
    for _, sigma, to in steps_of(run):
        denoised = run.model(x, sigma)
        down, up = ancestral(sigma, to, run.eta)
        if down == 0:
            x = denoised
            continue
        t, t_next = -math.log(sigma), -math.log(down)
        h = t_next - t
        s = t + h / 2
        halfway = math.exp(-s) / math.exp(-t) * x - math.expm1(-h / 2) * denoised
        x = math.exp(-t_next) / math.exp(-t) * x - math.expm1(-h) * run.model(halfway, math.exp(-s))
        x = x + up * run.fresh()
    return x


def dpm_fast(run: Run) -> np.ndarray:
    """Noise prediction, in t = -log sigma, as in the appendix of the DPM-Solver paper."""
    n = len(run.sigmas) - 1
    orders = [3] * (n // 3 - 1) + [2, 1] if n % 3 == 0 else [3] * (n // 3) + [n % 3]
    times = np.linspace(-math.log(run.sigmas[0]), -math.log(run.sigmas[-1]), len(orders) + 1)
    x = START * run.sigmas[0]

    def eps(x: np.ndarray, t: float) -> np.ndarray:
        return (x - run.model(x, math.exp(-t))) / math.exp(-t)

    for order, t, t_next in zip(orders, times, times[1:], strict=False):
        down, _ = ancestral(math.exp(-t), math.exp(-t_next), run.eta)
        t_down = min(times[-1], -math.log(down))
        up = math.sqrt(math.exp(-2 * t_next) - math.exp(-2 * t_down))
        h, sigma_next = t_down - t, math.exp(-t_down)
        e = eps(x, t)
        if order == 1:
            x = x - sigma_next * math.expm1(h) * e
        elif order == 2:
            e_half = eps(x - math.exp(-t - h / 2) * math.expm1(h / 2) * e, t + h / 2)
            x = x - sigma_next * math.expm1(h) * e - sigma_next * math.expm1(h) * (e_half - e)
        else:
            s1, s2 = t + h / 3, t + 2 * h / 3
            e1 = eps(x - math.exp(-s1) * math.expm1(h / 3) * e, s1)
            bend = math.expm1(2 * h / 3) / (2 * h / 3) - 1
            e2 = eps(x - math.exp(-s2) * (math.expm1(2 * h / 3) * e + 2 * bend * (e1 - e)), s2)
            x = x - sigma_next * (math.expm1(h) * e + 1.5 * (math.expm1(h) / h - 1) * (e2 - e))
        if up > 1e-12:
            x = x + up * run.fresh()
    return x


def lms(run: Run) -> np.ndarray:
    x, slopes = START * run.sigmas[0], []
    for i, sigma, to in steps_of(run):
        slopes.insert(0, (x - run.model(x, sigma)) / sigma)
        nodes = [run.sigmas[i - j] for j in range(min(i + 1, 4))]
        for j, node in enumerate(nodes):
            others = [other for k, other in enumerate(nodes) if k != j]
            weight, _ = integrate.quad(lambda s, n=node, o=others: np.prod([(s - v) / (n - v) for v in o]), sigma, to)
            x = x + weight * slopes[j]
    return x


def deis(run: Run) -> np.ndarray:
    x, slopes, steps = START * run.sigmas[0], [], len(run.sigmas) - 1
    for i, sigma, to in steps_of(run):
        slopes.insert(0, (x - run.model(x, sigma)) / sigma)
        nodes = [math.log(run.sigmas[i - j]) for j in range(min(i + 1, 3, steps - i))]
        for j, node in enumerate(nodes):
            others = [other for k, other in enumerate(nodes) if k != j]
            weight, _ = integrate.quad(
                lambda s, n=node, o=others: np.prod([(math.log(s) - v) / (n - v) for v in o]), sigma, to
            )
            x = x + weight * slopes[j]
    return x


def dpmpp_2m(run: Run) -> np.ndarray:
    x, old = START * run.sigmas[0], None
    for i, sigma, to in steps_of(run):
        denoised = guess = run.model(x, sigma)
        if to == 0:
            return denoised
        h = math.log(sigma) - math.log(to)
        if old is not None:
            r = (math.log(run.sigmas[i - 1]) - math.log(sigma)) / h
            guess = (1 + 1 / (2 * r)) * denoised - 1 / (2 * r) * old
        x = to / sigma * x - math.expm1(-h) * guess
        old = denoised
    return x


def dpmpp_sde(run: Run) -> np.ndarray:
    x, r = START * run.sigmas[0], 1 / 2
    for _, sigma, to in steps_of(run):
        denoised = run.model(x, sigma)
        if to == 0:
            return denoised
        t, t_next = -math.log(sigma), -math.log(to)
        middle = math.exp(-(t + r * (t_next - t)))
        down, up = ancestral(sigma, middle, run.eta)
        halfway = down / sigma * x - math.expm1(t + math.log(down)) * denoised
        halfway = halfway + up * run.brownian(sigma, middle)
        weight = 1 / (2 * r)
        guess = (1 - weight) * denoised + weight * run.model(halfway, middle)
        down, up = ancestral(sigma, to, run.eta)
        x = down / sigma * x - math.expm1(t + math.log(down)) * guess + up * run.brownian(sigma, to)
    return x


def dpmpp_2m_sde(run: Run, is_heun: bool = False) -> np.ndarray:
    x, old, h_old = START * run.sigmas[0], None, 0.0
    for _, sigma, to in steps_of(run):
        denoised = run.model(x, sigma)
        if to == 0:
            return denoised
        h = math.log(sigma / to)
        g = h + run.eta * h
        x = math.exp(-g) * x + (1 - math.exp(-g)) * denoised
        if old is not None:
            slope = (denoised - old) * h / h_old
            x = x + ((1 - math.exp(-g)) / -g + 1 if is_heun else (1 - math.exp(-g)) / 2) * slope
        x = x + to * math.sqrt(1 - math.exp(-2 * run.eta * h)) * run.brownian(sigma, to)
        old, h_old = denoised, h
    return x


def dpmpp_2m_sde_heun(run: Run) -> np.ndarray:
    return dpmpp_2m_sde(run, is_heun=True)


def dpmpp_3m_sde(run: Run) -> np.ndarray:
    """The second and third order terms as divided differences of the denoised images in time."""
    x, denoised, h = START * run.sigmas[0], [], []
    for _, sigma, to in steps_of(run):
        denoised.insert(0, run.model(x, sigma))
        if to == 0:
            return denoised[0]
        h.insert(0, math.log(sigma / to))
        g = h[0] * (1 + run.eta)
        phi_2 = (math.exp(-g) - 1) / g + 1
        phi_3 = phi_2 / g - 1 / 2
        x = math.exp(-g) * x - math.expm1(-g) * denoised[0]
        if len(denoised) == 2:
            x = x + phi_2 * h[0] * (denoised[0] - denoised[1]) / h[1]
        if len(denoised) > 2:
            near, far = h[1] / h[0], h[2] / h[0]
            first = (denoised[0] - denoised[1]) / near
            second = (denoised[1] - denoised[2]) / far
            d1 = first + (first - second) * near / (near + far)
            x = x + phi_2 * d1 - phi_3 * (first - second) / (near + far)
        x = x + to * math.sqrt(-math.expm1(-2 * h[0] * run.eta)) * run.brownian(sigma, to)
    return x


def vp_timesteps(steps: int) -> list[int]:
    return [min(t + 1, 999) for t in range(0, 1000, 1000 // steps)][::-1]


def vp_eps(run: Run, x: np.ndarray, alpha_cumprod: float, toy: Callable | None = None) -> np.ndarray:
    """The noise that the model finds in x = sqrt(a) x0 + sqrt(1 - a) noise."""
    sigma = math.sqrt((1 - alpha_cumprod) / alpha_cumprod)
    scaled = x / math.sqrt(alpha_cumprod)
    denoised = toy(scaled, sigma) if toy else run.model(scaled, sigma)
    return (x - math.sqrt(alpha_cumprod) * denoised) / math.sqrt(1 - alpha_cumprod)


def ddim(run: Run, is_plus_plus: bool = False) -> np.ndarray:
    x, timesteps = START, vp_timesteps(STEPS)
    for t, t_next in pairwise(timesteps):
        a, a_next = LEVELS.alphas_cumprod[t], LEVELS.alphas_cumprod[t_next]
        eps = vp_eps(run, x, a)
        direction = vp_eps(run, x, a, uncond_by_toy) if is_plus_plus else eps
        s = run.eta * math.sqrt((1 - a_next) / (1 - a) * (1 - a / a_next))
        x0 = (x - math.sqrt(1 - a) * eps) / math.sqrt(a)
        x = math.sqrt(a_next) * x0 + math.sqrt(1 - a_next - s**2) * direction + s * run.fresh()
    return x


def ddim_cfg_plus_plus(run: Run) -> np.ndarray:
    return ddim(run, is_plus_plus=True)


def plms(run: Run) -> np.ndarray:
    def transfer(x: np.ndarray, eps: np.ndarray, a: float, a_next: float) -> np.ndarray:
        return math.sqrt(a_next) * (x - math.sqrt(1 - a) * eps) / math.sqrt(a) + math.sqrt(1 - a_next) * eps

    x, old, timesteps = START, [], vp_timesteps(STEPS)
    for t, t_next in pairwise(timesteps):
        a, a_next = LEVELS.alphas_cumprod[t], LEVELS.alphas_cumprod[t_next]
        e = vp_eps(run, x, a)
        if not old:
            slope = (e + vp_eps(run, transfer(x, e, a, a_next), a_next)) / 2
        elif len(old) == 1:
            slope = (3 * e - old[0]) / 2
        elif len(old) == 2:
            slope = (23 * e - 16 * old[0] + 5 * old[1]) / 12
        else:
            slope = (55 * e - 59 * old[0] + 37 * old[1] - 9 * old[2]) / 24
        x, old = transfer(x, slope, a, a_next), [e, *old]
    return x


def unipc(run: Run) -> np.ndarray:
    """UniPC-3 with B(h) = h in alpha, sigma and lambda: predict, ask the model, correct; no correction at the end."""
    levels = len(LEVELS.alphas_cumprod)
    times = np.linspace(levels - 1, 0, len(vp_timesteps(STEPS)) + 1)
    log_alpha = np.interp(times, np.arange(levels), 0.5 * np.log(LEVELS.alphas_cumprod))
    alpha, sigma = np.exp(log_alpha), np.sqrt(1 - np.exp(2 * log_alpha))
    lam, steps = np.log(alpha / sigma), len(times) - 1

    def solve(i: int, order: int, has_new: bool) -> tuple[float, np.ndarray]:
        """B(h) and the weights for the differences (m_j - m_0) / r_j on the way from i - 1 to i."""
        h = -(lam[i] - lam[i - 1])
        r = [(lam[i - 1 - j] - lam[i - 1]) / -h for j in range(1, order)] + [1.0] * has_new
        if len(r) == 1:
            return h, np.array([0.5])
        phi = [sum(h**k / math.factorial(k + n + 1) for k in range(30)) for n in range(len(r) + 1)]
        right = [phi[n + 1] * math.factorial(n + 1) * h / h for n in range(len(r))]
        return h, np.linalg.solve([[v**n for v in r] for n in range(len(r))], right) if r else np.empty(0)

    x = START
    denoised = [run.model(x / alpha[0], sigma[0] / alpha[0])]
    for i in range(1, steps + 1):
        order = min(i, 3, steps + 1 - i)
        b, weights = solve(i, order, False)
        ratios = [(lam[i - 1 - j] - lam[i - 1]) / (lam[i] - lam[i - 1]) for j in range(1, order)]
        differences = [(denoised[j] - denoised[0]) / ratios[j - 1] for j in range(1, order)]
        base = sigma[i] / sigma[i - 1] * x - alpha[i] * math.expm1(b) * denoised[0]
        x = base - alpha[i] * b * sum(w * d for w, d in zip(weights, differences, strict=True))
        if i < steps:
            new = run.model(x / alpha[i], sigma[i] / alpha[i])
            _, weights = solve(i, order, True)
            differences.append(new - denoised[0])
            x = base - alpha[i] * b * sum(w * d for w, d in zip(weights, differences, strict=True))
            denoised.insert(0, new)
    return x


def lcm(run: Run) -> np.ndarray:
    levels = latent_consistency(LEVELS)
    x = START * run.sigmas[0]
    for _, sigma, to in steps_of(run):
        index = np.abs(np.log(levels.sigmas) - math.log(sigma)).argmin()
        t = 10 * (20 * index + 19)
        x = t / math.sqrt(t**2 + 0.25) * run.model(x, sigma) + 0.25 / (t**2 + 0.25) * x
        if to > 0:
            x = x + to * run.fresh()
    return x


def replace_eta(run: Run, eta: float) -> Run:
    run.eta = eta
    return run


STEPS = 7
REFERENCES: dict[str, Callable[[Run], np.ndarray]] = {
    "DPM++ 2M": dpmpp_2m,
    "DPM++ SDE": dpmpp_sde,
    "DPM++ 2M SDE": dpmpp_2m_sde,
    "DPM++ 2M SDE Heun": dpmpp_2m_sde_heun,
    "DPM++ 2S a": dpmpp_2s_ancestral,
    "DPM++ 3M SDE": dpmpp_3m_sde,
    "Euler a": euler_ancestral,
    "Euler": euler,
    "LMS": lms,
    "Heun": heun,
    "DPM2": dpm_2,
    "DPM2 a": dpm_2_ancestral,
    "DPM fast": dpm_fast,
    "Restart": restart,
    "DDIM": ddim,
    "DDIM CFG++": ddim_cfg_plus_plus,
    "PLMS": plms,
    "UniPC": unipc,
    "LCM": lcm,
    "DEIS": deis,
}
CASES = [
    *((name, "Automatic", STEPS) for name in REFERENCES if name != "Restart"),
    ("DPM++ 2M", "KL Optimal", STEPS),
    ("DPM fast", "Automatic", 8),
    ("DPM fast", "Automatic", 9),
    ("Restart", "Automatic", 21),
    ("Restart", "Automatic", 37),
]


def table_of(name: str, schedule: str, steps: int) -> StepTable:
    eta = None if resolve_sampler(name)[0].default_eta is None else ETA
    return build(name, schedule, steps, LEVELS, eta=eta, noise_scale=NOISE_SCALE)


def sigmas_of(name: str, schedule: str, steps: int) -> np.ndarray:
    """The levels as A1111 chooses them for this sampler."""
    info, _ = resolve_sampler(name)
    if name == "DPM fast":
        return np.geomspace(LEVELS.sigma_max, LEVELS.sigma_min, steps + 1)
    chosen = resolve_schedule(info.default_schedule if schedule == "Automatic" else schedule)
    levels = latent_consistency(LEVELS) if name == "LCM" else LEVELS
    discards = name in {"DPM2", "DPM2 a", "DPM++ 3M SDE"}
    sigmas = pick_sigmas(steps + discards, chosen, levels, ScheduleOptions())
    return np.append(sigmas[:-2], sigmas[-1]) if discards else sigmas


def run_table(table: StepTable) -> np.ndarray:
    """The result and every question to the model on the way, in one vector."""
    run = Run()
    result = table.run(lambda x, s, _: (run.model(x, s), uncond_by_toy(x, s)), START, run.unscaled)
    return np.concatenate([*run.asked, result])


def run_reference(name: str, schedule: str, steps: int) -> np.ndarray:
    run = Run(sigmas=sigmas_of(name, schedule, steps))
    result = REFERENCES[name](run)
    return np.concatenate([*run.asked, result])


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(one - other) / np.linalg.norm(other)) if one.shape == other.shape else math.inf


def test_every_sampler_has_a_reference():
    assert set(REFERENCES) == set(sampler_names())


@pytest.mark.parametrize(("name", "schedule", "steps"), CASES)
def test_table_equals_the_loop(name: str, schedule: str, steps: int):
    assert difference(run_table(table_of(name, schedule, steps)), run_reference(name, schedule, steps)) < MATCH


@pytest.mark.parametrize(
    ("name", "schedule", "steps"), [case for case in CASES if case != ("Restart", "Automatic", 37)]
)
def test_any_coefficient_off_by_a_thousandth_is_noticed(name: str, schedule: str, steps: int):
    table, reference = table_of(name, schedule, steps), run_reference(name, schedule, steps)
    places = np.argwhere(table.matrix)
    assert len(places) >= table.rows
    for place in map(tuple, places):
        matrix = table.matrix.copy()
        matrix[place] *= 1.001
        assert difference(run_table(replace(table, matrix=matrix)), reference) > MATCH, place


@pytest.mark.parametrize("name", ["Euler", "DDIM", "UniPC", "LCM"])
def test_wrong_noise_levels_and_scales_are_noticed(name: str):
    table, reference = table_of(name, "Automatic", STEPS), run_reference(name, "Automatic", STEPS)
    for row in range(table.rows):
        sigma = table.sigma.copy()
        sigma[row] *= 1.001
        assert difference(run_table(replace(table, sigma=sigma)), reference) > MATCH
    scaled = replace(table, initial_scale=1.001 * table.initial_scale)
    assert difference(run_table(scaled), reference) > MATCH
