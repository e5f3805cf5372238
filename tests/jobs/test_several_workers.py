"""A server with several devices: one worker each, one queue, and nothing that one does is another's."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from hayate.errors import HayateError, UnknownName
from hayate.jobs import process
from hayate.jobs.local import LocalDesk
from hayate.jobs.messages import Hello
from hayate.jobs.place import Place, best
from hayate.jobs.records import JobRecord, NewJob, State, WorkerPhase
from hayate.jobs.shares import settings_of_workers
from tests.extensions.folders import write_extension
from tests.jobs.desks import PATIENCE_S, ended, opened, settings_in, until, wish
from tests.jobs.light_worker import COMMAND
from tests.jobs.small_pictures import pixels, write_models

TWO = "cpu, cpu"
LONG = 1000
"""Steps of 20 ms."""


def is_ready(desk: LocalDesk) -> bool:
    return all(worker.phase is WorkerPhase.IDLE for worker in desk.workers())


def test_as_many_jobs_run_at_once_as_there_are_devices(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, devices=TWO) as desk:
            long, other, third = (desk.submit(wish("slow", steps=LONG)) for _ in range(3))
            await until(lambda: desk.count(State.RUNNING) == 2, "two run")
            assert [worker.device for worker in desk.workers()] == ["cpu", "cpu"]
            assert len({worker.pid for worker in desk.workers()}) == 2
            assert sorted(path.name for path in desk.folder.glob("*.log")) == ["worker-2.log", "worker.log"]
            await until(lambda: all(_row(desk, job) > 0 for job in (long, other)), "both get on")
            oldest = desk.progress()
            assert oldest is not None
            assert oldest.job == long.id
            assert desk.progress(third.id) is None
            desk.cancel(other.id)
            assert (await ended(desk, other)).state is State.CANCELLED
            await until(lambda: _row(desk, third) > 0, "the next one has its place")
            assert desk.job(long.id).state is State.RUNNING
            desk.cancel(long.id)
            desk.cancel(third.id)
            assert {(await ended(desk, each)).state for each in (long, third)} == {State.CANCELLED}

    asyncio.run(main())


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _row(desk: LocalDesk, job: JobRecord) -> int:
    found = desk.progress(job.id)
    return 0 if found is None else found.row


def test_many_jobs_are_each_done_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, devices="cpu,cpu,cpu") as desk:
            jobs = [desk.submit(wish("slow", steps=1, seed=seed)) for seed in range(40)]
            records = [await ended(desk, job) for job in jobs]
            assert {record.state for record in records} == {State.DONE}
            assert sorted(each.picture.seed for each in desk.pictures()) == list(range(40))
            assert {record.attempt for record in records} == {1}

    asyncio.run(main())


@pytest.mark.skipif(sys.platform == "win32", reason="ends a process by a signal")
def test_the_end_of_one_worker_leaves_the_others_job_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, devices=TWO) as desk:
            await until(lambda: is_ready(desk), "both are there")
            first, second = (desk.submit(wish("slow", steps=LONG)) for _ in range(2))
            await until(lambda: _row(desk, first) > 0 and _row(desk, second) > 0, "both get on")
            pid = desk.workers()[0].pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await until(lambda: desk.workers()[0].restarts == 1, "the worker is started anew")
            await until(lambda: sorted((desk.job(first.id).attempt, desk.job(second.id).attempt)) == [1, 2], "again")
            assert desk.workers()[1].restarts == 0
            for job in (first, second):
                desk.cancel(job.id)
                assert (await ended(desk, job)).state is State.CANCELLED

    asyncio.run(main())


def test_at_the_end_what_runs_goes_back_and_no_worker_stays(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, devices=TWO) as desk:
            jobs = [desk.submit(wish("slow", steps=LONG)) for _ in range(2)]
            await until(lambda: desk.count(State.RUNNING) == 2, "two run")
            pids = [worker.pid for worker in desk.workers()]
        for pid in pids:
            assert pid is not None
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
        async with opened(tmp_path, devices=TWO, grace_s=PATIENCE_S) as desk:
            assert {desk.job(job.id).attempt for job in jobs} <= {0, 1}
            for job in jobs:
                desk.cancel(job.id)

    asyncio.run(main())


def test_unload_is_for_all(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, devices=TWO, model="mine") as desk:
            await until(lambda: is_ready(desk), "both are there")
            assert [worker.model for worker in desk.workers()] == ["mine [0000]"] * 2
            await ended(desk, desk.submit(NewJob(kind="unload", body={})))
            await until(lambda: [worker.model for worker in desk.workers()] == ["", ""], "both have none")

    asyncio.run(main())


def test_an_extension_that_failed_in_one_acts_in_none(tmp_path: Path) -> None:
    write_extension(tmp_path / "extensions", "lent", "", {"prompts": {"it": "act"}})

    async def main() -> None:
        settings = settings_in(tmp_path, devices=TWO, extensions_dir=tmp_path / "extensions")
        desk = LocalDesk(settings, command=COMMAND)
        desk.start()
        try:
            await until(lambda: is_ready(desk), "both are there")
            assert notes(await ended(desk, desk.submit(wish("left out")))) == ("lent",)
            await until(lambda: is_ready(desk), "both are free")
            busy = desk.submit(wish("slow", steps=LONG))  # the first one that is free has the model
            await until(lambda: _row(desk, busy) > 0, "it runs")
            assert notes(await ended(desk, desk.submit(wish()))) == ("lent",)
            desk.cancel(busy.id)
        finally:
            await desk.close(0)

    asyncio.run(main())


def notes(record: JobRecord) -> tuple[str, ...]:
    assert record.result is not None
    return record.result.notes


def test_real_workers_make_the_same_picture_side_by_side(tmp_path: Path) -> None:
    write_models(tmp_path)
    size = {"width_px": 64, "height_px": 64}

    async def main() -> None:
        async with opened(tmp_path, command=process.COMMAND, devices=TWO) as desk:
            await until(lambda: is_ready(desk), "both are there")
            threads = max(1, cores() // 2)
            titles = {f"CPU, {threads} thread{'' if threads == 1 else 's'}"}
            assert {worker.facts["device"] for worker in desk.workers()} == titles
            submitted = [desk.submit(wish("a red sun", model="tiny", steps=9, **size)) for _ in range(2)]
            assert desk.count(State.RUNNING) == 2
            first, second = [await ended(desk, job) for job in submitted]
            assert np.array_equal(pixels(first), pixels(second))
            await until(lambda: is_ready(desk), "both are free again")
            assert {worker.model.split(" ")[0] for worker in desk.workers()} == {"tiny"}
            assert {worker.restarts for worker in desk.workers()} == {0}

    asyncio.run(main())


def test_a_job_goes_where_its_model_is(tmp_path: Path) -> None:
    places = [
        Place(
            number,
            tmp_path,
            Hello(settings=settings_in(tmp_path)),
            on_report=lambda *_: None,
            on_end=lambda *_: None,
            command=COMMAND,
        )
        for number in range(3)
    ]
    places[0].begin(job_with("a.safetensors"))
    places[1].begin(job_with("b.safetensors"))
    assert best(places, job_with("a.safetensors")) is places[0]
    assert best(places, job_with("b.safetensors")) is places[1]
    assert best(places, job_with("c.safetensors")) is places[2]  # where none has to go
    places[2].begin(job_with("c.safetensors"))
    assert best(places, job_with("d.safetensors")) is places[0]
    places[0].forget()
    assert best(places[1:], job_with("a.safetensors")) is places[1]


def job_with(model: str) -> JobRecord:
    return JobRecord(
        id=model,
        kind="generate",
        body=MappingProxyType({"request": {"model": model}}),
        priority=0,
        key=None,
        client="",
        state=State.RUNNING,
        attempt=1,
        created_s=0.0,
        started_s=0.0,
        ended_s=None,
        result=None,
        failure=None,
    )


def test_what_they_have_in_common_is_shared(tmp_path: Path) -> None:
    one = settings_in(tmp_path)
    assert settings_of_workers(one) == (one,)
    several = settings_in(tmp_path, devices="cuda:0,cuda:1,cpu", threads=6, checkpoints_cache_bytes=900)
    shares = settings_of_workers(several)
    assert [each.device for each in shares] == ["cuda:0", "cuda:1", "cpu"]
    assert [each.checkpoints_cache_bytes for each in shares] == [300] * 3
    assert [each.threads for each in shares] == [6] * 3  # the cards' workers wait for their cards
    assert [each.threads for each in settings_of_workers(settings_in(tmp_path, devices=TWO, threads=6))] == [3, 3]
    assert settings_of_workers(settings_in(tmp_path, devices=TWO))[0].threads == max(1, cores() // 2)


def test_a_single_device_that_can_not_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="unknown device 'gpu'"):
        LocalDesk(settings_in(tmp_path, device="gpu"))


@pytest.mark.parametrize(
    ("devices", "words"),
    [
        ("cuda:0,cup", "unknown device 'cup' (nearest: cpu"),
        ("cuda:x", "device 'cuda:x' has no number after the colon (write cuda:0)"),
        (",".join(["cpu"] * 65), "65 devices are too many"),
    ],
)
def test_devices_that_can_not_be_are_refused_before_anything_starts(tmp_path: Path, devices: str, words: str) -> None:
    with pytest.raises(HayateError) as caught:
        LocalDesk(settings_in(tmp_path, devices=devices))
    assert words in f"{caught.value}"
