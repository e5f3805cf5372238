"""One server to a folder, whatever became of the one before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hayate.errors import OutputError, UsageError
from hayate.jobs.lock import InstanceLock

HOLD = """
import sys, time
from pathlib import Path
from hayate.jobs.lock import InstanceLock
lock = InstanceLock(Path(sys.argv[1]))
lock.take()
print("held", flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="ends the holder by a signal")
def test_the_second_is_told_who_the_first_is_and_may_when_that_is_gone(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match=f"running already, as process {holder.pid}"):
            InstanceLock(tmp_path).take()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        mine = InstanceLock(tmp_path)
        mine.take()
        assert mine.path.read_text() == f"{os.getpid()}\n"
        mine.release()
    finally:
        holder.kill()
        holder.wait()


def test_it_can_be_taken_again_after_its_release(tmp_path: Path) -> None:
    for _ in range(3):
        lock = InstanceLock(tmp_path)
        lock.take()
        lock.release()
        lock.release()


def test_a_place_that_can_not_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        InstanceLock(tmp_path / "file").take()
