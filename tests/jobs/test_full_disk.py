"""Disks that are full or read-only under the real worker: what fits anywhere is not lost, and no stub is left."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hayate.jobs.records import State
from tests.jobs import faulty_worker
from tests.jobs.desks import opened, settings_in
from tests.jobs.small_pictures import made, notes, pixels, reason, write_models

MOUNT = 'mount -t tmpfs -o "$0" tmpfs "$1" && shift && exec "$@"'
MOUNTED = ("unshare", "--map-root-user", "--mount", "sh", "-c", MOUNT)
"""Runs a command that sees a small disk of its own in a folder; what it needs is that the system lets users do so."""


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """The folder for pictures, where a disk can be mounted."""
    folder = settings_in(tmp_path).outputs_dir
    folder.mkdir()
    if shutil.which("unshare") is None or subprocess.run([*MOUNTED, "size=8k", folder, "true"], check=False).returncode:
        pytest.skip("nobody may mount a disk of his own here")
    return folder


@pytest.mark.parametrize(
    ("options", "words"), [("size=8k", "No space left on device"), ("ro", "Read-only file system")], ids=["full", "ro"]
)
def test_a_disk_that_takes_no_picture_costs_none(tmp_path: Path, outputs: Path, options: str, words: str) -> None:
    write_models(tmp_path)
    command = (*MOUNTED, options, str(outputs), sys.executable, "-m", "hayate.jobs.worker")

    async def main() -> None:
        async with opened(tmp_path, command=command) as desk:
            first = await made(desk, width_px=128, height_px=128)

            assert words in notes(first)
            assert first.result is not None
            (picture,) = first.result.pictures
            assert not picture.is_saved
            results = settings_in(tmp_path).data_dir / "server" / "results" / first.id
            assert [each.name for each in results.iterdir()] == [Path(picture.path).name]
            assert list(Path(f"/proc/{desk.workers()[0].pid}/root{outputs}").iterdir()) == []
            again = await made(desk, width_px=128, height_px=128)
            assert again.state is State.DONE
            assert np.array_equal(pixels(again), pixels(first))
            assert desk.workers()[0].restarts == 0

    asyncio.run(main())


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on a file's size")
def test_no_room_anywhere_is_one_line_and_leaves_no_stub(tmp_path: Path) -> None:
    write_models(tmp_path)

    async def main() -> None:
        async with opened(tmp_path, command=faulty_worker.COMMAND) as desk:
            before = await made(desk)

            failed = await made(desk, "full")

            assert "can't write to" in reason(failed)
            settings = settings_in(tmp_path)
            assert len(list(settings.outputs_dir.iterdir())) == 1
            assert not list((settings.data_dir / "server" / "results" / failed.id).glob("*"))
            assert np.array_equal(pixels(await made(desk)), pixels(before))
            assert desk.workers()[0].restarts == 0

    asyncio.run(main())
