"""A1111's "parameters" text, against published lines and A1111's own regular expression."""

from __future__ import annotations

import json
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hayate.errors import UsageError
from hayate.pipeline.infotext import (
    KEYS,
    Infotext,
    find_pairs,
    format_infotext,
    order_parameters,
    parse_infotext,
    pasted_parameters,
)

PUBLISHED = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
"""What A1111 1.10.1 finds pairs with: quadratic, and the definition of what a pair is."""

FORGE = (
    "Steps: 25, Sampler: Euler a, CFG scale: 5, Seed: 1529354297, Size: 832x1200, Model hash: 67ab2fd8ec, "
    "Model: ponyDiffusionV6XL_v6StartWithThisOne, VAE hash: 235745af8d, VAE: sdxl_vae.safetensors, "
    "Denoising strength: 0.4, Clip skip: 2, Hires upscale: 1.5, Hires steps: 14, Hires upscaler: 4x-UltraSharp, "
    'Lora hashes: "Alien_Concept_Art: fbfb35629d0a, xl_more_art-full_v1: fe3b4816be83", Emphasis: No norm, '
    "Version: f0.0.17v1.8.0rc-latest-276-g29be1da7"
)
A1111 = (
    "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 1944526060, Size: 512x512, "
    "Model hash: 6d82a674e1, Model: helloobjects_V15evae, ControlNet 0: "
    '"Module: canny, Model: control_v11p_sd15_canny [d14c016b], Weight: 1.0, ...", Version: v1.10.1'
)


@pytest.mark.parametrize(("line", "count"), [(FORGE, 17), (A1111, 10)])
def test_published_lines_give_every_key_and_come_back_unchanged(line: str, count: int) -> None:
    text = f"a boat, (sea:1.2)\nat dawn\nNegative prompt: lowres,\nblurry\n{line}"
    info = parse_infotext(text)
    assert (info.prompt, info.negative_prompt) == ("a boat, (sea:1.2)\nat dawn", "lowres,\nblurry")
    assert len(info.parameters) == count
    assert list(find_pairs(line)) == PUBLISHED.findall(line)
    assert format_infotext(info) == text


def test_quoted_values_are_unquoted() -> None:
    values = parse_infotext(f"x\n{FORGE}").parameters
    assert values["Lora hashes"] == "Alien_Concept_Art: fbfb35629d0a, xl_more_art-full_v1: fe3b4816be83"
    assert values["Version"] == "f0.0.17v1.8.0rc-latest-276-g29be1da7"
    assert values["Size"] == "832x1200"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain", "plain"),
        ('has "quotes"', 'has "quotes"'),
        ("a, b", '"a, b"'),
        ("a: b", '"a: b"'),
        ("a\nb", r'"a\nb"'),
        ('é, "ü"', r'"é, \"ü\""'),
    ],
)
def test_a_value_is_quoted_only_for_a_comma_a_colon_or_a_newline(value: str, written: str) -> None:
    assert format_infotext(Infotext(parameters={"Key": value})) == f"Key: {written}"


def test_a_key_that_equals_its_value_is_written_once() -> None:
    assert format_infotext(Infotext(parameters={"Steps": "1", "Tiling": "Tiling"})) == "Steps: 1, Tiling"


PIECES = st.sampled_from(
    ["a", "bc", " ", "-", "/", ":", ",", '"', "\\", "\t", "é", "7", "x", "_", "(", "1x2", "ab: ", '"a, b"', ": ", ", "]
)


@given(st.lists(PIECES, max_size=30).map("".join))
def test_pairs_are_those_of_the_published_expression(line: str) -> None:
    assert list(find_pairs(line)) == PUBLISHED.findall(line)


NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_/-]{1,10}( [a-z]{1,8})?", fullmatch=True)
VALUES = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20).filter(
    lambda text: not text.startswith('"')
)
PROMPTS = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters=":"), max_size=40)


@given(prompt=PROMPTS, negative=PROMPTS, parameters=st.dictionaries(NAMES, VALUES | st.just("a, b: c\nd"), min_size=3))
def test_what_is_written_is_read_back(prompt: str, negative: str, parameters: dict[str, str]) -> None:
    parameters = {key: value for key, value in parameters.items() if key != value}
    if len(parameters) < 3:
        return
    info = Infotext(prompt=prompt, negative_prompt=negative, parameters=parameters)
    assert parse_infotext(format_infotext(info)) == info


@given(st.text(max_size=200))
def test_any_text_is_read(text: str) -> None:
    pasted_parameters(parse_infotext(text))


def test_fewer_than_three_pairs_are_prompt() -> None:
    info = parse_infotext("a painting\nSteps: 20, Seed: 3")
    assert info == Infotext(prompt="a painting\nSteps: 20, Seed: 3")


def test_keys_of_one_letter_are_invisible() -> None:
    values = parse_infotext("p\nSteps: 20, A: 1, Seed: 3, Size: 8x8").parameters
    assert list(values) == ["Steps", "Seed", "Size"]


@pytest.mark.parametrize(
    "line", ["a" * 1_000_000, "a:" * 300_000, 'ab:"' * 200_000, "a " * 500_000, 'ab: "\\' * 150_000]
)
def test_hostile_lines_take_linear_time(line: str) -> None:
    started = time.process_time()
    parse_infotext(line)
    assert time.process_time() - started < 5, "the published expression needs hours"


def test_a_text_beyond_the_cap_is_refused() -> None:
    with pytest.raises(UsageError, match="1048577 characters"):
        parse_infotext("a" * (1024 * 1024 + 1))


def test_built_in_keys_come_in_a1111s_order_and_none_is_left_out() -> None:
    scrambled = {
        "Version": "v1",
        "Emphasis": "Original",
        "Seed": 5,
        "VAE": None,
        "CFG scale": 7.0,
        "Eta": 0.5,
        "Steps": 20,
    }
    expected = {"Steps": "20", "CFG scale": "7", "Seed": "5", "Emphasis": "Original", "Eta": "0.5", "Version": "v1"}
    assert list(order_parameters(scrambled).items()) == list(expected.items())


def test_real_lines_have_the_built_in_keys_in_our_order() -> None:
    for line in (FORGE, A1111):
        known = [key for key, _ in find_pairs(line) if key in KEYS]
        assert known == sorted(known, key=KEYS.index)


def test_missing_keys_get_a1111s_defaults() -> None:
    values = pasted_parameters(parse_infotext(f"(sea:1.2)\n{A1111}"))
    assert (values["Size-1"], values["Size-2"], values["Clip skip"], values["RNG"]) == ("512", "512", "1", "GPU")
    assert (values["Schedule type"], values["Emphasis"], values["VAE Decoder"]) == ("Karras", "Original", "Full")
    assert "Emphasis" not in pasted_parameters(parse_infotext(f"sea\n{A1111}"))


@pytest.mark.parametrize(
    ("version", "sampler", "prompt", "expected"),
    [
        ("v1.5.2", "DDIM", "[a:b:3]", {"Old prompt editing timelines", "Pad conds v0", "Downcast alphas_cumprod"}),
        ("v1.5.2", "Euler", "a", {"Downcast alphas_cumprod"}),
        ("v1.6.0", "DDIM", "[a:b:3]", {"Downcast alphas_cumprod"}),
        ("v1.7.0-224-g00", "DDIM", "[a]", {"Downcast alphas_cumprod"}),
        ("v1.7.0-225-g00", "DDIM", "[a]", set()),
        ("f0.0.17v1.5.0", "DDIM", "[a]", set()),
    ],
)
def test_old_versions_imply_old_behaviour(version: str, sampler: str, prompt: str, expected: set[str]) -> None:
    info = Infotext(prompt=prompt, parameters={"Sampler": sampler, "Version": version})
    values = pasted_parameters(info)
    old = {
        "Old prompt editing timelines",
        "Pad conds v0",
        "Downcast alphas_cumprod",
        "Refiner switch by sampling steps",
    }
    assert {key for key in values if key in old} == expected


@given(st.text(max_size=30))
def test_quoting_is_json(value: str) -> None:
    marked = f"{value},"
    assert json.loads(format_infotext(Infotext(parameters={"Key": marked})).removeprefix("Key: ")) == marked
