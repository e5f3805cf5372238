"""The GPU benchmark goes through all of its sections without a GPU, and loses nothing to a section that fails."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "gpu.py"


@pytest.fixture(scope="module")
def gpu() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("gpu_benchmark", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_a_dry_run_tells_something_of_every_section(tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    target = tmp_path / "result.json"
    subprocess.run([sys.executable, SCRIPT, "--dry-run", "--json", target], check=True, capture_output=True)
    result = json.loads(target.read_text())
    rows = result["rows"]
    assert result["is_dry_run"]
    assert result["machine"]["versions"]["torch"] == torch.__version__
    assert [each["ended"] for each in result["processes"]] == ["well"]
    rated = {(row["section"], row["contender"]) for row in rows if row["kind"] == "rate"}
    assert {("steps", name) for name in ("eager", "graphs", "compiled + graphs", "diffusers compiled")} <= rated
    assert {section for section, _ in rated} == {"steps", "batches", "attention"}
    assert all(row["low"] <= row["it_per_s"] <= row["high"] for row in rows if row["kind"] == "rate")
    assert [row["offload"] for row in rows if row["kind"] == "card" and "failed" not in row] == [
        "lowvram",
        "medvram",
        "none",
    ]
    assert next(row for row in rows if row["kind"] == "card equality")["are_bit_equal"]
    errors = [row["relative"] for row in rows if row["kind"] == "error against fp32"]
    assert errors
    assert max(errors) < 0.05, "bf16 has 8 bits"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to measure here")
def test_without_a_gpu_it_says_so_in_one_line() -> None:
    ended = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert len(ended.stderr.strip().splitlines()) == 1
    assert "CUDA" in ended.stderr


def test_what_a_crashed_section_has_told_is_kept(gpu: ModuleType) -> None:
    code = "import os; print('{\"kind\": \"rate\"}', flush=True); print('noise'); os.abort()"
    outcome = gpu.run_process([sys.executable, "-c", code], ["steps"], 60, os.environ)
    assert outcome.rows == [{"kind": "rate"}]
    assert outcome.ended.startswith("exit -6")
    raised = gpu.run_process([sys.executable, "-c", "raise ValueError('no such kernel')"], ["steps"], 60, os.environ)
    assert raised.ended == "exit 1: ValueError: no such kernel"


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_hanging_section_is_ended_with_its_children(gpu: ModuleType) -> None:
    child = "import time; time.sleep(600)"
    code = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}])\n"
        'print(\'{"kind": "rate", "child": %d}\' % child.pid, flush=True)\n'
        "print('{\"kind\": \"cut o', end='', flush=True)\n"
        "time.sleep(600)\n"
    )
    outcome = gpu.run_process([sys.executable, "-c", code], ["steps"], 6, os.environ)
    assert [row["kind"] for row in outcome.rows] == ["rate"]
    assert outcome.ended == "stopped after 6 s"
    assert _ends(outcome.rows[0]["child"]), "the child outlived it"


def test_all_measuring_is_planned_for_and_fits(gpu: ModuleType) -> None:
    names = set(re.findall(r'^    "([a-z0-9-]+)": ', SCRIPT.with_name("gpu_sections.py").read_text(), re.MULTILINE))
    assert {*gpu.PREPARING, *gpu.MEASURING} <= names
    assert set(gpu.TRIED) <= names
    assert gpu.TOTAL_S < 9 * 60


def _ends(pid: int) -> bool:
    """Whether a process that was killed is gone, or a zombie that its new parent has yet to collect."""
    for _ in range(100):
        status = Path(f"/proc/{pid}/stat")
        if not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False
