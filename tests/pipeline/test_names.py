"""File names from patterns: A1111's words, and no pattern, prompt or model name that leads anywhere else."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path, PureWindowsPath

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from hayate.models.config import SD1
from hayate.pipeline.formats import PictureTexts
from hayate.pipeline.names import MAX_BYTES, MAX_CHARACTERS, WORDS, NameFacts, fill_pattern
from hayate.pipeline.png import Target, save_picture
from hayate.pipeline.resolve import resolve
from hayate.request import TextToImage
from hayate.settings import load_settings

MOMENT = datetime(2024, 3, 9, 21, 5, 7, tzinfo=UTC)
PROMPT = "A red sun, (sea:1.2) over purple mountains and boats at dawn in fog"
REQUEST = TextToImage(
    prompt=PROMPT,
    negative_prompt="rain",
    steps=12,
    cfg=7.5,
    width_px=512,
    height_px=768,
    seed=40,
    sampler="Euler a",
    scheduler="Karras",
    clip_skip=2,
    batch_size=2,
    batch_count=3,
)


@cache
def facts(number: int = 3) -> NameFacts:
    job = resolve(REQUEST, load_settings({}, environment={}), SD1)
    return NameFacts(
        job=job,
        number=number,
        model_name="landscapes-v1.2",
        model_hash="0123456789",
        vae_name="mse.safetensors",
        started=MOMENT,
        saved=MOMENT,
    )


def alone() -> NameFacts:
    return replace(facts(0), job=replace(facts().job, batch_size=1, batch_count=1))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("[seed]", "43"),
        ("[seed]-[prompt_spaces]", f"43-{PROMPT}".replace(":", "_")),
        ("[prompt]", PROMPT.replace(":", "_").replace(" ", "_")),
        ("[prompt_words]", "A red sun sea 1 2 over purple"),
        ("[seed_first]-[seed_last]", "42-43"),
        ("[steps]x[cfg]x[width]x[height]", "12x7.5x512x768"),
        ("[sampler], [scheduler]", "Euler a, Karras"),
        ("[model_name] [model_hash]", "landscapes-v1.2 0123456789"),
        ("[vae_filename]", "mse.safetensors"),
        ("[clip_skip]", "2"),
        ("[styles]", "None"),
        ("[date]", "2024-03-09"),
        ("[datetime<%Y.%m.%d %H-%M><UTC>]", "2024.03.09 21-05"),
        ("[datetime<%H><Asia/Tokyo>]", "06"),
        ("[batch_number] of [batch_size], [generation_number]", "2 of 2, 4"),
        ("[prompt_hash<5>]", hashlib.sha256(PROMPT.encode()).hexdigest()[:5]),
        ("[hasprompt<SEA|none><girl|no girl>]", "SEAno girl"),
        ("[unknown]-[seed]", "[unknown]-43"),
        ("[SEED]", "43"),
        ("[none]", ""),
        ("..[seed]. ", "..43"),
        ("a/../b\\c:[seed]", "a_.._b_c_43"),
    ],
)
def test_words_are_filled_in(pattern: str, expected: str) -> None:
    assert fill_pattern(pattern, facts()) == expected


def test_what_has_nothing_to_say_takes_the_text_before_it_away() -> None:
    assert fill_pattern("[seed]-[batch_number]-[generation_number]-[seed_last]", alone()) == "40"
    assert fill_pattern("[seed]-[batch_number]-end", alone()) == "40-end"


def test_the_pages_name_every_word() -> None:
    page = (Path(__file__).parents[2] / "docs/compat.md").read_text(encoding="utf-8")
    assert [word for word in WORDS if f"`[{word}" not in page] == []


PIECES = st.sampled_from([f"[{word}]" for word in WORDS]) | st.sampled_from(
    ["[datetime<%c>]", "[datetime<%D/%T>]", "[datetime<\0%>]", "[hasprompt<../|/..>]", "[", "]", "<", "../", "CON", "."]
)
PATTERNS = st.lists(PIECES | st.text(max_size=8), max_size=12).map("".join)


@examples(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pattern=PATTERNS, prompt=st.text(max_size=300), model=st.text(max_size=300), is_alone=st.booleans())
def test_no_pattern_leaves_the_folder_or_replaces_a_picture(
    tmp_path: Path, pattern: str, prompt: str, model: str, is_alone: bool
) -> None:
    base = alone() if is_alone else facts()
    job = replace(base.job, prompt_text=prompt, request=replace(REQUEST, prompt=prompt, styles=(model,)))
    stem = fill_pattern(pattern, replace(base, job=job, model_name=model, model_hash=model, vae_name=model))
    assert len(stem) <= MAX_CHARACTERS
    assert len(stem.encode("utf-8")) <= MAX_BYTES
    before = {path.name for path in tmp_path.iterdir()}
    picture = np.zeros((2, 2, 3), np.uint8)
    path = save_picture(picture, Target(folder=tmp_path), stem=stem, texts=PictureTexts(parameters=""))
    assert path.parent == tmp_path
    assert {each.name for each in tmp_path.iterdir()} == before | {path.name}
    assert path.name not in before
    assert not set(path.name) & set('<>:"/\\|?*\n\r\t\0')
    assert not PureWindowsPath(path.name).is_reserved()
    assert path.stem == path.stem.rstrip(" .")
    assert path.name.isprintable() or all(each.isprintable() or each == " " for each in path.name)
