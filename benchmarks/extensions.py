"""What installed extensions cost: the page's start and a whole `hayate generate`, with and without them, in turns.

Each turn starts every case once, in a new process: without extensions, with 30 that are installed and disabled, with 30
that are enabled and act on nothing that is asked for, and with one that hangs for 20 s when it is imported. The time is
from the start of the process to the answer to GET /, or to the end of the command; beside it stands the processor time
until then, which a busy machine changes less. Bound: 30 disabled ones within 5 % of none.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from benchmarks.serve import free_port, page_status

ROOT = Path(__file__).resolve().parent.parent
COUNT = 30
BOUND = 1.05
SERVE = (sys.executable, "-m", "tests.server.serve_stub", "--port", "{port}")
"""The server without the worker beside it, which takes the processor that is measured here."""
GENERATE = (sys.executable, "-P", "-m", "hayate", "generate", "a lake", "--steps", "1", "--size", "64x64")
MANIFEST = """name = "{name}"
version = "1.0.0"
summary = "One of many"

[hooks.{kind}]
"{name}" = "work:act"

[[controls]]
key = "strength"
kind = "slider"
default = 0.5
low = 0.0
high = 1.0
label = {{ en = "Strength", ja = "強さ" }}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Took:
    """One start."""

    wall_s: float
    cpu_s: float


def main() -> None:
    """Prints each case's median with its range, and its ratio to the start without extensions in the same turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cases = make_cases(Path(folder))
        found = {name: measure(command, cases, options.runs) for name, command in COMMANDS.items()}
    if options.json:
        rows = {what: {case: list(map(asdict, took)) for case, took in rows.items()} for what, rows in found.items()}
        sys.stdout.write(json.dumps(rows) + "\n")
        return
    for what, rows in found.items():
        for case, took in rows.items():
            pairs = list(zip(took, rows["none"], strict=True))
            wall = [each.wall_s / base.wall_s for each, base in pairs]
            cpu = [each.cpu_s / base.cpu_s for each, base in pairs]
            seconds = _spread([each.wall_s for each in took])
            sys.stdout.write(f"{what:<9} {case:<22} {seconds} s   ratio {_spread(wall)}   of the CPU {_spread(cpu)}\n")
        ratio = statistics.median(a.cpu_s / b.cpu_s for a, b in zip(rows["30 disabled"], rows["none"], strict=True))
        verdict = "within" if ratio <= BOUND else "NOT within"
        sys.stdout.write(f"{what}: 30 disabled extensions take {ratio:.3f} of the CPU, {verdict} {BOUND}\n")


def make_cases(folder: Path) -> dict[str, Mapping[str, str]]:
    """The environment of each case."""
    cases: dict[str, Mapping[str, str]] = {}
    for name, count, are_on in (("none", 0, True), ("30 disabled", COUNT, False), ("30 enabled", COUNT, True)):
        cases[name] = _case(folder / name.replace(" ", "-"), count, are_on)
    cases["one that hangs"] = _case(folder / "hangs", 0, True)
    _write(folder / "hangs" / "extensions", "hangs", "import time; time.sleep(20)", kind="routes")
    return cases


def measure(command: Sequence[str], cases: Mapping[str, Mapping[str, str]], runs: int) -> dict[str, list[Took]]:
    """Every case once per turn; the first turn only warms the disk cache."""
    took: dict[str, list[Took]] = {name: [] for name in cases}
    for turn in range(runs + 1):
        for name, environment in cases.items():
            each = page(command, environment) if "{port}" in command else whole(command, environment)
            if turn:
                took[name].append(each)
    return took


def page(command: Sequence[str], environment: Mapping[str, str]) -> Took:
    """Until GET / is answered."""
    port = free_port()
    started_s = time.perf_counter()
    process = subprocess.Popen(
        [word.replace("{port}", str(port)) for word in command],
        cwd=ROOT,
        env=_environment(environment),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while page_status(port) is None:
            if process.poll() is not None:
                raise RuntimeError(f"the server ended with code {process.returncode}")
            time.sleep(0.002)
        times = psutil.Process(process.pid).cpu_times()
        return Took(wall_s=time.perf_counter() - started_s, cpu_s=times.user + times.system)
    finally:
        process.terminate()
        process.wait(30)


def whole(command: Sequence[str], environment: Mapping[str, str]) -> Took:
    """Until the command has ended."""
    before, started_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, cwd=ROOT, env=_environment(environment), check=True, capture_output=True)
    wall_s, after = time.perf_counter() - started_s, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Took(wall_s=wall_s, cpu_s=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


COMMANDS = {"page": SERVE, "generate": GENERATE}


def _case(folder: Path, count: int, are_on: bool) -> Mapping[str, str]:
    extensions, data = folder / "extensions", folder / "data"
    extensions.mkdir(parents=True)
    data.mkdir()
    names = [f"extension-{number:02}" for number in range(count)]
    for name in names:
        _write(extensions, name, "import json, http.client, email\ndef act(texts, call): return texts\n")
    (data / "extensions.json").write_text(json.dumps({"disabled": [] if are_on else names, "installed": {}}))
    places = {"EXTENSIONS_DIR": extensions, "DATA_DIR": data, "OUTPUTS_DIR": folder / "outputs"}
    return {f"HAYATE_{key}": str(place) for key, place in places.items()}


def _write(folder: Path, name: str, code: str, kind: str = "prompts") -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "extension.toml").write_text(MANIFEST.format(name=name, kind=kind), encoding="utf-8")
    (folder / name / "work.py").write_text(code, encoding="utf-8")


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    return {**os.environ, "PYTHONPATH": paths, **more}


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    main()
