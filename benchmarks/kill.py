"""SIGKILL at random moments, of the server and of its workers: is a job lost, done twice, or a file half written?

    python -m benchmarks.kill --moments 200 [--devices cpu,cpu]

A host process with the real queue and the real worker takes jobs; it or one of its workers is killed at random moments
and started anew, until all moments are spent. Then everything may finish. What was accepted must have ended exactly
once: done with all its pictures, or, where both attempts were killed, failed as "crashed twice". Every picture must
decode.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import psutil
from PIL import Image

from hayate.jobs.local import FOLDER, LocalDesk
from hayate.jobs.queue import Queue
from hayate.jobs.records import JobRecord, NewJob, State
from hayate.jobs.schema import FILE_NAME, connect
from hayate.settings import Settings, load_settings

WORKER = "hayate.jobs.worker"
WAITING = 6
"""Jobs that the host keeps in the queue."""
PICTURES = 2
PATIENCE_S = 120.0
IN_A_JOB = 0.75
"""Of the moments: at a random time after a job was begun. The others are at any time, which mostly is a start."""
JOB_S = 1.0


@dataclass(slots=True, kw_only=True)
class Verdict:
    """What was found; `faults` is empty where all is well."""

    moments: int
    seed: int
    accepted: int = 0
    done: int = 0
    crashed_twice: int = 0
    pictures: int = 0
    kills: dict[str, int] = field(default_factory=lambda: {"server": 0, "worker": 0})
    interrupted: int = 0
    """Attempts that a kill ended."""
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


def main(words: Sequence[str] | None = None) -> int:
    """Prints the verdict; 1 where something was lost, doubled or halved."""
    if (words or sys.argv[1:])[:1] == ["host"]:
        return asyncio.run(host(*(words or sys.argv[1:])[1:]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--devices", default="", help="a worker on each; one without")
    parser.add_argument("--most-wait", type=float, default=6.0, help="seconds before a kill at any time")
    asked = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        verdict = run(
            Path(folder), moments=asked.moments, seed=asked.seed, most_wait_s=asked.most_wait, devices=asked.devices
        )
    print(json.dumps(asdict(verdict), indent=1))
    return 1 if verdict.faults else 0


def run(
    folder: Path,
    *,
    moments: int,
    seed: int,
    most_wait_s: float,
    worker: str = WORKER,
    waiting: int = WAITING,
    devices: str = "",
) -> Verdict:
    """Kills, lets all finish, and looks; so many jobs are kept `waiting`."""
    draw, started = random.Random(seed), time.monotonic()
    verdict = Verdict(moments=moments, seed=seed)
    lives: list[subprocess.Popen[bytes]] = []
    try:
        process = begin(folder, (worker, str(waiting), devices), lives)
        for _ in range(moments):
            if draw.random() < IN_A_JOB:
                until_running(settings_in(folder).data_dir / FOLDER / FILE_NAME)
                time.sleep(draw.uniform(0, JOB_S))
            else:
                time.sleep(draw.uniform(0, most_wait_s))
            if draw.random() < 0.5:
                kill_worker(process, verdict, draw)
            else:
                process.kill()
                process.wait()
                verdict.kills["server"] += 1
                process = begin(folder, (worker, str(waiting), devices), lives)
        finish(process)
    finally:
        for each in lives:
            each.kill()
            each.wait()
    verdict.seconds = round(time.monotonic() - started, 1)
    look(folder, verdict)
    return verdict


def begin(folder: Path, how: tuple[str, str, str], lives: list[subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    """A host, which goes on with what the one before left."""
    command = [sys.executable, "-m", "benchmarks.kill", "host", str(folder), *how]
    lives.append(subprocess.Popen(command, stdin=subprocess.PIPE))
    return lives[-1]


def kill_worker(process: subprocess.Popen[bytes], verdict: Verdict, draw: random.Random) -> None:
    """One of them, if there is one just now."""
    with contextlib.suppress(psutil.Error):
        if children := psutil.Process(process.pid).children():
            draw.choice(children).kill()
            verdict.kills["worker"] += 1


def until_running(path: Path) -> None:
    """Waits until a job runs; not for ever, since the last kill may have been in the middle of anything."""
    ends_at = time.monotonic() + PATIENCE_S / 2
    while time.monotonic() < ends_at:
        with contextlib.suppress(sqlite3.Error):
            other = connect(path)
            try:
                if other.execute("SELECT 1 FROM jobs WHERE state = 'running'").fetchone():
                    return
            finally:
                other.close()
        time.sleep(0.02)


def finish(process: subprocess.Popen[bytes]) -> None:
    """Tells the host to take no more jobs, and waits until it has done all."""
    assert process.stdin is not None
    process.stdin.close()
    process.wait(PATIENCE_S)


def look(folder: Path, verdict: Verdict) -> None:
    """Compares what was accepted with what came of it."""
    settings = settings_in(folder)
    queue = Queue(settings.data_dir / FOLDER)
    jobs = {job.id: job for job in queue.jobs(limit=1000)}
    accepted = dict(line.split() for line in (folder / "accepted").read_text().splitlines())
    queue.close()
    verdict.accepted = len(accepted)
    verdict.faults += [f"{id_} was accepted and is lost" for id_ in accepted.values() if id_ not in jobs]
    verdict.faults += list(queue.notes)
    keys = [job.key for job in jobs.values()]
    verdict.faults += [f"{key} is there twice" for key in {each for each in keys if keys.count(each) > 1}]
    for job in jobs.values():
        judge(job, verdict)
    for path in settings.outputs_dir.glob("*.png"):
        try:
            with Image.open(path) as picture:
                picture.load()
        except OSError as error:
            verdict.faults.append(f"{path.name} is no whole picture: {error}")


def judge(job: JobRecord, verdict: Verdict) -> None:
    """One job: ended once, with everything that belongs to its end."""
    verdict.interrupted += job.attempt - (job.state is State.DONE)
    if job.state is State.DONE:
        pictures = () if job.result is None else job.result.pictures
        verdict.done += 1
        verdict.pictures += len(pictures)
        if len({picture.path for picture in pictures}) != PICTURES:
            verdict.faults.append(f"{job.id} has {len(pictures)} pictures")
        verdict.faults += [f"{each.path} is not there" for each in pictures if not Path(each.path).is_file()]
    elif job.state is State.FAILED and job.failure is not None and job.failure.type == "Crashed" and job.attempt == 2:
        verdict.crashed_twice += 1
    else:
        verdict.faults.append(f"{job.id} is {job.state.value} after {job.attempt} attempts: {job.failure}")


def settings_in(folder: Path) -> Settings:
    places = {"data_dir": "data", "outputs_dir": "out", "cache_dir": "cache"}
    return load_settings({key: folder / name for key, name in places.items()}, environment={})


async def host(folder: str, worker: str, waiting: str, devices: str) -> int:
    """The process that is killed: keeps jobs coming until its input ends, then does what is left."""
    place = Path(folder)
    desk = LocalDesk(replace(settings_in(place), devices=devices or None), command=(sys.executable, "-m", worker))
    for _ in range(100):  # the one before may be dying still
        with contextlib.suppress(Exception):
            desk.start()
            break
        await asyncio.sleep(0.1)
    watching = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    number = len(desk.jobs(limit=1000))
    while not watching.done():
        while len(desk.queued()) < int(waiting):
            number += 1
            accept(desk, place, f"job-{number}")
        await asyncio.sleep(0.02)
    while desk.queued() or desk.jobs(states=[State.RUNNING]):
        await asyncio.sleep(0.05)
    await desk.close(PATIENCE_S)
    return 0


def accept(desk: LocalDesk, folder: Path, key: str) -> None:
    """Hands a job in, and writes down that it was taken: from then on it must not be lost.

    A kill in between leaves a job that nobody was promised; with its key it is not handed in twice.
    """
    request = {"prompt": "slow", "steps": 8, "width_px": 64, "height_px": 64, "seed": 1, "batch_count": PICTURES}
    job = desk.submit(NewJob(kind="generate", body={"request": request}, key=key))
    with (folder / "accepted").open("a") as file:
        file.write(f"{key} {job.id}\n")
        file.flush()
        os.fsync(file.fileno())


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
