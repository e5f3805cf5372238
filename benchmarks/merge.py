"""Merging full-size models into a file, beside a plain script that loads all, adds and saves.

    python benchmarks/merge.py [--model sd15 | sdxl] [--rounds 3] [--one-file] [--folder DIR] [--json]
    python benchmarks/merge.py --methods [NAME …] [--model …] [--folder DIR] [--json]

SD1.5 is a weighted sum of two models (2 × 2.1 GB), SDXL a triple sum of three (3 × 6.9 GB), all of random fp16 weights.
Each run is a process of its own, one after the other in turns; its imports are not counted, and the inputs are in the
page cache as far as it holds them. *plain*: `safetensors.torch.load_file` for each, the sum, `save_file`. *synced*: the
same, and the file brought to the disk, as *hayate* does. *hayate*: `write_merge` without the hashes of the metadata,
which a cache usually has. *memory* is the highest RssAnon, so without the page cache and mapped files, read every 2 ms.
`--methods` measures *hayate* alone, once, for each of METHODS: those that need whole tensors take more memory.
With `--one-file` all inputs are names of one file, for small disks; then all of them are in the page cache, too.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

RATIOS = {"sd15": (0.35,), "sdxl": (0.2, 0.3)}
WAYS = ("plain", "synced", "hayate")
METHODS = {
    "sum": "merge(A, B, 0.3)",
    "trainDifference": "add_difference(A, B, C, 0.7, calc=trainDifference)",
    "cosineA": "merge(A, B, 0.3, calc=cosineA)",
    "cosineB": "merge(A, B, 0.3, calc=cosineB)",
    "tensor": "merge(A, B, 0.3, calc=tensor)",
    "tensor2": "merge(A, B, 0.3, calc=tensor2)",
    "extract": "add_difference(A, B, C, 0.3, calc=extract, beta=0.2)",
    "ties": "ties(A, B, C, 0.7)",
    "dare": "dare(A, B, C, 0.7)",
    "slerp": "slerp(A, B, 0.3)",
    "smoothAdd": "add_difference(A, B, C, 0.7, calc=smoothAdd)",
    "extract-lora": "",
}


def plain(inputs: list[Path], ratios: tuple[float, ...], out: Path) -> None:
    """What everybody writes first."""
    from safetensors.torch import load_file, save_file

    first, *others = (load_file(path) for path in inputs)
    merged = {}
    for name, tensor in first.items():
        merged[name] = tensor * (1 - sum(ratios))
        for ratio, other in zip(ratios, others, strict=True):
            merged[name] += ratio * other[name]
    save_file(merged, out)


def synced(inputs: list[Path], ratios: tuple[float, ...], out: Path) -> None:
    plain(inputs, ratios, out)
    with out.open("rb") as file:
        os.fsync(file.fileno())


def hayate(inputs: list[Path], ratios: tuple[float, ...], out: Path) -> None:
    method = "merge" if len(inputs) == 2 else "triple_sum"
    by_expression(f"{method}({', '.join('ABC'[: len(inputs)])}, {', '.join(map(str, ratios))})", inputs, out)


def by_expression(text: str, inputs: list[Path], out: Path) -> None:
    from hayate.engines.blending import blend_once
    from hayate.weights.merge import open_merge
    from hayate.weights.merge_file import write_merge
    from hayate.weights.merge_recipe import parse_recipe

    files = {letter: inputs[index % len(inputs)] for index, letter in enumerate("ABC")}
    with open_merge(parse_recipe(text), files.__getitem__, files.__getitem__, blend_once) as merge:
        write_merge(merge, out)


def by_method(name: str, inputs: list[Path], out: Path) -> None:
    """Of two models, C is A again: what a method costs does not depend on its numbers."""
    from hayate.weights.lora_make import extract_lora, write_lora
    from hayate.weights.merge_inputs import source_of
    from hayate.weights.read import open_checkpoint

    if name != "extract-lora":
        return by_expression(METHODS[name], inputs, out)
    with open_checkpoint(inputs[0]) as a, open_checkpoint(inputs[1]) as b:
        return write_lora(extract_lora(source_of(a), source_of(b), rank=32), out, torch.float16)


_RUNS: Mapping[str, Callable[[list[Path], tuple[float, ...], Path], None]] = {
    "plain": plain,
    "synced": synced,
    "hayate": hayate,
}


def one_run(run: Callable[[], None]) -> dict[str, float]:
    """In the child: seconds, and the highest memory of its own in bytes."""
    import safetensors.torch  # noqa: F401

    import hayate.engines.blending
    import hayate.weights.merge  # noqa: F401

    peak, is_done = anonymous_bytes(), threading.Event()

    def watch() -> None:
        nonlocal peak
        while not is_done.wait(0.002):
            peak = max(peak, anonymous_bytes())

    watcher = threading.Thread(target=watch, daemon=True)
    imported = peak
    watcher.start()
    started, started_cpu = time.perf_counter(), time.process_time()
    run()
    seconds, cpu = time.perf_counter() - started, time.process_time() - started_cpu
    is_done.set()
    watcher.join()
    return {"seconds": seconds, "cpu_seconds": cpu, "peak_bytes": peak, "imported_bytes": imported}


def anonymous_bytes() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return 1024 * int(line.split()[1])
    raise SystemExit("this system does not tell RssAnon; the benchmark is for Linux")


def inputs_in(folder: Path, model: str, *, is_one_file: bool = False) -> list[Path]:
    """The models to merge, written unless they are there."""
    from hayate.bench.random_model import RANDOM_MODELS, shapes_of, write_random

    paths = [folder / f"{model}-{letter}.safetensors" for letter in "ABC"[: len(RATIOS[model]) + 1]]
    for seed, path in enumerate(paths):
        if not path.exists() and is_one_file and seed:
            path.hardlink_to(paths[0])
        elif not path.exists():
            write_random(path, shapes_of(RANDOM_MODELS[model]), seed=seed)
    return paths


def measure(model: str, folder: Path, rounds: int, *, is_one_file: bool) -> dict[str, Any]:
    paths = inputs_in(folder, model, is_one_file=is_one_file)
    os.sync()
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    out = folder / "merged.safetensors"
    for number in range(rounds):
        for way in WAYS[number % len(WAYS) :] + WAYS[: number % len(WAYS)]:
            for path in paths:
                read_through(path)
            found[way].append(in_child(way, model, folder))
            out.unlink()
            os.sync()
    one_bytes = paths[0].stat().st_size
    return {
        "model": model,
        "inputs": len(paths),
        "bytes": one_bytes,
        "rounds": rounds,
        "ways": found,
        "cpus": os.cpu_count(),
    }


def in_child(way: str, model: str, folder: Path) -> dict[str, float]:
    words = [sys.executable, __file__, "--child", way, "--model", model, "--folder", str(folder)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure_methods(names: list[str], model: str, folder: Path, as_json: bool) -> None:
    paths = inputs_in(folder, model)
    one_bytes = paths[0].stat().st_size
    for name in names:
        run = in_child(name, model, folder)
        (folder / "merged.safetensors").unlink()
        share = run["peak_bytes"] / one_bytes
        own = (run["peak_bytes"] - run["imported_bytes"]) / one_bytes
        if as_json:
            print(
                json.dumps({"model": model, "method": name, "bytes": one_bytes, "share_of_model": share} | run),
                flush=True,
            )
        else:
            says = f"{run['seconds']:7.1f} s  cpu {run['cpu_seconds']:7.1f} s"
            print(f"  {name:16}{says}  memory {share:.0%} of one model, {own:.0%} of its own", flush=True)


def read_through(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        buffer = bytearray(1 << 24)
        while file.readinto(buffer):
            pass


def show(result: dict[str, Any]) -> None:
    print(f"{result['model']}: {result['inputs']} × {result['bytes'] / 1e9:.2f} GB, {result['rounds']} rounds")
    for way, runs in result["ways"].items():
        seconds = [run["seconds"] for run in runs]
        peak = max(run["peak_bytes"] for run in runs)
        ratios = [
            plain_run["seconds"] / run["seconds"] for plain_run, run in zip(result["ways"]["plain"], runs, strict=True)
        ]
        print(
            f"  {way:7} {statistics.median(seconds):6.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"
            f"  cpu {statistics.median(run['cpu_seconds'] for run in runs):6.2f} s"
            f"  memory {peak / 1e9:5.2f} GB = {peak / result['bytes']:.0%} of one model"
            f"  {statistics.median(ratios):.2f}× plain's speed ({min(ratios):.2f} to {max(ratios):.2f})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="measure merging full-size models")
    parser.add_argument("--model", choices=tuple(RATIOS), default="sd15")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one-file", action="store_true", help="the inputs are one file by several names")
    parser.add_argument("--folder", type=Path, help="where the models are kept; by default they are removed again")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument("--methods", nargs="*", choices=tuple(METHODS), help="measure these alone; all by default")
    parser.add_argument("--child", choices=(*WAYS, *METHODS), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        paths, out = inputs_in(asked.folder, asked.model), asked.folder / "merged.safetensors"
        if asked.child in METHODS:
            print(json.dumps(one_run(lambda: by_method(asked.child, paths, out))))
        else:
            print(json.dumps(one_run(lambda: _RUNS[asked.child](paths, RATIOS[asked.model], out))))
        return
    if asked.methods is not None:
        with tempfile.TemporaryDirectory(prefix="hayate-merge-") as temporary:
            measure_methods(asked.methods or list(METHODS), asked.model, asked.folder or Path(temporary), asked.json)
        return
    with tempfile.TemporaryDirectory(prefix="hayate-merge-") as temporary:
        result = measure(asked.model, asked.folder or Path(temporary), asked.rounds, is_one_file=asked.one_file)
    print(json.dumps(result, indent=1)) if asked.json else show(result)


if __name__ == "__main__":
    main()
