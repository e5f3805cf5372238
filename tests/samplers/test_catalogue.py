from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hayate.errors import UnknownName, UsageError
from hayate.samplers.catalogue import SAMPLERS, build, resolve_sampler, sampler_names
from hayate.samplers.sigmas import NoiseSchedule, ScheduleOptions, scaled_linear, schedule_names, zero_terminal_snr
from hayate.samplers.table import SLOTS, Brownian, Fresh, StepTable

LEVELS = scaled_linear()
ZERO_SNR = zero_terminal_snr(LEVELS)
OWN_TIMESTEPS = {"DDIM", "DDIM CFG++", "PLMS"}

# What A1111 v1.10.1 shows; DEIS is Forge's.
DEFAULTS = {
    "DPM++ 2M": "Karras",
    "DPM++ SDE": "Karras",
    "DPM++ 2M SDE": "Exponential",
    "DPM++ 2M SDE Heun": "Exponential",
    "DPM++ 2S a": "Karras",
    "DPM++ 3M SDE": "Exponential",
    "Euler a": "Uniform",
    "Euler": "Uniform",
    "LMS": "Uniform",
    "Heun": "Uniform",
    "DPM2": "Karras",
    "DPM2 a": "Karras",
    "DPM fast": "Automatic",
    "Restart": "Karras",
    "DDIM": "Automatic",
    "DDIM CFG++": "Automatic",
    "PLMS": "Automatic",
    "UniPC": "Automatic",
    "LCM": "Uniform",
    "DEIS": "Uniform",
}


@pytest.mark.parametrize(
    ("name", "sampler", "schedule"),
    [
        ("Euler a", "Euler a", None),
        ("EULER A", "Euler a", None),
        ("k_euler_ancestral", "Euler a", None),
        ("DPM++ 2M Karras", "DPM++ 2M", "Karras"),
        ("dpm++ 2m sde heun exponential", "DPM++ 2M SDE Heun", "Exponential"),
        ("DPM++ 2M SDE Heun Karras", "DPM++ 2M SDE Heun", "Karras"),
        ("DPM2 a Karras", "DPM2 a", "Karras"),
        ("LMS Karras", "LMS", "Karras"),
        ("Euler SGMUniform", "Euler", "SGM Uniform"),
        ("Euler SGM Uniform", "Euler", "SGM Uniform"),
        ("Euler Align Your Steps", "Euler", "Align Your Steps"),
        ("DDIM", "DDIM", None),
        ("k_dpmpp_2m_ka", "DPM++ 2M", "Karras"),
        ("k_dpmpp_3m_sde_exp", "DPM++ 3M SDE", "Exponential"),
        ("  DPM++   2M  ", None, None),
        ("UniPC", "UniPC", None),
    ],
)
def test_names(name: str, sampler: str | None, schedule: str | None):
    if sampler is None:
        with pytest.raises(UnknownName):
            resolve_sampler(name)
        return
    info, joined = resolve_sampler(name)
    assert (info.name, joined) == (sampler, schedule)


def test_every_name_and_alias_means_one_sampler():
    known = [name.casefold() for info in SAMPLERS for name in (info.name, *info.aliases)]
    # DDIM, PLMS and UniPC have themselves in lower case as an alias.
    assert len({*known}) == len(known) - len([info for info in SAMPLERS if info.name.casefold() in info.aliases])
    assert all(resolve_sampler(name)[0] is info for info in SAMPLERS for name in (info.name, *info.aliases))


def test_an_unknown_sampler_names_the_nearest():
    with pytest.raises(UnknownName) as caught:
        resolve_sampler("DPM++ 2N")
    assert "DPM++ 2M" in caught.value.nearest


@pytest.mark.parametrize("name", ["DPM adaptive", "k_dpm_ad", "dpm adaptive karras"])
def test_dpm_adaptive_is_refused_with_the_reason(name: str):
    with pytest.raises(UsageError, match="step sizes") as caught:
        resolve_sampler(name)
    assert "DPM++ 2M" in caught.value.hint


@pytest.mark.parametrize("name", sampler_names())
def test_automatic_means_what_a1111_shows(name: str):
    assert build(name, "Automatic", 5, LEVELS).schedule == DEFAULTS[name]


def test_flags_are_a1111s():
    def named(flag: str) -> set[str]:
        return {info.name for info in SAMPLERS if getattr(info, flag)}

    assert named("uses_ensd") == {"DPM++ 2S a", "Euler a", "DPM2 a", "DPM fast"}
    assert named("extra_levels") == {"DPM++ 3M SDE", "DPM2", "DPM2 a"}
    assert named("is_second_order") == {"DPM++ SDE", "DPM++ 2S a", "Heun", "DPM2", "DPM2 a", "Restart"}
    assert named("is_sde") == {"DPM++ SDE", "DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 3M SDE"}


@pytest.mark.parametrize("name", sampler_names())
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 20, 36, 999, 1000])
@pytest.mark.parametrize("levels", [LEVELS, ZERO_SNR], ids=["usual", "zero-snr"])
def test_any_step_count_makes_a_table_or_is_refused(name: str, steps: int, levels: NoiseSchedule):
    if steps == 1 and name in OWN_TIMESTEPS:
        with pytest.raises(UsageError, match="at least 2 steps"):
            build(name, "Automatic", steps, levels)
        return
    table = build(name, "Automatic", steps, levels)
    info, _ = resolve_sampler(name)
    # The samplers with timesteps of their own walk every (1000 // steps)-th, however many those are.
    walked = {"UniPC": 0, "DDIM": 1, "DDIM CFG++": 1, "PLMS": 1}
    expected = len(range(0, 1000, 1000 // steps)) - walked[name] if name in walked else steps
    assert table.steps == expected
    assert table.rows == (2 * expected - 1 if info.is_second_order else expected + (name == "PLMS"))
    assert 0 <= table.timestep.min() <= table.timestep.max() <= 999


def test_ddim_walks_a1111s_timesteps_and_stops_at_one():
    table = build("DDIM", "Automatic", 20, LEVELS)
    np.testing.assert_array_equal(table.timestep, np.arange(951, 50, -50))
    assert table.sigma_end == pytest.approx(LEVELS.sigmas[1])
    assert table.final_scale == pytest.approx(np.sqrt(LEVELS.alphas_cumprod[1]))
    assert table.initial_scale == pytest.approx(np.hypot(1, table.sigma[0]))


def test_unipc_walks_from_the_last_timestep_to_the_first():
    table = build("UniPC", "Automatic", 20, LEVELS)
    np.testing.assert_allclose(table.timestep, np.linspace(999, 0, 21)[:-1])
    assert table.sigma_end == pytest.approx(LEVELS.sigma_min)


def noise_levels(table: StepTable) -> tuple[np.ndarray, np.ndarray]:
    """What a model that always answers with the same image c sees: how much of c is in X, and X's deviation from it.

    The last entry is the result. Draws count as independent: DPM++ SDE's two of a step overlap, but with a constant
    answer the first has no way into the second.
    """
    weight, spread = np.eye(SLOTS)[0], np.zeros((SLOTS, SLOTS))
    spread[0, 0] = table.sigma[0] ** 2
    means, deviations = [1.0], [table.sigma[0]]
    for matrix in table.matrix:
        state, answers, drawn = matrix[:, :SLOTS], matrix[:, SLOTS : SLOTS + 2].sum(axis=1), matrix[:, -1]
        weight = state @ weight + answers
        spread = state @ spread @ state.T + np.outer(drawn, drawn)
        means.append(weight[0])
        deviations.append(np.sqrt(max(spread[0, 0], 0)))
    return np.array(means), np.array(deviations)


@settings(deadline=None)
@given(
    st.sampled_from(sampler_names()),
    st.sampled_from(schedule_names()),
    st.integers(2, 45),
    st.floats(0, 1),
    st.booleans(),
)
def test_the_noise_in_x_is_what_the_model_is_told(name: str, schedule: str, steps: int, eta: float, has_zero_snr: bool):
    table = build(name, schedule, steps, ZERO_SNR if has_zero_snr else LEVELS, eta=eta)
    means, deviations = noise_levels(table)
    expected = np.append(table.sigma, table.sigma_end)
    scale = np.append(np.ones(table.rows), table.final_scale)
    # LCM's boundary scalings are off by up to 4e-6 by definition.
    np.testing.assert_allclose(means, scale, rtol=1e-5)
    np.testing.assert_allclose(deviations, scale * expected, rtol=1e-5, atol=1e-4 if name == "LCM" else 1e-6)


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("Euler", 2e-2),
        ("DDIM", 2e-2),
        ("Heun", 5e-4),
        ("DPM2", 5e-4),
        ("DPM++ 2M", 5e-4),
        ("LMS", 5e-4),
        ("DEIS", 5e-4),
        ("PLMS", 1e-3),
        ("UniPC", 5e-3),
        ("DPM fast", 5e-4),
    ],
)
def test_ode_samplers_find_the_exact_solution_of_a_gaussian(name: str, tolerance: float):
    deviation = 0.6
    # KL Optimal ends where the model does: a jump from there to zero would be an error of its own.
    table = build(name, "KL Optimal", 200, LEVELS, eta=0.0)

    def denoise(x: np.ndarray, sigma: float, _: float) -> tuple[np.ndarray, np.ndarray]:
        return x * deviation**2 / (deviation**2 + sigma**2), x

    found = table.run(denoise, np.ones(1), lambda _: np.zeros(1))[0] / (table.initial_scale * table.final_scale)
    exact = np.sqrt((deviation**2 + table.sigma_end**2) / (deviation**2 + table.sigma[0] ** 2))
    assert table.sigma_end > 0
    assert found == pytest.approx(exact, rel=tolerance)


def test_noise_is_asked_for_where_a1111_draws_it():
    euler_a = build("Euler a", "Automatic", 5, LEVELS)
    assert euler_a.noise == (Fresh(),) * 4 + (None,)
    sde = build("DPM++ SDE", "Karras", 3, LEVELS)
    spans = [(noise.sigma_from, noise.sigma_to) for noise in sde.noise if isinstance(noise, Brownian)]
    levels = sde.sigma
    assert spans == [(levels[row], levels[row + 1 + late]) for row in (0, 2) for late in (0, 1)]
    assert sde.brownian_range == (sde.sigma[-1], sde.sigma[0])
    assert build("DPM++ 2M SDE", "Automatic", 9, LEVELS, eta=0.0).brownian_range is None
    assert set(build("DDIM", "Automatic", 5, LEVELS, eta=1.0).noise) == {Fresh()}


def test_only_cfg_plus_plus_needs_the_unconditional_image():
    tables = {name: build(name, "Automatic", 4, LEVELS) for name in sampler_names()}
    assert [name for name, table in tables.items() if table.uses_uncond] == ["DDIM CFG++"]
    assert tables["DDIM CFG++"].guidance_factor == pytest.approx(1 / 12.5)


def test_sgm_noise_multiplier_starts_higher():
    usual, sgm = (build("Euler", "Karras", 4, LEVELS, is_sgm_noise=flag) for flag in (False, True))
    assert (usual.initial_scale, sgm.initial_scale) == pytest.approx((14.6146, np.sqrt(1 + 14.6146**2)), rel=1e-5)


@pytest.mark.parametrize(
    ("sampler", "schedule", "keywords", "note"),
    [
        ("DDIM", "Karras", {}, "DDIM has its own timesteps: the schedule Karras is not used"),
        ("UniPC", "Automatic", {"options": ScheduleOptions(rho=3)}, "UniPC has its own timesteps: rho is not used"),
        ("Euler", "Automatic", {"eta": 0.5}, "Euler takes no eta"),
        ("Euler", "Simple", {"options": ScheduleOptions(sigma_max=9)}, "the schedule Simple takes no sigma_max"),
        ("Euler", "Simple", {"noise_scale": 1.1}, "Euler adds no noise: noise_scale is not used"),
        ("PLMS", "Automatic", {"is_sgm_noise": True}, "PLMS has its own start: the SGM noise multiplier is not used"),
        ("Restart", "Simple", {"steps": 20}, "Restart goes by Karras between the ends of Simple from 20 steps on"),
        ("Euler", "Exponential", {"options": ScheduleOptions(rho=9)}, "the schedule Exponential takes no rho"),
    ],
)
def test_what_does_not_act_is_noted(sampler: str, schedule: str, keywords: dict, note: str):
    assert build(sampler, schedule, **({"steps": 5, "noise_schedule": LEVELS} | keywords)).notes == (note,)


def test_what_acts_is_not_noted():
    options = ScheduleOptions(sigma_min=0.1, sigma_max=10, rho=5)
    assert build("Euler a", "Karras", 5, LEVELS, eta=0.5, noise_scale=1.1, options=options).notes == ()
    assert build("Restart", "Karras", 20, LEVELS, noise_scale=1.1, is_sgm_noise=True).notes == ()


@pytest.mark.parametrize(
    ("steps", "keywords"),
    [
        (0, {}),
        (-1, {}),
        (1001, {}),
        (10**12, {}),
        (5, {"eta": -0.1}),
        (5, {"eta": float("nan")}),
        (5, {"noise_scale": float("inf")}),
    ],
)
def test_impossible_numbers_are_refused(steps: int, keywords: dict):
    with pytest.raises(UsageError):
        build("Euler a", "Automatic", steps, LEVELS, **keywords)


def test_tables_are_made_without_torch_or_scipy():
    code = (
        "import sys; from hayate.samplers.catalogue import build; from hayate.samplers.sigmas import scaled_linear;"
        "build('DEIS', 'Beta', 5, scaled_linear()); print([m for m in ('torch', 'scipy') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
