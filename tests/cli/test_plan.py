"""`hayate plan`, as a user meets it."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from hayate.cli.main import main
from hayate.models.config import Family
from tests.tiny_models import write_tiny


def test_every_choice_has_a_value_and_a_reason(capsys):
    assert main(["plan", "--json"]) == 0
    choices = json.loads(capsys.readouterr().out)["choices"]
    assert {"device", "precision", "attention", "layers", "compile", "offload", "memory", "promise"} <= set(choices)
    assert all(choice["value"] and choice["reason"] for choice in choices.values())


def test_flags_of_a1111_act_and_those_without_effect_are_noted(capsys):
    assert main(["plan", "--opt-split-attention", "--no-half", "--autolaunch", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["choices"]["attention"]["value"] == "split"
    assert plan["choices"]["precision"]["value"] == "unet fp32 vae fp32 text fp32"
    assert plan["notes"] == ["--autolaunch: the server's; it has no effect on this command"]


def test_flags_of_one_command_are_forgotten_by_the_next(capsys):
    main(["plan", "--opt-split-attention", "--json"])
    capsys.readouterr()
    assert main(["plan", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["choices"]["attention"]["value"] != "split"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--medvram", "--lowvram"], "contradict"),
        (["--opt-sdp-atention"], "--opt-sdp-attention"),
        (["--attention", "sdq"], "nearest: sdp"),
        (["--vae-tile", "128", "--promise", "exact"], "--promise fast"),
        (["--device-id", "7"], "not available"),
        (["--precision"], "needs a value"),
    ],
)
def test_what_can_not_be_is_one_line_with_a_hint(capsys, words, message):
    assert main(["plan", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_deterministic_plan_repeats_every_bit_in_other_processes_too(tmp_path):
    model = tmp_path / "tiny.safetensors"
    write_tiny(model, Family.SD1)
    words = ["generate", "x", "--model", str(model), "--size", "64x64", "--steps", "2", "--seed", "5"]
    words += ["--promise", "deterministic", "--dtype", "bf16"]
    for index in range(3):
        assert main([*words, "-o", str(tmp_path / f"{index}.png")]) == 0
    for index in (3, 4):
        command = [sys.executable, "-m", "hayate", *words, "-o", str(tmp_path / f"{index}.png")]
        subprocess.run(command, check=True, capture_output=True)
    pixels = [np.asarray(Image.open(tmp_path / f"{index}.png")) for index in range(5)]
    assert all(np.array_equal(each, pixels[0]) for each in pixels)
    assert pixels[0].std() > 1


def test_a_picture_carries_its_plan_and_what_acted(capsys, tmp_path):
    words = ["generate", "a red sun", "--steps", "1", "--attention", "math", "-o", str(tmp_path / "a.png"), "--json"]
    assert main(words) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["plan"]["choices"]["attention"]["value"] == "math"
    seen = {each["name"]: each for each in report["speed"]["evidence"]}
    assert seen["attention"]["active"]
    assert seen["qkv"]["active"]
