"""What was asked becomes a job: request before settings before the model, and nothing left open."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hayate.errors import UsageError
from hayate.models.config import SD1, SD1_UNET, SD2, SDXL, Family
from hayate.pipeline.resolve import noise_schedule, resolve
from hayate.prompt.chunks import Emphasis
from hayate.request import TextToImage
from hayate.settings import load_settings


def settings(**flags: object):
    return load_settings(flags, environment={})


def job(config=SD1, flags: dict | None = None, **asked: object):
    return resolve(TextToImage(**{"prompt": "a cat", **asked}), settings(**(flags or {})), config)


@cache
def plain_job():
    return job()


def test_request_before_settings_before_model() -> None:
    assert (job(SDXL).width_px, job(SDXL).height_px) == (1024, 1024)
    assert (job(SDXL, {"width_px": 512}).width_px, job(SDXL, {"width_px": 512}).height_px) == (512, 1024)
    assert job(SDXL, {"width_px": 512}, width_px=640).width_px == 640
    assert job(flags={"steps": 31}).steps == 31
    assert job(flags={"steps": 31}, steps=7).table.steps == 7


def test_old_joined_sampler_names_bring_their_schedule() -> None:
    made = job(sampler="DPM++ 2M SDE Karras", flags={"scheduler": "Automatic"})
    assert (made.sampler.name, made.table.schedule) == ("DPM++ 2M SDE", "Karras")
    assert job(sampler="Euler", scheduler="Exponential").table.schedule == "Exponential"


@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(1, 4), st.booleans())
def test_seeds_go_up_by_one(seed: int, size: int, count: int, is_variation: bool) -> None:
    made = replace(
        plain_job(), seed=seed, subseed=100, subseed_strength=0.5 * is_variation, batch_size=size, batch_count=count
    )
    batches = list(made.batches())
    seeds = [number for batch in batches for number in batch.seeds]
    subseeds = [number for batch in batches for number in batch.subseeds]
    assert seeds == ([seed] * (size * count) if is_variation else list(range(seed, seed + size * count)))
    assert subseeds == list(range(100, 100 + size * count))
    assert [batch.index for batch in batches] == list(range(0, size * count, size))


def test_a_seed_that_is_not_given_is_drawn() -> None:
    drawn = {job(seed=asked).seed for asked in (None, -1) for _ in range(4)}
    assert len(drawn) > 1
    assert all(0 <= seed < 4294967294 for seed in drawn)


def test_second_order_samplers_count_evaluations() -> None:
    heun, euler = (job(prompt="[a:b:0.5]", sampler=name, steps=10) for name in ("Heun", "Euler"))
    assert [stage.until_step for stage in heun.prompt.subprompts[0].stages] == [10, 20]
    assert [stage.until_step for stage in euler.prompt.subprompts[0].stages] == [5, 10]


def test_names_are_found_in_any_case() -> None:
    assert job(emphasis="no NORM").style.emphasis is Emphasis.NO_NORM
    assert job(noise_source="nv").noise_source.value == "NV"


def test_what_does_not_act_is_said() -> None:
    notes = job(SD2, prompt="a (cat <lora:fluff:0.7>", clip_skip=2, sampler="Euler", eta=0.5).notes
    assert any("lora:fluff" in note for note in notes)
    assert any("clip skip" in note for note in notes)
    assert any("eta" in note for note in notes)
    assert any("bracket" in note.lower() or "(" in note for note in notes)
    assert not job(prompt="a (cat:1.2), [dog]", clip_skip=2).notes


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (replace(SDXL, family=Family.SDXL_REFINER), "refiner"),
        (replace(SD1, unet=replace(SD1_UNET, in_channels=8)), "edits"),
    ],
)
def test_models_that_need_a_picture_are_refused(config, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        job(config)


def test_clip_skip_has_the_encoders_depth_as_its_end() -> None:
    assert job(clip_skip=12).style.clip_skip == 12
    assert job(clip_skip=1).style.clip_skip is None
    shallow = replace(SD1, text=(replace(SD1.text[0], depth=4),))
    with pytest.raises(UsageError, match="4 layers"):
        job(shallow, clip_skip=5)


def test_zero_terminal_snr_starts_from_pure_noise() -> None:
    plain, zero = noise_schedule(SD2), noise_schedule(replace(SD2, is_zero_terminal_snr=True))
    assert plain.sigma_max == pytest.approx(14.6146, abs=1e-3)
    # A1111's last alphas_cumprod, 4.8973451890853435e-08, is sigma 4518.76.
    assert zero.sigma_max == pytest.approx((1 / 4.8973451890853435e-08 - 1) ** 0.5, rel=1e-3)


def test_styles_go_around_the_prompt(tmp_path) -> None:
    file = tmp_path / "styles.csv"
    file.write_text('name,prompt,negative_prompt\npaint,"oil painting of {prompt}, framed",photo\n', encoding="utf-8")
    made = job(flags={"styles_file": file}, styles=("paint",), negative_prompt="rain")
    assert made.prompt_text == "oil painting of a cat, framed"
    assert made.negative_text == "rain, photo"
