"""Steps per second on a GPU, beside diffusers: everything that the project claims there, in less than 9 minutes.

    python benchmarks/gpu.py [--json FILE] [--sections NAME …] [--dry-run]

Not yet run on a GPU. Stable Diffusion 1.5 at 512×512 and SDXL at 1024×1024 on full-size random weights, fp16, guidance
on; one picture and the best batch; eager, channels-last and fused, CUDA graphs, compiled (fullgraph), the repository's
own artefact; every attention backend; diffusers as its own guides make it fastest; SDXL on a simulated card of 8 GB.
Contenders take turns (A B A B); a figure is the median of the rounds with the lowest and the highest; ours come with
their error against fp32 eager. What must be compiled is compiled first, all at once, on the other cores.

Every section is a process of its own with a time limit: one that fails or is stopped loses nothing that it has told.
`--dry-run` goes through every kind of section on the CPU, with tiny networks and nothing compiled: its figures mean
nothing. Without a CUDA device it ends with status 2. It needs the test extras.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
TOTAL_S = 530
PREPARING = {
    f"prepare-{model}-{whose}": 230 for model in ("sdxl", "sd15") for whose in ("diffusers", "hayate", "artefact")
}
"""Side by side, with the seconds that each may take."""
MEASURING = {
    "steps-sd15": 80,
    "steps-sdxl": 110,
    "card": 60,
    "attention-sd15": 25,
    "attention-sdxl": 35,
    "batches-sd15": 80,
    "batches-sdxl": 110,
}
"""One after the other, the most wanted first: whatever the time does not suffice for comes last."""
TRIED = ("prepare-sd15-artefact", "prepare-sd15-hayate", "steps-sd15", "card", "attention-sdxl", "batches-sdxl")
"""Every kind of section once: a dry run, in one process."""
GOALS = {"sd15": (105.0, 150.0), "sdxl": (22.6, 30.0)}
"""Units: steps per second of one picture on an H200: the number to pass, and the aim."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one process."""

    sections: tuple[str, ...]
    rows: list[dict[str, Any]]
    ended: str
    """"well", "stopped after 80 s", "exit 1: the last line of its complaint"."""
    seconds: float


def run_process(
    command: Sequence[str], sections: Sequence[str], limit_s: float, environment: Mapping[str, str]
) -> Outcome:
    """Runs one process and gathers the rows that it prints; at its limit it is ended, with all that it started."""
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as complaint:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=complaint, text=True, env=environment, start_new_session=True
        )
        try:
            output, ended = process.communicate(timeout=limit_s)[0], ""
        except subprocess.TimeoutExpired:
            _kill(process)
            output, ended = process.communicate()[0], f"stopped after {limit_s:.0f} s"
        complaint.seek(0)
        last = (complaint.read().strip().splitlines() or ["no complaint"])[-1]
    if not ended:
        ended = f"exit {process.returncode}: {last}"[:400] if process.returncode else "well"
    rows = [row for row in map(_row, output.splitlines()) if row]
    return Outcome(sections=tuple(sections), rows=rows, ended=ended, seconds=time.monotonic() - started)


def _kill(process: subprocess.Popen[str]) -> None:
    if os.name == "posix":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)], capture_output=True, check=False)


def measure(sections: Sequence[str], *, is_dry: bool) -> list[Outcome]:
    """All sections that are asked for, within `TOTAL_S`."""
    deadline = time.monotonic() + TOTAL_S
    with tempfile.TemporaryDirectory() as cache:
        if is_dry:
            return [_section(sections, TOTAL_S, cache, is_dry=True)]
        needed = [name for name in PREPARING if f"steps-{name.split('-')[1]}" in sections]
        outcomes = _all_at_once(needed, cache)
        for name in sections:
            left_s = deadline - time.monotonic()
            if left_s < 10:
                outcomes.append(Outcome(sections=(name,), rows=[], ended="no time was left for it", seconds=0.0))
                continue
            outcomes.append(_section([name], min(MEASURING[name], left_s), cache, is_dry=False))
            print(f"{name}: {outcomes[-1].ended}, {outcomes[-1].seconds:.0f} s", file=sys.stderr, flush=True)
    return outcomes


def _all_at_once(names: Sequence[str], cache: str) -> list[Outcome]:
    outcomes: list[Outcome] = []
    threads = [
        threading.Thread(
            target=lambda name=name: outcomes.append(_section([name], PREPARING[name], cache, is_dry=False))
        )
        for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def _section(names: Sequence[str], limit_s: float, cache: str, *, is_dry: bool) -> Outcome:
    command = [
        sys.executable,
        __file__,
        "--only",
        ",".join(names),
        "--cache",
        cache,
        *(["--dry-run"] if is_dry else []),
    ]
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
        "TORCHINDUCTOR_CACHE_DIR": str(Path(cache) / "inductor"),
        "TORCHINDUCTOR_COMPILE_THREADS": "4",
    }
    return run_process(command, names, limit_s, environment)


def _row(line: str) -> dict[str, Any] | None:
    """A row, or None for what some library prints."""
    if not line.startswith("{"):
        return None
    try:
        return json.loads(line)
    except json.JSONDecodeError:  # the end of a process that was stopped
        return None


def table(outcomes: Sequence[Outcome]) -> str:
    """What a person reads: steps per second, the errors, what was refused and what failed."""
    lines = []
    for outcome in outcomes:
        lines += [line for row in outcome.rows if (line := _line(row))]
        if outcome.ended != "well":
            lines.append(f"{', '.join(outcome.sections)}: {outcome.ended}")
    return "\n".join(lines)


def _line(row: Mapping[str, Any]) -> str:
    who = (
        f"{row.get('section', ''):10}{row.get('model', ''):5} ×{row.get('images', 1):<3} {row.get('contender', ''):20}"
    )
    match row["kind"]:
        case "rate":
            goal, aim = GOALS[row["model"]]
            to_pass = f"   (to pass: {goal}, aim: {aim})" if row["images"] == 1 and row["section"] == "steps" else ""
            return f"{who}{row['it_per_s']:8.2f} it/s ({row['low']:.2f}–{row['high']:.2f}){to_pass}"
        case "error against fp32":
            return f"{who} relative error {row['relative']:.2e}"
        case "card":
            detail = row.get("failed") or f"{row['seconds']}, {row['evidence']}"
            return f"card      {row['offload']:10} peak {row.get('peak_bytes', 0) / 2**30:.2f} GiB, {detail}"
        case "failed" | "refused":
            return f"{who} {row['kind']}: {row['reason']}"
        case "plan" | "card equality" | "best batch":
            return json.dumps(row)
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description="measure the steps of a GPU beside diffusers")
    parser.add_argument("--json", type=Path, help="write every row there, by default below benchmarks/results/")
    parser.add_argument("--sections", nargs="+", choices=list(MEASURING), default=list(MEASURING))
    parser.add_argument("--dry-run", action="store_true", help="tiny networks on the CPU, for trying the script itself")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        from gpu_sections import run_sections

        run_sections(options.only.split(","), is_dry=options.dry_run, cache=options.cache)
        return
    import torch

    if not options.dry_run and not torch.cuda.is_available():
        print("benchmarks/gpu.py needs a CUDA device, and torch finds none here; try --dry-run", file=sys.stderr)
        raise SystemExit(2)
    from hayate.bench.machine import fingerprint

    sections = TRIED if options.dry_run else options.sections
    outcomes = measure(sections, is_dry=options.dry_run)
    print(table(outcomes))
    if options.json or not options.dry_run:
        target = options.json or ROOT / "benchmarks" / "results" / f"gpu-{time.strftime('%Y-%m-%d-%H%M')}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        ends = [{"sections": each.sections, "ended": each.ended, "seconds": each.seconds} for each in outcomes]
        rows = [row for each in outcomes for row in each.rows]
        result = {"is_dry_run": options.dry_run, "machine": fingerprint(), "processes": ends, "rows": rows}
        target.write_text(json.dumps(result, indent=1) + "\n")
        print(target)
    if any(each.ended != "well" for each in outcomes):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
