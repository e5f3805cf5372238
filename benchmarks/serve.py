"""How long a user waits for the page: from the start of the process to the answer to GET /.

Three programs take turns, each in a new process: a bare FastAPI application with one route, `hayate serve` with its
page but no worker beside it, and `hayate serve` as it is, whose worker imports torch meanwhile. Bound: the
page answers within 1.0 s, before torch is loaded.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BOUND_S = 1.0
BARE = """
import sys, uvicorn
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
app = FastAPI()
@app.get("/", response_class=HTMLResponse)
def page(): return "<!doctype html><title>bare</title>"
uvicorn.run(app, port=int(sys.argv[1]), log_level="error")
"""


def main() -> None:
    """Prints each program's median with its range, and the ratio of each turn to the bare one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    times_s = measure(options.runs)
    if options.json:
        sys.stdout.write(json.dumps(times_s) + "\n")
        return
    for name, values in times_s.items():
        ratios = [value / bare for value, bare in zip(values, times_s["bare FastAPI"], strict=True)]
        sys.stdout.write(f"{name:<28} {_spread(values)} s   ratio {_spread(ratios)}\n")
    verdict = "within" if statistics.median(times_s["hayate serve"]) < BOUND_S else "NOT within"
    sys.stdout.write(f"the page answers {verdict} {BOUND_S} s\n")


def measure(runs: int) -> dict[str, list[float]]:
    """Seconds of every program, all of them once per round; the first round only warms the disk cache."""
    python = sys.executable
    programs: dict[str, Sequence[str]] = {
        "bare FastAPI": [python, "-P", "-c", BARE, "{port}"],
        "hayate serve, no worker": [python, "-m", "tests.server.serve_stub", "--port", "{port}"],
        "hayate serve": [python, "-P", "-m", "hayate", "serve", "--port", "{port}"],
    }
    times_s: dict[str, list[float]] = {name: [] for name in programs}
    for turn in range(runs + 1):
        for name, command in programs.items():
            took_s = start_s(command)
            if turn:
                times_s[name].append(round(took_s, 4))
    return times_s


def start_s(command: Sequence[str]) -> float:
    """From the start of a process to the whole answer to GET /; the process is ended afterwards.

    Raises: RuntimeError where it answers with anything but a page.
    """
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
        environment = {**os.environ, "PYTHONPATH": paths, "XDG_DATA_HOME": folder, "XDG_CACHE_HOME": folder}
        words = [word.replace("{port}", str(port)) for word in command]
        started_s = time.perf_counter()
        process = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        try:
            while (status := page_status(port)) is None:
                if process.poll() is not None:
                    raise RuntimeError(f"{words[-3:]} ended with code {process.returncode}")
                time.sleep(0.002)
            took_s = time.perf_counter() - started_s
            if status != 200:
                raise RuntimeError(f"the page is answered with {status}")
            return took_s
        finally:
            process.terminate()
            process.wait(30)


def page_status(port: int) -> int | None:
    asked = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        asked.request("GET", "/")
        answer = asked.getresponse()
        answer.read()
    except OSError:
        return None
    finally:
        asked.close()
    return answer.status


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    main()
