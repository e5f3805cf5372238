"""Extensions in a server's worker: one that raises, one that hangs, one that writes where the messages go."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hayate.extensions.session import session_for
from hayate.jobs.local import LocalDesk
from hayate.jobs.records import JobRecord, NewJob, State
from tests.extensions.folders import write_extension
from tests.jobs.desks import settings_in

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="ends processes by signals")
LOUD = """
import os, subprocess, sys
print("printed at import")
os.write(1, b"past Python\\n")
subprocess.run([sys.executable, "-c", "print('from a child')"])

def act(texts, call):
    print('{"a line like": "a message"}')
    os.write(1, b'{"another": "one"}\\n')
    return texts
"""
HOOKS = {"prompts": {"it": "act"}}
JOB = {"request": {"prompt": "a lake", "seed": 3, "steps": 2, "width_px": 64, "height_px": 64}}


async def made(desk: LocalDesk) -> JobRecord:
    return await asyncio.wait_for(desk.wait(desk.submit(NewJob(kind="generate", body=JOB)).id), 120)


def picture(record: JobRecord) -> np.ndarray:
    assert record.result is not None
    return np.asarray(Image.open(record.result.pictures[0].path))


async def run(folder: Path, *, has_extensions: bool) -> list[JobRecord]:
    settings = replace(
        settings_in(folder),
        extensions_dir=folder / ("extensions" if has_extensions else "none"),
        extension_import_s=4,
        threads=1,
    )
    desk = LocalDesk(settings)
    desk.start()
    try:
        return [await made(desk) for _ in range(2)]
    finally:
        await desk.close(0)


def test_jobs_are_done_without_those_that_fail_and_they_are_named(tmp_path: Path) -> None:
    write_extension(tmp_path / "extensions", "raises", "raise ValueError('no luck')", HOOKS)
    write_extension(tmp_path / "extensions", "hangs", "import time; time.sleep(20)", HOOKS)
    write_extension(tmp_path / "extensions", "loud", LOUD, HOOKS)
    [plain, _] = asyncio.run(run(tmp_path, has_extensions=False))
    records = asyncio.run(run(tmp_path, has_extensions=True))
    for record in records:
        assert record.state is State.DONE
        assert np.array_equal(picture(record), picture(plain))
        assert record.result is not None
        notes = "\n".join(record.result.notes)
        assert "the extension raises is left out until the next start: its import failed: ValueError: no luck" in notes
        assert "the extension hangs is left out until the next start: its import took longer than 4 s" in notes
        assert "loud" not in notes
    log = (tmp_path / "data" / "extensions" / "loud.log").read_text()
    assert log.startswith("printed at import\n")
    assert log.count('{"a line like": "a message"}') == 2
    session = session_for(replace(settings_in(tmp_path), extensions_dir=tmp_path / "extensions"))
    assert session.state is not None
    last = session.state.last_times()
    assert (last["loud"].calls, last["loud"].problem) == (2, "")
    assert "longer than" in last["hangs"].problem
