"""Memory that does not suffice under the real worker: the job says it, and the next picture is as ever."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np

from tests.jobs import faulty_worker
from tests.jobs.desks import opened
from tests.jobs.small_pictures import made, notes, pixels, reason, write_models


def test_a_shortage_of_memory_costs_a_retry_or_the_job_and_nothing_afterwards(tmp_path: Path) -> None:
    write_models(tmp_path)

    async def main() -> None:
        async with opened(tmp_path, command=faulty_worker.COMMAND) as desk:
            wide: dict[str, Any] = {"width_px": 2 * faulty_worker.TILE_PX}
            before = pixels(await made(desk))
            tiled = pixels(await made(desk, "short decode", asked={"vae_tile_px": faulty_worker.TILE_PX}, **wide))

            assert "out of memory in the U-Net" in notes(await made(desk, "short once"))
            assert np.array_equal(pixels(await made(desk)), before)

            assert "out of memory in the U-Net" in reason(failed := await made(desk, "short"))
            assert failed.attempt == 1, "what can't be is not tried again"
            assert "--size" in reason(failed)
            assert np.array_equal(pixels(await made(desk)), before)

            mended = await made(desk, "short decode", **wide)
            assert "tiles" in notes(mended)
            assert np.array_equal(pixels(mended), tiled)
            assert np.array_equal(pixels(await made(desk)), before)
            assert desk.workers()[0].restarts == 0

    asyncio.run(main())
