"""Desks with the light worker, and what tests do with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from hayate.jobs.local import LocalDesk
from hayate.jobs.records import JobRecord, NewJob
from hayate.settings import Settings, load_settings
from tests.jobs.light_worker import COMMAND

PATIENCE_S = 30.0


def settings_in(folder: Path, **more: Any) -> Settings:
    places = {"data_dir": "data", "outputs_dir": "out", "models_dir": "models", "cache_dir": "cache"}
    return load_settings({**{key: folder / name for key, name in places.items()}, **more}, environment={})


def wish(prompt: str = "a", *, key: str | None = None, saves: bool = True, priority: int = 0, **request: Any) -> NewJob:
    body = {"request": {"prompt": prompt, "seed": 1, **request}, "saves_pictures": saves}
    return NewJob(kind="generate", body=body, key=key, priority=priority)


@asynccontextmanager
async def opened(
    folder: Path, *, command: Sequence[str] = COMMAND, grace_s: float = 0.0, devices: str | None = None, **more: Any
) -> AsyncIterator[LocalDesk]:
    """A desk that is started, and closed at the end."""
    desk = LocalDesk(settings_in(folder, devices=devices), command=command, **more)
    desk.start()
    try:
        yield desk
    finally:
        await desk.close(grace_s)


async def ended(desk: LocalDesk, job: JobRecord) -> JobRecord:
    return await asyncio.wait_for(desk.wait(job.id), PATIENCE_S)


async def until(claim: Callable[[], bool], what: str) -> None:
    """Waits until something holds."""
    for _ in range(int(PATIENCE_S * 100)):
        if claim():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"in vain: {what}")
