"""Small pictures of tiny models by the real worker, and what tests read from their jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hayate.jobs.local import LocalDesk
from hayate.jobs.records import JobRecord, NewJob, State
from hayate.models.config import Family
from tests.jobs.desks import ended, wish
from tests.tiny_models import write_tiny

NAMES = ("tiny", "other")


def write_models(folder: Path) -> Path:
    """Two tiny models of the same family, where `desks.settings_in` looks for them; their folder."""
    models = folder / "models"
    models.mkdir()
    for seed, name in enumerate(NAMES):
        write_tiny(models / f"{name}.safetensors", Family.SD1, seed=seed)
    return models


async def made(
    desk: LocalDesk, prompt: str = "a red sun", *, asked: dict[str, Any] | None = None, **request: Any
) -> JobRecord:
    """A picture's job, when it has ended."""
    new = wish(prompt, **{"steps": 3, "width_px": 64, "height_px": 64, "model": "tiny", **request})
    return await ended(desk, desk.submit(NewJob(kind=new.kind, body={**new.body, "asked": asked or {}})))


async def loaded(desk: LocalDesk, model: str) -> JobRecord:
    """The job that brings a model into memory, when it has ended."""
    return await ended(desk, desk.submit(NewJob(kind="load", body={"model": model})))


async def evidence(desk: LocalDesk, name: str) -> str:
    """What one of the worker's caches says of itself."""
    found = await desk.ask("evidence")
    return next(each["detail"] for each in found["evidence"] if each["name"] == name)


def pixels(job: JobRecord) -> np.ndarray:
    assert job.result is not None, job.failure
    with Image.open(job.result.pictures[0].path) as picture:
        return np.asarray(picture)


def notes(job: JobRecord) -> str:
    assert job.result is not None, job.failure
    return "\n".join(job.result.notes)


def reason(job: JobRecord) -> str:
    """Why it failed: one line, with its hint."""
    assert job.state is State.FAILED
    assert job.failure is not None
    assert "\n" not in job.failure.message
    assert job.failure.hint
    return f"{job.failure.message} ({job.failure.hint})"
