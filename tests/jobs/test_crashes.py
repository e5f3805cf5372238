"""What is lost when a worker crashes, a disk is full, or a file is damaged: nothing that was accepted."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import threading
from pathlib import Path

import pytest

from hayate.errors import UsageError, WorkerAway
from hayate.jobs.local import LocalDesk
from hayate.jobs.records import State, WorkerPhase
from tests.jobs.desks import ended, opened, settings_in, until, wish

MEANWHILE = ("progress", "preview")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="ends processes by signals")


def test_a_poison_job_fails_the_second_time_and_harms_no_other(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as desk:
            poison, good = desk.submit(wish("poison")), desk.submit(wish())
            record = await ended(desk, poison)
            assert record.state is State.FAILED
            assert record.attempt == 2
            assert record.failure is not None
            assert record.failure.message == "crashed twice"
            assert "code 9" in record.failure.hint
            assert (await ended(desk, good)).state is State.DONE

    asyncio.run(main())


def test_a_job_whose_worker_crashed_once_is_done_all_the_same(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as desk:
            job = desk.submit(wish("poison once"))
            kinds = [event.kind async for event in desk.events(job.id, after=0) if event.kind not in MEANWHILE]
            record = await ended(desk, job)
            assert (record.state, record.attempt) == (State.DONE, 2)
            assert kinds == ["queued", "started", "queued", "started", "done"]
            assert len(desk.pictures()) == 1
            assert desk.workers()[0].restarts == 1

    asyncio.run(main())


def test_a_second_instance_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as desk:
            with pytest.raises(UsageError, match="running already"):
                LocalDesk(settings_in(tmp_path)).start()
            assert (await ended(desk, desk.submit(wish()))).state is State.DONE
        async with opened(tmp_path):
            pass  # and when it is gone another may

    asyncio.run(main())


def test_a_damaged_list_is_put_aside_and_said(tmp_path: Path) -> None:
    (tmp_path / "data" / "server").mkdir(parents=True)
    (tmp_path / "data" / "server" / "jobs.sqlite3").write_bytes(b"what is this" * 500)

    async def main() -> None:
        async with opened(tmp_path) as desk:
            assert "was damaged" in desk.notes[0]
            assert (await ended(desk, desk.submit(wish()))).state is State.DONE

    asyncio.run(main())


def test_a_disk_that_is_full_for_a_while_loses_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    is_full = threading.Event()

    class Full:
        """A connection whose writes fail while the disk is full."""

        def __init__(self, real: sqlite3.Connection) -> None:
            self._real = real

        def execute(self, sql: str, *values: object) -> sqlite3.Cursor:
            if is_full.is_set() and sql.startswith(("UPDATE", "INSERT")):
                raise sqlite3.OperationalError("database or disk is full")
            return self._real.execute(sql, *values)  # pyright: ignore[reportArgumentType]

        def __getattr__(self, name: str) -> object:
            return getattr(self._real, name)

    monkeypatch.setattr("hayate.jobs.crew.TRY_AGAIN_S", 0.05)

    async def main() -> None:
        async with opened(tmp_path) as desk:
            desk._queue._connection = Full(desk._queue._connection)  # pyright: ignore[reportAttributeAccessIssue]
            job = desk.submit(wish("slow", steps=10))
            await until(lambda: (found := desk.progress()) is not None and found.row > 1, "it runs")
            is_full.set()
            with pytest.raises(Exception, match="disk is full"):
                desk.submit(wish())
            await asyncio.sleep(0.5)
            assert desk.job(job.id).state is State.RUNNING
            is_full.clear()
            assert (await ended(desk, job)).state is State.DONE
            assert (await ended(desk, desk.submit(wish()))).state is State.DONE

    asyncio.run(main())


def test_a_worker_that_can_not_be_started_is_said_and_tried_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, command=("/nowhere/python",)) as desk:
            job = desk.submit(wish())
            await until(lambda: "can't be started" in str(desk.workers()[0].facts.get("problem")), "it is said")
            assert desk.workers()[0].phase is WorkerPhase.DOWN
            assert desk.job(job.id).state is State.QUEUED
            with pytest.raises(WorkerAway):
                await desk.ask("plan")
        async with opened(tmp_path) as desk:
            assert (await ended(desk, job)).state is State.DONE

    asyncio.run(main())
