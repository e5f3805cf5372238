"""Competitors are timed in turns on the same weights, what is missing is told, and the leaderboard is fresh."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.competitors import __main__ as competitors
from benchmarks.competitors.base import TASKS, Competitor, Job, tensors
from benchmarks.competitors.leaderboard import PAGE, RESULTS, page, rows
from benchmarks.competitors.serve import NAMES, competitor
from benchmarks.turns import Contender, EndedEarly, take_turns
from hayate.models.config import Family
from tests.tiny_models import write_tiny

ECHO = """
import json, sys
print(json.dumps({"version": "1"}), flush=True)
for line in sys.stdin:
    with open(sys.argv[1], "a") as log: log.write(sys.argv[2] + line)
    print(json.dumps({"seconds": 0.5}), flush=True)
print(json.dumps({"peak_bytes": 7}), flush=True)
"""


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("competitors")
    config = write_tiny(folder / "tiny.safetensors", Family.SD1, dtype=torch.float16)
    return Job(
        checkpoint=str(folder / "tiny.safetensors"),
        folder=str(folder),
        dtype="fp32",
        threads=1,
        side_px=128,
        context_width=config.unet.context_width,
    )


def test_hayate_and_diffusers_compute_the_same_from_the_same_file(job: Job) -> None:
    with torch.inference_mode():
        ours, theirs = (competitor(name).load(job).tasks for name in ("hayate", "diffusers"))
        for task in TASKS:
            torch.testing.assert_close(ours[task](), theirs[task](), rtol=1e-3, atol=1e-3)


def test_a_run_has_all_rounds_of_the_present_and_a_hint_for_the_missing(job: Job) -> None:
    missing = next(name for name in ("sdcpp", "comfyui") if competitors.refusal(name, "fp32", {}))
    result = competitors.measure(["hayate", "diffusers", missing], job, {}, rounds=2)
    assert [row["name"] for row in result["contenders"]] == ["hayate", "diffusers"]
    assert "install" in result["skipped"][missing]
    for row in result["contenders"]:
        assert {task: len(row["seconds"][task]) for task in TASKS} == dict.fromkeys(TASKS, 2)
        assert row["peak_bytes"] > 10**8
        assert row["start_s"] > 0
    assert {row.who for row in rows(json.loads(json.dumps(result)))} == {"hayate", "diffusers"}


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_a_converted_network_computes_what_the_file_says(name: str, job: Job) -> None:
    chosen = competitor(name)
    pytest.importorskip(chosen.package)
    if name == "onnxruntime":
        pytest.importorskip("onnx")
    assert chosen.prepare
    chosen.prepare(job)
    with torch.inference_mode():
        expected, tasks = competitor("hayate").load(job).tasks, chosen.load(job).tasks
        for task in TASKS:
            found = tasks[task]()
            array = found[0]
            torch.testing.assert_close(torch.from_numpy(array), expected[task](), rtol=1e-2, atol=1e-2)


def test_turns_are_taken_after_one_run_for_nothing(tmp_path: Path) -> None:
    log = tmp_path / "log"
    contenders = [Contender(name, [sys.executable, "-c", ECHO, str(log), name]) for name in "AB"]
    seconds = take_turns(contenders, ["step", "decode"], rounds=2)
    assert seconds == {name: {"step": [0.5, 0.5], "decode": [0.5, 0.5]} for name in "AB"}
    assert [contender.end() for contender in contenders] == [{"peak_bytes": 7}] * 2
    order = [f"{name}{task}" for task in ("step", "decode") for _ in range(3) for name in "AB"]
    assert log.read_text().split() == order
    assert contenders[0].ready == {"version": "1"}


def test_one_that_ends_early_is_named() -> None:
    with pytest.raises(EndedEarly, match="quitter ended early"):
        Contender("quitter", [sys.executable, "-c", "pass"])


def test_one_that_fails_to_load_is_skipped_and_the_others_go_on(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = {"hayate": ECHO, "diffusers": "raise OSError"}

    def start(name: str, *_: object) -> Contender:
        return Contender(name, [sys.executable, "-c", code[name], str(tmp_path / "log"), name])

    monkeypatch.setattr(competitors, "_start", start)
    result = competitors.measure(["hayate", "diffusers"], job, {}, rounds=1)
    assert [row["name"] for row in result["contenders"]] == ["hayate"]
    assert "ended early" in result["skipped"]["diffusers"]


def test_every_adapter_says_how_to_install_it_and_is_no_dependency() -> None:
    for name in NAMES:
        chosen = competitor(name)
        assert isinstance(chosen, Competitor)
        assert chosen.dtypes
        assert "install" in chosen.install or name == "hayate"
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, benchmarks.competitors.serve as s; [s.competitor(n) for n in s.NAMES]\n"
         "print(*sys.modules)"],
        cwd=PAGE.parent.parent, capture_output=True, text=True, check=True,
    )  # fmt: skip
    heavy = {"torch", "diffusers", "openvino", "onnxruntime", "stable_diffusion_cpp", "comfy", "hayate"}
    assert not heavy & set(loaded.stdout.split())


def test_inputs_are_the_same_for_all(job: Job) -> None:
    first, second = tensors(job), tensors(job)
    assert first["x"].shape == (2, 4, 16, 16)
    assert first["context"].shape[-1] == job.context_width
    assert all(bool((first[name] == second[name]).all()) for name in first)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(SystemExit) as caught:
        competitors.main(["difusers"])
    assert caught.value.code == 2


@pytest.mark.parametrize(("side_px", "written"), [("512", ["competitors-fp32.json"]), ("128", [])])
def test_a_trial_of_another_size_is_no_result(
    side_px: str, written: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(competitors, "RESULTS", tmp_path)
    monkeypatch.setattr(competitors, "checkpoint", lambda work: work / "a.safetensors")
    monkeypatch.setattr(competitors, "measure", lambda *_: {"contenders": [], "skipped": {}})
    competitors.main(["--dtype", "fp32", "--side-px", side_px, "--work", str(tmp_path / "work")])
    assert [path.name for path in tmp_path.glob("*.json")] == written


def test_the_leaderboard_is_fresh() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m benchmarks.competitors.leaderboard"


def test_the_leaderboard_has_every_contender_of_every_result() -> None:
    text = page()
    for path in RESULTS.glob("step-*.json"):
        result = json.loads(path.read_text(encoding="utf-8"))
        assert f"## {path.name}" in text
        found = rows(result)
        assert {row.who for row in found} == set(result["seconds"])
        own, best = (next(row for row in found if row.who == who) for who in ("hayate", result["step"]["best"]))
        assert own.ratio == 1.0
        assert best.ratio == pytest.approx(1 / result["step"]["ratio"])
