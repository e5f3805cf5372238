"""What the server's folder loses in time, and what it keeps."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from hayate.jobs import tidying
from hayate.jobs.inputs import Inputs
from hayate.jobs.queue import Queue
from hayate.jobs.records import NewJob, State
from hayate.jobs.tidying import RESULTS, TEMPORARY, tidy
from hayate.pipeline.png import TEMPORARY as OF_PICTURES


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path)


def result(folder: Path, name: str, size: int, hours: float) -> Path:
    place = folder / RESULTS / name
    place.mkdir(parents=True)
    (place / "00000-1.png").write_bytes(b"x" * size)
    at = time.time() - 3600 * hours
    os.utime(place, (at, at))
    return place


def test_old_results_go_and_of_the_others_the_oldest_where_they_are_too_much(
    tmp_path: Path, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tidying, "MOST_RESULT_BYTES", 250)
    old, older_young, middle, newest = (
        result(tmp_path, name, 100, hours) for name, hours in (("a", 30), ("b", 3), ("c", 2), ("d", 1))
    )
    tidy(tmp_path, queue, Inputs(tmp_path), tmp_path / "out")
    assert [place.exists() for place in (old, older_young, middle, newest)] == [False, False, True, True]


def test_jobs_of_long_ago_go_with_their_results(tmp_path: Path, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tidying, "MOST_JOBS", 1)
    jobs = []
    for number in range(3):
        jobs.append(queue.add(NewJob(kind="generate", body={"number": number}))[0])
        queue.claim()
        queue.finish(jobs[-1].id, State.DONE)
        result(tmp_path, jobs[-1].id, 10, 0)
    tidy(tmp_path, queue, Inputs(tmp_path), tmp_path / "out")
    assert [job.id for job in queue.jobs()] == [jobs[2].id]
    assert [path.name for path in (tmp_path / RESULTS).iterdir()] == [jobs[2].id]


def test_of_the_users_outputs_only_what_is_half_written_goes(tmp_path: Path, queue: Queue) -> None:
    assert TEMPORARY == OF_PICTURES
    outputs = tmp_path / "out"
    outputs.mkdir()
    names = ("00000-1.png", f".00001{TEMPORARY}", ".hidden", f"visible{TEMPORARY}")
    for name in names:
        (outputs / name).touch()
        os.utime(outputs / name, (1000, 1000))
    (outputs / f".00002{TEMPORARY}").touch()  # being written now
    tidy(tmp_path, queue, Inputs(tmp_path), outputs)
    assert {path.name for path in outputs.iterdir()} == {*names, f".00002{TEMPORARY}"} - {f".00001{TEMPORARY}"}
