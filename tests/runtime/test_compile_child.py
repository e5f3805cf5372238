"""The compiling process may fail, hang or take everything: it is ended, with all that it started."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hayate.runtime.compile.child import Limits, run_child
from hayate.runtime.compile.spec import CompileRefused
from tests.runtime.compile_fakes import worker

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="process groups are POSIX")

HANGING = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"])
open(sys.argv[1], "w").write(f"{os.getpid()} {child.pid}")
time.sleep(600)
"""
GREEDY = "import time; taken = b'x' * (400 << 20); time.sleep(600)"


def run(program: str, folder: Path, *arguments: str, stop: threading.Event | None = None, **limits: float) -> None:
    run_child([*worker(program), *arguments], folder, Limits(**limits), stop or threading.Event())  # type: ignore[arg-type]


def is_alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_for(file: Path) -> list[int]:
    for _ in range(200):
        if file.exists() and len(numbers := file.read_text().split()) == 2:
            return [int(number) for number in numbers]
        time.sleep(0.05)
    pytest.fail("the child wrote nothing")


def all_ended(pids: list[int]) -> bool:
    deadline = time.monotonic() + 10
    while any(map(is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(is_alive, pids))


def test_a_failure_is_told_by_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(CompileRefused, match="the compiler failed: ValueError: no such kernel"):
        run("raise ValueError('no such kernel')", tmp_path)


def test_a_silent_failure_is_told_by_its_code_and_a_crash_by_its_signal(tmp_path: Path) -> None:
    with pytest.raises(CompileRefused, match="exit code 3"):
        run("import os; os._exit(3)", tmp_path)
    with pytest.raises(CompileRefused, match="signal 11"):
        run("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", tmp_path)


def test_a_program_that_is_not_there_is_a_reason(tmp_path: Path) -> None:
    with pytest.raises(CompileRefused, match="could not be started"):
        run_child(["/nonexistent/compiler"], tmp_path, Limits(), threading.Event())


def test_one_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    told = tmp_path / "pids"
    with pytest.raises(CompileRefused, match=r"longer than its limit of 1\.5 s"):
        run(HANGING, tmp_path, str(told), time_s=1.5)
    assert all_ended(wait_for(told))


def test_one_that_takes_too_much_memory_is_ended(tmp_path: Path) -> None:
    with pytest.raises(CompileRefused, match=r"more memory than its limit of 0\.2 GiB"):
        run(GREEDY, tmp_path, memory_bytes=200 * 2**20)


def test_the_memory_of_its_children_counts(tmp_path: Path) -> None:
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-I', '-S', '-c', {GREEDY!r}])"
    with pytest.raises(CompileRefused, match="more memory"):
        run(program, tmp_path, memory_bytes=200 * 2**20)


def test_it_is_ended_when_it_is_no_longer_wanted(tmp_path: Path) -> None:
    told, stop = tmp_path / "pids", threading.Event()
    threading.Thread(target=lambda: (wait_for(told), stop.set())).start()
    with pytest.raises(CompileRefused, match="stopped"):
        run(HANGING, tmp_path, str(told), stop=stop)
    assert all_ended(wait_for(told))


def test_children_that_outlive_a_good_end_are_ended_too(tmp_path: Path) -> None:
    told = tmp_path / "pids"
    run(HANGING.replace("time.sleep(600)\n", "", 1).removesuffix("time.sleep(600)\n"), tmp_path, str(told))
    assert all_ended(wait_for(told))


def test_its_temporary_files_stay_in_its_folder(tmp_path: Path) -> None:
    run("import tempfile; tempfile.mkstemp(prefix='left-')", tmp_path)
    assert len(list(tmp_path.glob("left-*"))) == 1


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc")
def test_the_worker_ends_when_the_process_that_started_it_is_killed() -> None:
    watch = (
        "import threading, time; from hayate.runtime.compile.worker import _end_with_parent;"
        "threading.Thread(target=_end_with_parent, daemon=True).start(); print('ready', flush=True); time.sleep(600)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", watch], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    assert is_alive(child.pid)
    child.stdin.close()  # what the system does when the parent ends, however it ends
    assert child.wait(timeout=20) != 0
    child.stdout.close()


def test_a_good_end_reports_what_it_took(tmp_path: Path) -> None:
    finished = run_child(worker("import time; time.sleep(0.5)"), tmp_path, Limits(), threading.Event())
    assert finished.seconds >= 0.5
    assert finished.peak_bytes > 2**20
    assert [each.name for each in tmp_path.iterdir()] == ["log.txt"]
