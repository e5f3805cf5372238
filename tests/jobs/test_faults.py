"""Memory, disk and model files that fail under the real worker: the job says it, and the next one is as ever."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from hayate.errors import UnknownName
from hayate.jobs.local import LocalDesk
from hayate.jobs.process import COMMAND
from hayate.jobs.records import JobRecord, NewJob, State
from hayate.models.config import Family
from hayate.pipeline.infotext import parse_infotext
from hayate.weights.folders import list_models
from tests.jobs import faulty_worker
from tests.jobs.desks import ended, opened, settings_in, wish
from tests.tiny_models import write_tiny

NAMES = ("tiny", "other")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    for seed, name in enumerate(NAMES):
        write_tiny(folder / f"{name}.safetensors", Family.SD1, seed=seed)
    return folder


async def done(desk: LocalDesk, prompt: str = "a red sun", *, model: str = "tiny", **more: object) -> JobRecord:
    """A small picture's job, when it has ended."""
    asked = more.pop("asked", {})
    new = wish(prompt, **{"steps": 3, "width_px": 64, "height_px": 64, "model": model, **more})
    return await ended(desk, desk.submit(NewJob(kind=new.kind, body={**new.body, "asked": asked})))


async def loaded(desk: LocalDesk, model: str) -> JobRecord:
    return await ended(desk, desk.submit(NewJob(kind="load", body={"model": model})))


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


@pytest.mark.usefixtures("models")
def test_a_shortage_of_memory_costs_a_retry_or_the_job_and_nothing_afterwards(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, command=faulty_worker.COMMAND) as desk:
            wide = {"width_px": 2 * faulty_worker.TILE_PX}
            before = pixels(await done(desk))
            tiled = pixels(await done(desk, "short decode", asked={"vae_tile_px": faulty_worker.TILE_PX}, **wide))

            assert "out of memory in the U-Net" in notes(await done(desk, "short once"))
            assert np.array_equal(pixels(await done(desk)), before)

            assert "out of memory in the U-Net" in reason(failed := await done(desk, "short"))
            assert failed.attempt == 1, "what can't be is not tried again"
            assert "--size" in reason(failed)
            assert np.array_equal(pixels(await done(desk)), before)

            mended = await done(desk, "short decode", **wide)
            assert "tiles" in notes(mended)
            assert np.array_equal(pixels(mended), tiled)
            assert np.array_equal(pixels(await done(desk)), before)
            assert desk.worker().restarts == 0

    asyncio.run(main())


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on a file's size")
@pytest.mark.usefixtures("models")
def test_a_disk_without_any_room_is_said_and_leaves_no_stub(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, command=faulty_worker.COMMAND) as desk:
            before = await done(desk)

            failed = await done(desk, "full")

            assert "can't write to" in reason(failed)
            settings = settings_in(tmp_path)
            assert len(list(settings.outputs_dir.iterdir())) == 1
            assert not list((settings.data_dir / "server" / "results" / failed.id).glob("*"))
            assert np.array_equal(pixels(await done(desk)), pixels(before))
            assert desk.worker().restarts == 0

    asyncio.run(main())


BROKEN = {
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
    "page": (b"<!DOCTYPE html><html><body>Log in</body></html>", "web page"),
    "cut": (None, "truncated"),
}
"""What is in the file, None for a model without its last byte; and what is said of it."""


def test_a_broken_model_is_listed_as_that_and_the_loaded_one_stays(tmp_path: Path, models: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, command=COMMAND) as desk:
            before = pixels(await done(desk))
            for name, (content, words) in BROKEN.items():
                whole = (models / "tiny.safetensors").read_bytes()
                (models / f"{name}.safetensors").write_bytes(whole[:-1] if content is None else content)
                assert words in reason(await loaded(desk, name))
                assert words in reason(await done(desk, model=name))
                assert np.array_equal(pixels(await done(desk)), before)
            problems = {entry.name.partition(".")[0]: entry.problem or "" for entry in list_models(models)}
            assert all(words in problems[name] for name, (_, words) in BROKEN.items())
            assert "1 loaded" in await evidence(desk, "checkpoints cache")
            assert desk.worker().restarts == 0

    asyncio.run(main())


async def evidence(desk: LocalDesk, name: str) -> str:
    found = await desk.ask("evidence")
    return next(each["detail"] for each in found["evidence"] if each["name"] == name)


def test_a_model_that_is_replaced_or_removed_is_noticed(tmp_path: Path, models: Path) -> None:
    def hash_of(job: JobRecord) -> str:
        assert job.result is not None
        return parse_infotext(job.result.pictures[0].infotext).parameters["Model hash"]

    async def main() -> None:
        async with opened(tmp_path, command=COMMAND) as desk:
            path, old = models / "tiny.safetensors", (models / "tiny.safetensors").read_bytes()
            before, other = await done(desk), await done(desk, model="other")
            assert not np.array_equal(pixels(before), pixels(other))

            new = tmp_path / "new.safetensors"
            new.write_bytes((models / "other.safetensors").read_bytes())
            new.replace(path)
            assert np.array_equal(pixels(replaced := await done(desk)), pixels(other))
            assert hash_of(replaced) == hash_of(other) == hashlib.sha256(path.read_bytes()).hexdigest()[:10]

            path.unlink()
            with pytest.raises(UnknownName, match="other"):
                await done(desk)
            assert np.array_equal(pixels(await done(desk, model="other")), pixels(other))

            path.write_bytes(old)
            assert np.array_equal(pixels(again := await done(desk)), pixels(before))
            assert hash_of(again) == hash_of(before)

    asyncio.run(main())


SWITCHES = 50
WARM_UP = 10


@pytest.mark.usefixtures("models")
def test_fifty_switches_leave_the_workers_memory_as_it_is(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, command=COMMAND) as desk:
            resident, first = [], {}
            for turn in range(SWITCHES):
                name = NAMES[turn % 2]
                assert (await loaded(desk, name)).state is State.DONE
                if turn % 5 == 0:  # a picture of each of them in turn
                    picture = pixels(await done(desk, model=name))
                    assert np.array_equal(picture, first.setdefault(name, picture))
                pid = desk.worker().pid
                assert pid is not None
                resident.append(psutil.Process(pid).memory_info().rss)
            assert max(resident[WARM_UP:]) <= 1.05 * resident[WARM_UP - 1]
            assert not np.array_equal(first["tiny"], first["other"])
            assert f"{SWITCHES} switches" in await evidence(desk, "switch")
            assert desk.worker().restarts == 0

    asyncio.run(main())
