"""Extensions in a server's worker: one that raises, one that hangs, one that writes where the messages go."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hayate.extensions.state import StateFile
from hayate.extensions.switching import switch
from hayate.jobs.local import LocalDesk
from hayate.jobs.records import JobRecord, NewJob, State
from hayate.settings import Settings
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


async def run(settings: Settings) -> tuple[JobRecord, JobRecord]:
    """A job with all extensions switched off, and one after they were switched on while the server runs."""
    names = ("raises", "hangs", "loud")
    for name in names:
        switch(settings, name, is_on=False)
    desk = LocalDesk(settings)
    desk.start()
    try:
        plain = await made(desk)
        for name in names:
            switch(settings, name, is_on=True)
        return plain, await made(desk)
    finally:
        await desk.close(0)


def test_jobs_are_done_without_those_that_fail_and_they_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "extensions"
    settings = replace(settings_in(tmp_path), extensions_dir=folder, extension_import_s=3, threads=1)
    write_extension(folder, "raises", "raise ValueError('no luck')", HOOKS)
    write_extension(folder, "hangs", "import time; time.sleep(20)", HOOKS)
    write_extension(folder, "loud", LOUD, HOOKS)
    plain, record = asyncio.run(run(settings))
    assert (plain.state, record.state) == (State.DONE, State.DONE)
    assert np.array_equal(picture(record), picture(plain))
    assert plain.result is not None
    assert record.result is not None
    assert not [note for note in plain.result.notes if "extension" in note]
    notes = "\n".join(record.result.notes)
    assert "the extension raises is left out until the next start: its import failed: ValueError: no luck" in notes
    assert "its import took longer than 3 s, so it is switched off now" in notes
    assert "loud" not in notes
    log = (tmp_path / "data" / "extensions" / "loud.log").read_text()
    assert log == 'printed at import\n{"a line like": "a message"}\n'
    state = StateFile(settings.data_dir)
    assert (state.last_times()["loud"].calls, state.last_times()["loud"].problem) == (1, "")
    assert "longer than" in state.last_times()["hangs"].problem
