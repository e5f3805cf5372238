"""Model files that are broken, replaced or removed while the worker serves."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from hayate.errors import UnknownName
from hayate.jobs.process import COMMAND
from hayate.jobs.records import JobRecord
from hayate.pipeline.infotext import parse_infotext
from hayate.weights.folders import list_models
from tests.jobs.desks import opened
from tests.jobs.small_pictures import evidence, loaded, made, pixels, reason, write_models

BROKEN = {
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
    "page": (b"<!DOCTYPE html><html><body>Log in</body></html>", "web page"),
    "cut": (None, "truncated"),
}
"""What is in the file, None for a model without its last byte; and what is said of it."""


def test_a_broken_model_is_listed_as_that_and_the_loaded_one_stays(tmp_path: Path) -> None:
    models = write_models(tmp_path)

    async def main() -> None:
        async with opened(tmp_path, command=COMMAND) as desk:
            before = pixels(await made(desk))
            for name, (content, words) in BROKEN.items():
                whole = (models / "tiny.safetensors").read_bytes()
                (models / f"{name}.safetensors").write_bytes(whole[:-1] if content is None else content)
                assert words in reason(await loaded(desk, name))
                assert words in reason(await made(desk, model=name))
                assert np.array_equal(pixels(await made(desk)), before)
            problems = {entry.name.partition(".")[0]: entry.problem or "" for entry in list_models(models)}
            assert all(words in problems[name] for name, (_, words) in BROKEN.items())
            assert "1 loaded" in await evidence(desk, "checkpoints cache")
            assert desk.workers()[0].restarts == 0

    asyncio.run(main())


def test_a_model_that_is_cut_off_under_the_worker_costs_its_own_jobs_alone(tmp_path: Path) -> None:
    """In place, so that memory which is mapped from the file is gone: that may end the worker, and nothing else."""
    models = write_models(tmp_path)
    path = models / "tiny.safetensors"

    async def main() -> None:
        async with opened(tmp_path, command=COMMAND) as desk:
            before, other = await made(desk), await made(desk, model="other")
            whole = path.read_bytes()
            os.truncate(path, len(whole) // 2)
            assert "truncated" in reason(await made(desk))
            assert np.array_equal(pixels(await made(desk, model="other")), pixels(other))
            path.write_bytes(whole)
            assert np.array_equal(pixels(await made(desk)), pixels(before))

    asyncio.run(main())


def test_a_model_that_is_replaced_or_removed_is_noticed(tmp_path: Path) -> None:
    models = write_models(tmp_path)

    def hash_of(job: JobRecord) -> str:
        assert job.result is not None
        return parse_infotext(job.result.pictures[0].infotext).parameters["Model hash"]

    async def main() -> None:
        async with opened(tmp_path, command=COMMAND) as desk:
            path, old = models / "tiny.safetensors", (models / "tiny.safetensors").read_bytes()
            before, other = await made(desk), await made(desk, model="other")
            assert not np.array_equal(pixels(before), pixels(other))

            new = tmp_path / "new.safetensors"
            new.write_bytes((models / "other.safetensors").read_bytes())
            new.replace(path)
            assert np.array_equal(pixels(replaced := await made(desk)), pixels(other))
            assert hash_of(replaced) == hash_of(other) == hashlib.sha256(path.read_bytes()).hexdigest()[:10]

            path.unlink()
            with pytest.raises(UnknownName, match="other"):
                await made(desk)
            assert np.array_equal(pixels(await made(desk, model="other")), pixels(other))

            path.write_bytes(old)
            assert np.array_equal(pixels(again := await made(desk)), pixels(before))
            assert hash_of(again) == hash_of(before)

    asyncio.run(main())
