"""The real worker behind a desk: one start, and all that it does from then on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
from PIL import Image

from hayate.jobs.process import COMMAND
from hayate.jobs.records import State, WorkerPhase
from hayate.pipeline.session import make_pictures
from hayate.request import TextToImage
from tests.jobs.desks import ended, opened, settings_in, until, wish


def test_from_the_start_to_the_end(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, command=COMMAND, model="built-in") as desk:
            small = {"steps": 2, "width_px": 64, "height_px": 64}
            job = desk.submit(wish("a red sun", **small))  # before there is a worker
            assert desk.workers()[0].phase is not WorkerPhase.IDLE
            record = await asyncio.wait_for(desk.wait(job.id), 60)
            assert record.failure is None
            assert record.result is not None
            request = TextToImage(prompt="a red sun", seed=1, **small)
            expected = make_pictures(request, settings_in(tmp_path), tmp_path / "plain", lambda done, rows: None)
            made, wanted = (
                np.asarray(Image.open(path)) for path in (record.result.pictures[0].path, expected.pictures[0].path)
            )
            assert np.array_equal(made, wanted)
            await until(lambda: desk.workers()[0].phase is WorkerPhase.IDLE, "it is idle")
            state = desk.workers()[0]
            assert state.model.startswith("hayate-landscapes [")
            assert {"import", "load"} <= set(state.seconds)
            long = desk.submit(wish("a lake", steps=900))
            await until(lambda: (found := desk.progress()) is not None and found.row > 2, "it runs")
            assert (await asyncio.wait_for(desk.ask("memory"), 20))["ram"]["used"] > 0
            desk.cancel(long.id)
            assert (await ended(desk, long)).state is State.CANCELLED
            wrong = await ended(desk, desk.submit(wish("x", emphasis="loud")))
            assert wrong.failure is not None
            assert (wrong.failure.type, wrong.failure.status) == ("UnknownName", 422)

    asyncio.run(main())
