"""The server under load: many clients that post small jobs, and what the page feels of it.

    python benchmarks/serve_load.py [--clients 200] [--seconds 60] [--json FILE]

`hayate serve` runs as a user would start it, in folders of its own. Half of the clients call A1111's txt2img and wait
for the picture, half post to /v1/jobs and listen to the job's events until it has ended; each posts its next job (the
built-in model, 64×64, 2 steps) when the one before has ended, and waits as long as a 503 says. Meanwhile the page is
asked for ten times a second. Afterwards the clients' count of what was accepted is held against the server's own list
of what was completed, and the memory of both processes at the end against that after the first quarter.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psutil

JOB = {"prompt": "a red sun, sea", "steps": 2, "width": 64, "height": 64, "sampler_name": "Euler"}
REQUEST = {"prompt": "a red sun, sea", "steps": 2, "width_px": 64, "height_px": 64, "sampler": "Euler"}
PAGE_EVERY_S, MEMORY_EVERY_S = 0.1, 0.5
PATIENCE_S = 120.0


@dataclass(slots=True)
class Tally:
    """What the clients saw."""

    accepted: Counter[str] = field(default_factory=Counter)
    completed: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    """503 with Retry-After."""
    problems: list[str] = field(default_factory=list)
    page_ms: list[float] = field(default_factory=list)
    job_s: list[float] = field(default_factory=list)
    memory_bytes: list[tuple[float, int, int]] = field(default_factory=list)
    """Seconds since the start, the server's and the worker's."""


async def post_and_wait(client: httpx2.AsyncClient, tally: Tally, number: int) -> None:
    """A1111's way: the answer is the picture."""
    answer = await client.post("/sdapi/v1/txt2img", json={**JOB, "seed": number}, timeout=PATIENCE_S)
    if await _is_refused(answer, tally):
        return
    tally.accepted["a1111"] += 1
    if answer.status_code == 200 and len(answer.json()["images"]) == 1:
        tally.completed["a1111"] += 1
    else:
        tally.problems.append(f"txt2img: {answer.status_code} {answer.text[:200]}")


async def post_and_listen(client: httpx2.AsyncClient, tally: Tally, number: int) -> None:
    """The asynchronous way: a job's id now, and its events until the last one."""
    body = {"kind": "generate", "body": {"request": {**REQUEST, "seed": number}, "saves_pictures": False}}
    answer = await client.post("/v1/jobs", json=body, timeout=PATIENCE_S)
    if await _is_refused(answer, tally):
        return
    if answer.status_code != 202:
        tally.problems.append(f"/v1/jobs: {answer.status_code} {answer.text[:200]}")
        return
    tally.accepted["v1"] += 1
    place = f"/v1/jobs/{answer.json()['id']}"
    async with client.stream("GET", f"{place}/events", timeout=PATIENCE_S) as events:
        async for _ in events.aiter_lines():
            pass
    state = (await client.get(place, timeout=PATIENCE_S)).json()["state"]
    if state == "done":
        tally.completed["v1"] += 1
    else:
        tally.problems.append(f"{place}: {state}")


async def _is_refused(answer: httpx2.Response, tally: Tally) -> bool:
    if answer.status_code != 503 or "retry-after" not in answer.headers:
        return False
    tally.refused += 1
    await asyncio.sleep(float(answer.headers["retry-after"]))
    return True


async def one_client(
    client: httpx2.AsyncClient, tally: Tally, number: int, until_s: float, seeds: Iterator[int]
) -> None:
    """One job after the other."""
    post = post_and_wait if number % 2 else post_and_listen
    while time.perf_counter() < until_s:
        started_s = time.perf_counter()
        try:
            await post(client, tally, next(seeds))
        except (httpx2.HTTPError, KeyError, ValueError) as error:
            tally.problems.append(f"{post.__name__}: {type(error).__name__} {error}")
        tally.job_s.append(time.perf_counter() - started_s)


async def watch_page(address: str, tally: Tally, until_s: float) -> None:
    """The page, again and again, over one connection."""
    async with httpx2.AsyncClient(base_url=address) as client:
        while time.perf_counter() < until_s:
            started_s = time.perf_counter()
            answer = await client.get("/", timeout=PATIENCE_S)
            tally.page_ms.append(1000 * (time.perf_counter() - started_s))
            if answer.status_code != 200:
                tally.problems.append(f"/: {answer.status_code}")
            await asyncio.sleep(max(0.0, PAGE_EVERY_S - (time.perf_counter() - started_s)))


async def watch_memory(server: psutil.Process, tally: Tally, until_s: float) -> None:
    """Resident memory without what is shared."""
    begun_s = time.perf_counter()
    while time.perf_counter() < until_s:
        workers = sum(child.memory_full_info().uss for child in server.children())
        own = server.memory_full_info().uss
        tally.memory_bytes.append((time.perf_counter() - begun_s, own, workers))
        await asyncio.sleep(MEMORY_EVERY_S)


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """A server's address and process; ended by SIGTERM."""
    environment = {**os.environ, "HAYATE_DATA_DIR": str(folder / "data"), "HAYATE_OUTPUTS_DIR": str(folder / "out")}
    words = [sys.executable, "-m", "hayate", "serve", "--port", "0"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    try:
        assert process.stdout is not None
        found = next((match for line in process.stdout if (match := re.search(r"http://[\w.:]+", line))), None)
        if found is None:
            raise SystemExit("the server does not start")
        yield found[0].rstrip("/"), psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


async def load(address: str, server: psutil.Process, clients: int, seconds: float) -> Tally:
    """All clients at once, and those who watch."""
    tally, seeds = Tally(), itertools.count(1)
    until_s = time.perf_counter() + seconds
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx2.AsyncClient(base_url=address, limits=limits) as client, asyncio.TaskGroup() as group:
        group.create_task(watch_page(address, tally, until_s))
        group.create_task(watch_memory(server, tally, until_s))
        for number in range(clients):
            group.create_task(one_client(client, tally, number, until_s, seeds))
    return tally


async def wait_until_warm(address: str) -> None:
    """The worker has made its first picture."""
    async with httpx2.AsyncClient(base_url=address) as client:
        answer = await client.post("/sdapi/v1/txt2img", json=JOB, timeout=PATIENCE_S)
        if answer.status_code != 200:
            raise SystemExit(f"the first picture: {answer.status_code} {answer.text[:300]}")


def listed(address: str) -> Counter[str]:
    """How many jobs the server itself has in each state."""
    states: Counter[str] = Counter()
    before: str | None = ""
    with httpx2.Client(base_url=address) as client:
        while before is not None:
            page = client.get("/v1/jobs", params={"limit": 1000, "before": before}).json()
            states.update(job["state"] for job in page["jobs"])
            before = page["next"]
    return states


def told(tally: Tally, states: Counter[str], seconds: float) -> dict[str, Any]:
    """The verdict, as JSON can hold it."""
    quarter = tally.memory_bytes[len(tally.memory_bytes) // 4]
    last = tally.memory_bytes[-1]
    accepted, completed = sum(tally.accepted.values()), sum(tally.completed.values())
    cuts = statistics.quantiles(tally.page_ms, n=100)
    return {
        "seconds": seconds,
        "accepted": accepted,
        "completed": completed,
        "listed": dict(states),
        "refused_503": tally.refused,
        "problems": tally.problems[:20],
        "problem_count": len(tally.problems),
        "jobs_per_s": round(completed / seconds, 1),
        "job_s": {"middle": round(statistics.median(tally.job_s), 2), "longest": round(max(tally.job_s), 2)},
        "page_ms": {"p50": round(cuts[49], 1), "p99": round(cuts[98], 1), "longest": round(max(tally.page_ms), 1)},
        "page_asked": len(tally.page_ms),
        "memory_mb": {
            "server": [round(quarter[1] / 1e6), round(last[1] / 1e6)],
            "worker": [round(quarter[2] / 1e6), round(last[2] / 1e6)],
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hayate-load-") as folder, served(Path(folder)) as (address, server):
        asyncio.run(wait_until_warm(address))
        tally = asyncio.run(load(address, server, asked.clients, asked.seconds))
        verdict = told(tally, listed(address), asked.seconds)
    print(json.dumps(verdict, indent=1))
    if asked.json:
        asked.json.write_text(json.dumps(verdict, indent=1) + "\n")


if __name__ == "__main__":
    main()
