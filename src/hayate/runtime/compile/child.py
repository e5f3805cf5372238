"""Runs the compiling process: with limits of time and memory, and an end for all that it started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hayate.errors import clip
from hayate.runtime.compile.spec import CompileRefused

POLL_S = 0.1
ROOT = Path(__file__).resolve().parents[3]
"""The folder that holds this package."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the compiling process and all that it starts may use together."""

    time_s: float = 1800.0
    memory_bytes: int = 8 * 2**30
    """Resident memory. Not watched on Windows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What a compiling process took."""

    seconds: float
    peak_bytes: int
    """0 where the system doesn't say."""


def run_child(command: Sequence[str], folder: Path, limits: Limits, stop: threading.Event) -> Finished:
    """Waits for `command`, which keeps its temporary files in `folder`.

    Raises: CompileRefused when it fails, is too slow, takes too much memory, or `stop` is set; then all of it is ended.
    """
    started = time.monotonic()
    log = folder / "log.txt"
    with log.open("wb") as output:
        child = _start(command, folder, output)
    peak_bytes = 0
    try:
        while child.poll() is None:
            taken_bytes = _memory_bytes(child.pid)
            peak_bytes = max(peak_bytes, taken_bytes)
            _check(time.monotonic() - started, taken_bytes, limits, stop)
            stop.wait(POLL_S)
    finally:
        _end(child)
    if child.returncode:
        raise CompileRefused(_why(child.returncode, log))
    return Finished(seconds=time.monotonic() - started, peak_bytes=peak_bytes)


def _start(command: Sequence[str], folder: Path, output: BinaryIO) -> subprocess.Popen[bytes]:
    """Its standard input stays open for as long as this process lives: the worker watches it.

    It imports the same sources as this process, and nothing from the folder where this process happens to be.
    """
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        "TRITON_CACHE_DIR": str(folder / "triton"),
        **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder)),
    }
    flags = subprocess.BELOW_NORMAL_PRIORITY_CLASS if sys.platform == "win32" else 0
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
            creationflags=flags,
        )
    except OSError as error:
        raise CompileRefused(f"the compiling process could not be started: {error}") from error


def _check(seconds: float, taken_bytes: int, limits: Limits, stop: threading.Event) -> None:
    if stop.is_set():
        raise CompileRefused("compiling was stopped")
    if seconds > limits.time_s:
        raise CompileRefused(f"compiling took longer than its limit of {limits.time_s:g} s")
    if taken_bytes > limits.memory_bytes:
        raise CompileRefused(f"compiling took more memory than its limit of {limits.memory_bytes / 2**30:.2g} GiB")


def _why(code: int, log: Path) -> str:
    """The last line that the process wrote, or how it ended."""
    if code < 0:
        return f"the compiling process was ended by signal {-code}"
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"the compiler failed: {clip(lines[-1], 200)}" if lines else f"the compiler failed with exit code {code}"


def _memory_bytes(pid: int) -> int:
    """Resident memory of the process and all below it; 0 where the system doesn't say."""
    return 0 if sys.platform == "win32" else sum(_family({pid}, pid).values())


def _family(first: set[int], group: int) -> dict[int, int]:
    """Resident bytes of these processes, of their group, which outlives its leader, and of all below them."""
    found = _processes()
    family = {number for number, process in found.items() if number in first or process[1] == group}
    while grown := {number for number, process in found.items() if process[0] in family} - family:
        family |= grown
    return {number: found[number][2] for number in family}


def _processes() -> dict[int, tuple[int, int, int]]:
    """Parent, group and resident bytes of every process of this machine."""
    proc = Path("/proc")
    if not (proc / "self/stat").exists():
        return _listed_processes()
    found = {}
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    for entry in proc.iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            except OSError:  # it has just ended
                continue
            found[int(entry.name)] = (int(fields[1]), int(fields[2]), int(fields[21]) * page_bytes)
    return found


def _listed_processes() -> dict[int, tuple[int, int, int]]:
    """The same from `ps`, as macOS has no /proc."""
    listed = subprocess.run(["ps", "-axo", "pid=,ppid=,pgid=,rss="], capture_output=True, text=True, check=False)
    rows = (map(int, line.split()) for line in listed.stdout.splitlines())
    return {pid: (parent, group, kib * 1024) for pid, parent, group, kib in rows}


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ends whatever is left of the process and of all that it started."""
    if sys.platform == "win32":
        if child.poll() is None:
            subprocess.run(["taskkill", "/T", "/F", "/PID", str(child.pid)], capture_output=True, check=False)
    else:
        for number in _family({child.pid} if child.poll() is None else set(), child.pid):
            try:
                os.kill(number, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):  # it has just ended
                continue
    assert child.stdin is not None
    child.stdin.close()
    child.wait()
