"""How a server ends: the running job may finish, or waits for the next start; nobody is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from hayate.errors import ShuttingDown
from hayate.jobs.queue import Queue
from hayate.jobs.records import State
from tests.jobs.desks import ended, opened, until, wish

MEANWHILE = ("progress", "preview")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="ends processes by signals")


def test_closing_lets_the_running_job_finish_within_its_grace(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, grace_s=20) as desk:
            job, waiting = desk.submit(wish("slow", steps=20)), desk.submit(wish(seed=2))
            await until(lambda: (found := desk.progress()) is not None and found.row > 1, "it runs")
            waiter = asyncio.create_task(desk.wait(waiting.id))
            await asyncio.sleep(0)
        with pytest.raises(ShuttingDown):
            await waiter
        with pytest.raises(ShuttingDown):
            desk.submit(wish())
        async with opened(tmp_path) as again:
            assert (await ended(again, job)).attempt == 1
            assert (await ended(again, waiting)).state is State.DONE

    asyncio.run(main())


def test_closing_without_grace_puts_the_job_back_uncounted(tmp_path: Path) -> None:
    async def main() -> None:
        job = None
        for _ in range(4):  # more often than it may crash
            async with opened(tmp_path) as desk:
                job = job or desk.submit(wish("slow", steps=100))
                await until(lambda: (found := desk.progress()) is not None and found.row > 1, "it runs")
        assert job is not None
        queue = Queue(tmp_path / "data" / "server")
        assert (queue.job(job.id).state, queue.job(job.id).attempt) == (State.QUEUED, 0)

    asyncio.run(main())


def test_the_worker_ends_with_its_server(tmp_path: Path) -> None:
    async def main() -> int:
        async with opened(tmp_path) as desk:
            await until(lambda: desk.workers()[0].pid is not None, "the worker is there")
            pid = desk.workers()[0].pid
            assert pid is not None
            return pid

    pid = asyncio.run(main())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIG_DFL)


def test_a_stop_that_reaches_the_worker_too_ends_no_job(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, grace_s=20) as desk:
            job = desk.submit(wish("slow", steps=30))
            await until(lambda: (found := desk.progress()) is not None and found.row > 1, "it runs")
            pid = desk.workers()[0].pid
            assert pid is not None
            for name in (signal.SIGTERM, signal.SIGINT):
                os.kill(pid, name)
        async with opened(tmp_path) as again:
            record = await ended(again, job)
            assert (record.state, record.attempt) == (State.DONE, 1)

    asyncio.run(main())
