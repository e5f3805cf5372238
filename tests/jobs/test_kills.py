"""SIGKILL of server and worker at random moments: benchmarks/kill.py in small."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.kill import run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="ends processes by signals")


@pytest.mark.parametrize("devices", ["", "cpu,cpu"])
def test_a_dozen_kills_lose_nothing(tmp_path: Path, devices: str) -> None:
    verdict = run(
        tmp_path, moments=12, seed=1, most_wait_s=0.5, worker="tests.jobs.light_worker", waiting=3, devices=devices
    )
    assert verdict.faults == []
    assert verdict.done + verdict.crashed_twice >= verdict.accepted >= 3
    assert sum(verdict.kills.values()) >= 6
    assert verdict.interrupted >= 1


def test_the_real_worker_is_killed_too(tmp_path: Path) -> None:
    verdict = run(tmp_path, moments=1, seed=3, most_wait_s=1.0, waiting=1)
    assert verdict.faults == []
    assert verdict.done > 0
