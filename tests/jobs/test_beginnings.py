"""What a worker's life begins with: the flags that the server was given, and a model."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hayate.flags import take_flags
from hayate.jobs.records import WorkerPhase
from tests.jobs.desks import ended, opened, until, wish


def test_the_worker_has_the_flags_that_act(tmp_path: Path) -> None:
    """Its questions are answered in a thread of their own, which begins without the others' context."""
    flags, _ = take_flags(["--medvram", "--precision", "full", "--share", "--theme", "dark"])

    async def main() -> None:
        async with opened(tmp_path, flags=flags) as desk:
            assert await desk.ask("flags") == {"--medvram": [], "--precision": ["full"]}

    asyncio.run(main())


def test_the_first_life_has_the_newest_pictures_model_and_later_lives_none(tmp_path: Path) -> None:
    """For the model may be what ended it."""

    async def main() -> None:
        async with opened(tmp_path) as desk:
            await until(lambda: desk.workers()[0].phase is WorkerPhase.IDLE, "the worker is idle")
            assert desk.workers()[0].model == ""
            await ended(desk, desk.submit(wish()))
        async with opened(tmp_path) as desk:
            await until(lambda: desk.workers()[0].phase is WorkerPhase.IDLE, "the worker is idle")
            assert desk.workers()[0].model == "built-in [0000]"
            assert "load" in desk.workers()[0].seconds
            await ended(desk, desk.submit(wish("poison")))
            await until(lambda: desk.workers()[0].phase is WorkerPhase.IDLE, "the worker is idle again")
            assert desk.workers()[0].model == ""

    asyncio.run(main())


def test_a_model_that_was_asked_for_goes_first(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, model="mine.safetensors") as desk:
            await until(lambda: desk.workers()[0].phase is WorkerPhase.IDLE, "the worker is idle")
            assert desk.workers()[0].model == "mine.safetensors [0000]"

    asyncio.run(main())
