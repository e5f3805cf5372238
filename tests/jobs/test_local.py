"""The desk and the worker's loop at their ordinary work, with a worker that needs no torch."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from hayate.errors import EngineError, UnknownJob, UsageError, WorkerAway
from hayate.jobs.local import LocalDesk
from hayate.jobs.records import Event, State, WorkerPhase
from tests.jobs.desks import ended, opened, until, wish

MEANWHILE = ("progress", "preview")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="ends processes by signals")


def test_the_server_never_imports_torch(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from hayate.jobs.local import LocalDesk; from tests.jobs.desks import settings_in, wish;"
        f"desk = LocalDesk(settings_in(pathlib.Path({str(tmp_path)!r}))); desk._opened = None;"
        "from hayate.jobs.bodies import read_body; read_body('generate', wish().body);"
        "print([name for name in ('torch', 'scipy', 'transformers', 'spandrel') if name in sys.modules])"
    )
    import subprocess

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_jobs_are_done_in_order_and_tell_of_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, model="one") as desk:
            slow = desk.submit(wish("slow", steps=20))
            await until(lambda: (found := desk.progress()) is not None and found.row > 0, "it runs")
            second, third = desk.submit(wish(seed=2)), desk.submit(wish(seed=3))
            urgent = desk.submit(wish(seed=4, priority=10))
            heard: list[Event] = [event async for event in desk.events(third.id, after=0)]
            records = [await ended(desk, job) for job in (slow, urgent, second, third)]
            assert [record.state for record in records] == [State.DONE] * 4
            starts = [record.started_s or 0 for record in records]
            assert starts == sorted(starts)
            kinds = [event.kind for event in heard]
            assert kinds[:2] == ["queued", "started"]
            assert kinds[-1] == "done"
            assert "progress" in kinds
            assert [picture.picture.seed for picture in desk.pictures()] == [3, 2, 4, 1]
            await until(lambda: desk.workers()[0].phase is WorkerPhase.IDLE, "it is idle")
            state = desk.workers()[0]
            assert (state.phase, state.restarts, state.facts["torch"]) == (WorkerPhase.IDLE, 0, "none")
            assert desk.progress() is None

    asyncio.run(main())


def test_what_libraries_print_does_not_disturb(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as desk:
            job = await ended(desk, desk.submit(wish("loud")))
            assert job.state is State.DONE
            log = (desk.folder / "worker.log").read_text()
            assert "not a message" in log
            assert "nor is this" in log

    asyncio.run(main())


def test_errors_are_told_and_the_next_job_works(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as desk:
            jobs = [desk.submit(wish(prompt)) for prompt in ("wrong", "broken", "a")]
            wrong, broken, good = [await ended(desk, job) for job in jobs]
            assert wrong.failure is not None
            assert (wrong.failure.type, wrong.failure.hint) == ("EngineError", "try another")
            assert broken.failure is not None
            assert broken.failure.message == "unexpected ZeroDivisionError: nobody foresaw this"
            assert broken.failure.status == 500
            log = (desk.folder / "worker.log").read_text()
            assert "there is more" in log
            assert log.count("cleared") == 1
            assert good.state is State.DONE
            assert desk.workers()[0].restarts == 0

    asyncio.run(main())


def test_cancelling_one_leaves_the_others(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as desk:
            running = desk.submit(wish("slow", steps=500))
            waiting, other = desk.submit(wish(seed=2)), desk.submit(wish(seed=3))
            assert desk.cancel(waiting.id).state is State.CANCELLED
            await until(lambda: (found := desk.progress()) is not None and found.phase == "sampling", "it runs")
            assert desk.cancel(running.id).is_cancel_asked
            assert (await ended(desk, running)).state is State.CANCELLED
            assert (await ended(desk, other)).state is State.DONE
            assert (await ended(desk, waiting)).state is State.CANCELLED
            assert desk.cancel(other.id).state is State.DONE  # too late: it stays what it is
            for unknown in (desk.cancel, desk.skip, desk.job, desk.delete):
                with pytest.raises(UnknownJob):
                    unknown("01ARZ3NDEKTSV4RRFFQ69G5FAV")

    asyncio.run(main())


def test_a_cancelled_job_keeps_what_was_finished_and_a_skipped_batch_is_left_out(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as desk:
            many = desk.submit(wish("slow", steps=10, batch_count=50))
            await until(lambda: (found := desk.progress()) is not None and found.picture >= 2, "two are made")
            desk.cancel(many.id)
            record = await ended(desk, many)
            assert record.state is State.CANCELLED
            assert record.result is not None
            assert 2 <= len(record.result.pictures) < 50
            assert all(Path(picture.path).is_file() for picture in record.result.pictures)
            few = desk.submit(wish("slow", steps=20, batch_count=2))
            await until(lambda: (found := desk.progress()) is not None and found.row > 2, "the first is begun")
            desk.skip(few.id)
            record = await ended(desk, few)
            assert record.state is State.DONE
            assert record.result is not None
            assert [picture.seed for picture in record.result.pictures] == [2]

    asyncio.run(main())


def test_a_cancel_at_any_moment_ends_the_job_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as desk:
            await until(lambda: desk.workers()[0].phase is WorkerPhase.IDLE, "the worker is there")
            for wait_s in (0, 0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05):
                job = desk.submit(wish("slow", steps=2))
                await asyncio.sleep(wait_s)
                desk.cancel(job.id)
                record = await ended(desk, job)
                heard = [event.kind async for event in desk.events(job.id, after=0)]
                ends = [kind for kind in heard if kind in ("done", "failed", "cancelled")]
                assert ends == [record.state.value]

    asyncio.run(main())


def test_questions_are_answered_beside_the_work_and_not_by_the_dead(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as desk:
            early = await asyncio.wait_for(desk.ask("plan", steps=3), 20)  # while it still starts
            assert early == {"question": "plan", "steps": 3}
            job = desk.submit(wish("slow", steps=200))
            await until(lambda: (found := desk.progress()) is not None and found.row > 1, "it runs")
            assert (await asyncio.wait_for(desk.ask("memory"), 5))["question"] == "memory"
            assert desk.job(job.id).state is State.RUNNING
            with pytest.raises(EngineError, match="there is no answer"):
                await desk.ask("fail")
            with pytest.raises(WorkerAway):
                await asyncio.wait_for(desk.ask("die"), 10)
            desk.cancel(job.id)
            assert (await ended(desk, job)).state is State.CANCELLED

    asyncio.run(main())


def test_previews_are_made_while_somebody_looks_and_not_else(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as desk:
            job = desk.submit(wish("slow", steps=5, batch_count=2))
            await ended(desk, job)
            assert "preview" not in [event.kind async for event in desk.events(job.id, after=0, watches=False)]
            job = desk.submit(wish("slow", steps=5, batch_count=2))
            kinds = [event.kind async for event in desk.events(job.id, after=0)]
            assert kinds.count("preview") == 2
            job = desk.submit(wish("slow", steps=5, batch_count=3))
            numbers = set()
            while not desk.job(job.id).state.is_terminal:
                found = desk.progress()
                if found is not None and found.preview is not None:
                    assert found.preview.jpeg == b"\0\0\0"
                    numbers.add(found.preview.number)
                await asyncio.sleep(0.01)
            assert numbers

    asyncio.run(main())


def test_deleting_takes_the_unsaved_pictures_and_leaves_the_users(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as desk:
            kept, unsaved = [await ended(desk, desk.submit(wish(saves=saves))) for saves in (True, False)]
            paths = [Path(job.result.pictures[0].path) for job in (kept, unsaved) if job.result is not None]
            assert all(path.is_file() for path in paths)
            assert paths[1].is_relative_to(desk.folder / "results" / unsaved.id)
            for job in (kept, unsaved):
                desk.delete(job.id)
            assert [path.is_file() for path in paths] == [True, False]
            running = desk.submit(wish("slow", steps=100))
            with pytest.raises(UsageError, match="has not ended"):
                desk.delete(running.id)

    asyncio.run(main())


def test_a_key_is_the_same_job_also_when_it_would_be_refused_by_now(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as desk:
            path = desk.keep_input((await first_picture(desk)).read_bytes())
            new = wish("a", key="k", start={"path": str(path)})
            job = desk.submit(new)
            await ended(desk, job)
            path.unlink()
            assert desk.submit(new).id == job.id
            with pytest.raises(UsageError, match="handed in"):
                desk.submit(wish("a", start={"path": str(path)}))

    asyncio.run(main())


async def first_picture(desk: LocalDesk) -> Path:
    job = await ended(desk, desk.submit(wish()))
    assert job.result is not None
    return Path(job.result.pictures[0].path)
