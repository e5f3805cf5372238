"""The options and flags that say how to compute, from the outside: choices, notes, and mistakes in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hayate.cli.main import main
from hayate.models.config import Family
from tests.tiny_models import write_tiny

NAMES = {"device", "precision", "attention", "layers", "layout", "compile", "graphs", "offload", "memory"}
NAMES |= {"inputs at once", "VAE decode", "NaN check", "promise", "profile"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    write_tiny(path, Family.SD1)
    return str(path)


def test_programs_get_every_choice_with_a_reason_as_one_object(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "--model", model, "--size", "64x64", "--device", "cpu", "--no-half-vae", "--listen", "--json"]
    assert main(words) == 0
    shown = capsys.readouterr()
    plan = json.loads(shown.out)
    assert shown.err == ""
    assert set(plan["choices"]) == NAMES
    assert all(choice["value"] and choice["reason"] for choice in plan["choices"].values())
    assert "vae fp32" in plan["choices"]["precision"]["value"]
    assert [note for note in plan["notes"] if note.startswith("--listen")]


def test_people_get_a_line_for_each_choice_and_notes_apart(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--model", model, "--device", "cpu", "--medvram", "--theme", "dark"]) == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert len(lines) == len(NAMES)
    assert all(any(line.startswith(name) for line in lines) for name in NAMES)
    assert [line for line in shown.err.splitlines() if line.startswith("note: --theme")]
    assert [line for line in shown.err.splitlines() if line.startswith("note: medvram does not act")]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--medvram", "--lowvram"], "contradict"),
        (["--device", "cpu", "--device-id", "0"], "contradict"),
        (["--xfromers"], "--xformers"),
        (["--promise", "deterministic", "--compile", "default"], "deterministic"),
        (["--attention", "flashy"], "unknown attention backend"),
        (["--use-cpu", "gpu"], "unknown name for --use-cpu"),
        (["--guidance-interval", "0.3"], "is no interval"),
        (["--guidance-interval", "5,0.3"], "is no interval"),
        (["--deepcache", "0"], "can't be"),
        (["--tome", "0.9"], "can't be merged"),
        (["--s-min-uncond", "-1"], "can't be"),
        (["--deepcache", "3", "--promise", "exact"], "add --promise fast"),
    ],
)
def test_a_mistake_is_one_line(model: str, more: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--model", model, *more]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert expected in shown.err


def test_generate_takes_the_approximate_methods_and_the_picture_says_what_acted(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    methods = ["--guidance-interval", "0.3,12", "--s-min-uncond", "1", "--deepcache", "2", "--tome", "0.5"]
    words = ["generate", "a cat", "--negative", "rain", "--model", model, "--size", "64x64", "--steps", "8"]
    assert main([*words, *methods, "-o", str(tmp_path / "a.png"), "--device", "cpu", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    evidence = {each["name"]: each for each in made["speed"]["evidence"]}
    assert all(evidence[name]["active"] for name in ("guidance", "DeepCache", "token merging"))
    assert made["plan"]["choices"]["promise"]["value"] == "fast"
    assert "Token merging ratio: 0.5, " in made["images"][0]["infotext"]


def test_flags_without_a_command_are_no_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--xformers", "--medvram", "--port", "7861"]) == 0
    assert "usage: hayate" in capsys.readouterr().out


def test_flags_of_the_server_stop_no_other_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list", "--models-dir", str(tmp_path), "--xformers", "--port", "7861", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["folder"] == str(tmp_path)
