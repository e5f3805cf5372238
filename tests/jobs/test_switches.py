"""Models in turns in the real worker: the same pictures as ever, in memory that does not grow."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import psutil

from hayate.jobs.process import COMMAND
from hayate.jobs.records import State
from tests.jobs.desks import opened
from tests.jobs.small_pictures import NAMES, evidence, loaded, made, pixels, write_models

SWITCHES = 50
WARM_UP = 10


def test_fifty_switches_leave_the_workers_memory_as_it_is(tmp_path: Path) -> None:
    write_models(tmp_path)

    async def main() -> None:
        async with opened(tmp_path, command=COMMAND) as desk:
            resident, first = [], {}
            for turn in range(SWITCHES):
                name = NAMES[turn % 2]
                assert (await loaded(desk, name)).state is State.DONE
                if turn % 5 == 0:  # a picture of each of them in turn
                    picture = pixels(await made(desk, model=name))
                    assert np.array_equal(picture, first.setdefault(name, picture))
                pid = desk.workers()[0].pid
                assert pid is not None
                resident.append(psutil.Process(pid).memory_info().rss)
            assert max(resident[WARM_UP:]) <= 1.05 * resident[WARM_UP - 1]
            assert not np.array_equal(first["tiny"], first["other"])
            assert f"{SWITCHES} switches" in await evidence(desk, "switch")
            assert desk.workers()[0].restarts == 0

    asyncio.run(main())
