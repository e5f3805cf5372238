"""Progress, interrupt and skip: A1111's global routes, and those that ask for one task."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hayate.jobs.records import JobRecord, NewJob, Preview, Progress, State
from tests.server.a1111_server import Served, serve

SMALL = {"prompt": "x", "width": 64, "height": 64, "steps": 2}
JPEG = b"\xff\xd8\xff picture"
STATE = {
    *("skipped", "interrupted", "stopping_generation", "job", "job_count", "job_timestamp", "job_no"),
    *("sampling_step", "sampling_steps"),
}


@pytest.fixture
def served(tmp_path: Path) -> Served:
    """One whose jobs wait."""
    made = serve(tmp_path)
    made.desk.is_held = True
    return made


def test_nothing_is_going_on(served: Served) -> None:
    now = served.get("progress")

    assert (now["progress"], now["eta_relative"], now["current_image"]) == (0, 0, None)
    assert set(now["state"]) == STATE
    assert now["state"]["job_count"] == 0


def test_a_job_under_way(served: Served) -> None:
    job = _queue(served)
    served.desk.begin(job.id, _progress(job, share=0.25, picture=1, pictures=4, row=3, rows=10, eta_s=2.5))

    now = served.get("progress")

    assert (now["progress"], now["eta_relative"], now["textinfo"]) == (0.25, 2.5, "sampling")
    assert base64.b64decode(now["current_image"]) == JPEG
    state = now["state"]
    assert (state["job_no"], state["job_count"], state["sampling_step"], state["sampling_steps"]) == (1, 4, 3, 10)
    assert len(state["job_timestamp"]) == 14
    assert served.get("progress?skip_current_image=true")["current_image"] is None


def test_interrupting_ends_the_job_that_runs_and_no_other(served: Served) -> None:
    running, waiting = _queue(served), _queue(served)
    served.desk.begin(running.id)

    assert served.post("interrupt") == {}

    assert served.desk.job(running.id).state is State.CANCELLED
    assert served.desk.job(waiting.id).state is State.QUEUED


def test_interrupting_leaves_measurements_and_merges_alone(tmp_path: Path) -> None:
    served = serve(tmp_path)
    served.desk.is_held = True
    job = served.desk.submit(NewJob(kind="tune", body={}))
    served.desk.begin(job.id)

    served.post("interrupt")
    served.post("skip")

    assert served.desk.job(job.id).state is State.RUNNING
    assert served.desk.skipped == []


def test_skipping_goes_on_with_the_next_picture(served: Served) -> None:
    job = _queue(served)
    served.desk.begin(job.id)

    assert served.post("skip") is None

    assert served.desk.skipped == [job.id]
    assert served.desk.job(job.id).state is State.RUNNING


def test_a_task_by_the_name_that_its_caller_gave(served: Served) -> None:
    with _call(served, {**SMALL, "force_task_id": "task(one)"}) as first:
        with _call(served, {**SMALL, "force_task_id": "task(two)"}) as second:
            served.desk.begin(first.id, _progress(first, share=0.5, eta_s=1.0))
            pending = served.client.get("/internal/pending-tasks").json()
            one, two = (_task(served, name) for name in ("task(one)", "task(two)"))
            name = served.get("progress")["current_task"]
            served.desk.let_go(second.id)
        served.desk.let_go(first.id)
    assert pending == {"size": 2, "tasks": ["task(one)", "task(two)"]}
    assert name == "task(one)"
    assert (one["active"], one["queued"], one["completed"], one["progress"]) == (True, False, False, 0.5)
    assert (two["active"], two["queued"], two["textinfo"]) == (False, True, "In queue: 1/1")
    after = _task(served, "task(one)")
    assert (after["active"], after["completed"]) == (False, True)


def test_a_preview_is_sent_once(served: Served) -> None:
    job = _queue(served)
    served.desk.begin(job.id, _progress(job))

    first = _task(served, job.id)
    again = _task(served, job.id, id_live_preview=first["id_live_preview"])
    unwanted = _task(served, job.id, live_preview=False)

    assert first["live_preview"] == "data:image/jpeg;base64," + base64.b64encode(JPEG).decode()
    assert first["id_live_preview"] == 3
    assert again["live_preview"] is None
    assert unwanted["live_preview"] is None


@pytest.mark.parametrize("name", ["", "nobody's", "0" * 26, "\0", "../../x"])
def test_a_task_that_nobody_knows_is_never_done(served: Served, name: str) -> None:
    found = _task(served, name)

    assert (found["active"], found["queued"], found["completed"]) == (False, False, False)


def test_a_name_may_be_used_again(served: Served) -> None:
    for seed in (1, 2):
        with _call(served, {**SMALL, "seed": seed, "force_task_id": "task"}) as job:
            served.desk.let_go(job.id)
    assert [each.body["request"]["seed"] for each in served.desk.handed_in] == [1, 2]


def _queue(served: Served) -> JobRecord:
    body = {
        "request": {"prompt": "x"},
        "wants_grid": False,
        "saves_pictures": False,
    }
    return served.desk.submit(NewJob(kind="generate", body=body))


def _progress(job: JobRecord, **changes: Any) -> Progress:
    preview = Preview(number=3, jpeg=JPEG)
    return Progress(**{"job": job.id, "phase": "sampling", "preview": preview, **changes})


def _task(served: Served, name: str, **more: Any) -> dict[str, Any]:
    reply = served.client.post("/internal/progress", json={"id_task": name, **more})
    assert reply.status_code == 200, reply.text
    return reply.json()


class _call:  # noqa: N801 - it stands for a call under way
    """A call of txt2img in a thread of its own, which must succeed; inside it its job is there."""

    def __init__(self, served: Served, body: dict[str, Any]) -> None:
        self._served, self._before = served, len(served.desk.jobs())
        self._thread = threading.Thread(target=self._make(body))
        self._status = 0

    def _make(self, body: dict[str, Any]) -> Callable[[], None]:
        def call() -> None:
            self._status = self._served.client.post("/sdapi/v1/txt2img", json=body).status_code

        return call

    def __enter__(self) -> JobRecord:
        self._thread.start()
        return self._served.desk.wait_for(self._before + 1)[-1]

    def __exit__(self, *_: object) -> None:
        self._thread.join(20)
        assert self._status == 200
