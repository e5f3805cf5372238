"""Time of a merge that is made in the resident model, beside reading its inputs once from the page cache.

    python benchmarks/merge_live.py [--size sd15] [--dtype bf16] [--layers plain] [--runs 7] [--folder FOLDER] [--json]

*mix*: another ratio, so that every tensor of the U-Net, the text encoder and the VAE is made anew where it stands.
*block*: another weight of one block (IN04), which makes that block's tensors only. *load*: the merge made in networks
that are built for it, as the first time. *read*: both files once, 16 MiB at a time into memory that is there already.
The ways alternate in one process, so the files are in the page cache for all of them. With `--layers packed`, as a plan
chooses on a CPU that has the kernels, every weight is laid out anew as well after it was made.

Two files of random fp16 weights are written where they are not there yet, 4.3 GB for SD1.5; without `--folder` they are
taken away at the end. On a CPU in 16 bits some 5 GB of memory are needed beyond the page cache.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from hayate.bench.random_model import RANDOM_MODELS, shapes_of, write_random
from hayate.engines.networks import loaders_for
from hayate.engines.store import ModelStore
from hayate.runtime.precision import Precision, resolve_precision
from hayate.runtime.prepare import PLAIN, Preparation
from hayate.weights.merged import ModelSource, find_source

RATIO_BOUND = 1.5
CPU = torch.device("cpu")
LAYERS = {"plain": PLAIN, "packed": Preparation(is_fused=True, is_packed=True)}
_LIMIT_BYTES = 2**40
_BUFFER_BYTES = 1 << 24


def measure(files: tuple[Path, Path], precision: Precision, layers: str, runs: int) -> dict:
    """Every run, in seconds, and what was evaluated."""
    store = ModelStore(_LIMIT_BYTES, _LIMIT_BYTES, loaders=loaders_for(LAYERS[layers]))
    folder, names = files[0].parent, [path.stem for path in files]

    def take(ratio: float, block: float | None = None) -> None:
        weights = "" if block is None else f', mbw="IN04={block}"'
        store.engine(_merge(f"merge({names[0]}, {names[1]}, {ratio}{weights})", folder), CPU, precision)

    buffer = bytearray(_BUFFER_BYTES)
    take(0.5)
    rows, said = [], {}
    for run in range(1, runs + 1):
        row = {"read": _timed(lambda: _read(files, buffer))}
        ratio = 0.5 + run / 100
        row["mix"] = _timed(lambda ratio=ratio: take(ratio))
        said["mix"] = _said(store)
        row["block"] = _timed(lambda ratio=ratio: take(ratio, 0.9))
        said["block"] = _said(store)
        rows.append(row)
    store.clear()
    load_s = _timed(lambda: take(0.25))
    ratios = sorted(row["mix"] / row["read"] for row in rows)
    medians = {way: statistics.median(row[way] for row in rows) for way in ("read", "mix", "block")}
    return {
        **{f"{way}_s": value for way, value in medians.items()},
        "load_s": load_s,
        "ratio": statistics.median(ratios),
        "ratio_range": [ratios[0], ratios[-1]],
        "ratio_bound": RATIO_BOUND,
        "said": said,
        "runs": rows,
    }


def _merge(recipe: str, folder: Path) -> ModelSource:
    return find_source(recipe, folder)


def _read(files: tuple[Path, Path], buffer: bytearray) -> None:
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def _said(store: ModelStore) -> str:
    return next(each.detail for each in store.evidence() if each.name == "merge")


def _timed(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description="measure merges that are made in the resident model")
    parser.add_argument("--size", default="sd15", choices=tuple(RANDOM_MODELS))
    parser.add_argument("--dtype", default="bf16", choices=("fp32", "fp16", "bf16"))
    parser.add_argument("--layers", default="plain", choices=tuple(LAYERS))
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where the two files are, or are to be kept")
    parser.add_argument("--json", action="store_true", help="print all runs as JSON")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="merge-live-") as temporary:
        folder = asked.folder or Path(temporary)
        files = (folder / f"{asked.size}-a.safetensors", folder / f"{asked.size}-b.safetensors")
        for seed, path in enumerate(files):
            if not path.exists():
                write_random(path, shapes_of(RANDOM_MODELS[asked.size]), seed=seed)
        found = measure(files, resolve_precision(asked.dtype, CPU), asked.layers, asked.runs)
    found |= {"size": asked.size, "dtype": asked.dtype, "layers": asked.layers, "threads": torch.get_num_threads()}
    if asked.json:
        sys.stdout.write(json.dumps(found) + "\n")
        return
    low, high = found["ratio_range"]
    sys.stdout.write(
        f"{asked.size} {asked.dtype}, {asked.layers} layers, {found['threads']} threads: read {found['read_s']:.2f} s, "
        f"mix {found['mix_s']:.2f} s, block {found['block_s']:.2f} s, load {found['load_s']:.2f} s\n"
        f"mix / read {found['ratio']:.2f} ({low:.2f}–{high:.2f}, bound {RATIO_BOUND})\n"
    )
    for way, detail in found["said"].items():
        sys.stdout.write(f"{way}: {detail}\n")


if __name__ == "__main__":
    main()
