"""Hayate and other programs in turns: seconds of a step and a decode of full-size SD1.5 at 512×512.

    python -m benchmarks.competitors [NAME …] [--dtype bf16] [--rounds 5] [--python NAME=PATH …]

Hayate is always among them; without names, all that are installed. A program in a virtual environment of its own is
given by `--python`. All are loaded at once: SD1.5 takes 3 to 5 GB for each in bf16, 5 to 10 GB in fp32. The weights are
random ones of the true architecture, written and converted once into `--work`. Results go to
benchmarks/results/competitors-<dtype>.json; `python -m benchmarks.competitors.leaderboard` makes the table of them.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.competitors.base import TASKS, Job
from benchmarks.competitors.serve import NAMES, competitor
from benchmarks.turns import Contender, EndedEarly, take_turns
from hayate.bench.machine import fingerprint

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "benchmarks" / "results"
_FIND = "import importlib.util as u, sys; sys.exit(u.find_spec(sys.argv[1]) is None)"


def measure(names: Sequence[str], job: Job, pythons: Mapping[str, str], rounds: int) -> dict:
    """All rounds of all that could be started, and why others could not."""
    skipped = {name: reason for name in names if (reason := refusal(name, job.dtype, pythons))}
    contenders: list[Contender] = []
    for name in (each for each in names if each not in skipped):
        try:
            contenders.append(_start(name, job, pythons))
        except (EndedEarly, subprocess.CalledProcessError) as error:
            skipped[name] = f"it failed: {error}"
    try:
        seconds = take_turns(contenders, TASKS, rounds)
        rows = [_row(contender, seconds[contender.name]) for contender in contenders]
    finally:
        for contender in contenders:
            contender.stop()
    about = {"date": datetime.datetime.now(datetime.UTC).date().isoformat(), "machine": fingerprint()}
    work = {"dtype": job.dtype, "side_px": job.side_px, "threads": job.threads, "rounds": rounds}
    return about | work | {"contenders": rows, "skipped": skipped}


def refusal(name: str, dtype: str, pythons: Mapping[str, str]) -> str | None:
    """Why a program can't take part, or None."""
    chosen = competitor(name)
    if dtype not in chosen.dtypes:
        return f"it does not compute in {dtype} on processors"
    command = [pythons.get(name, sys.executable), "-c", _FIND, chosen.package]
    found = subprocess.run(command, env=_environment(), check=False, cwd=ROOT)
    return None if found.returncode == 0 else f"it is not installed: {chosen.install}"


def _start(name: str, job: Job, pythons: Mapping[str, str]) -> Contender:
    command = [pythons.get(name, sys.executable), "-m", "benchmarks.competitors.serve", name, job.to_json()]
    if competitor(name).prepare:
        subprocess.run([*command, "--prepare"], env=_environment(), check=True, cwd=ROOT)
    return Contender(name, command, _environment())


def _environment() -> dict[str, str]:
    paths = [str(ROOT / "src"), str(ROOT), os.environ.get("COMFYUI_DIR", ""), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def _row(contender: Contender, seconds: Mapping[str, Sequence[float]]) -> dict:
    about = {"name": contender.name, **contender.ready, "start_s": contender.start_s, "seconds": seconds}
    return about | contender.end()


def table(result: dict) -> str:
    lines = [f"{name} was left out: {reason}" for name, reason in result["skipped"].items()]
    for row in result["contenders"]:
        medians = "".join(f"{task:>8} {statistics.median(row['seconds'][task]):7.2f} s" for task in TASKS)
        lines.append(f"{row['name']:12}{medians}   {row['setting']}")
    return "\n".join(lines)


def checkpoint(folder: Path) -> Path:
    """The file of random weights, written the first time."""
    from hayate.bench.random_model import shapes_of, write_random
    from hayate.models.config import SD1

    file = folder / "sd15-random.safetensors"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_random(file, shapes_of(SD1))
    return file


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="time Hayate beside other programs")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES[1:]))
    parser.add_argument("--dtype", default="bf16", choices=("bf16", "fp32"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument(
        "--python", action="append", default=[], metavar="NAME=PATH", help="the interpreter of a program"
    )
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "hayate-competitors")
    parser.add_argument("--side-px", type=int, default=512, help="less for a trial, which is written by --json alone")
    parser.add_argument("--json", type=Path, help="where the result goes, if not to benchmarks/results")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(NAMES)}")
    names = ["hayate", *(name for name in options.names or NAMES if name != "hayate")]
    work = options.work.resolve()
    job = Job(
        checkpoint=str(checkpoint(work)),
        folder=str(work),
        dtype=options.dtype,
        threads=options.threads,
        side_px=options.side_px,
    )
    result = measure(names, job, dict(each.split("=", 1) for each in options.python), options.rounds)
    is_trial = options.side_px != 512
    target = options.json or (None if is_trial else RESULTS / f"competitors-{options.dtype}.json")
    if target:
        target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(result))


if __name__ == "__main__":
    main()
