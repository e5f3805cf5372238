"""Time and memory of loading a checkpoint, against reading the same tensors with safetensors alone.

    python tests/make_sd15_file.py sd15.safetensors
    python benchmarks/load.py sd15.safetensors [--rounds 7] [--json]

`safetensors`: `safe_open` and `get_tensor` for every tensor. `hayate`: parse and check the header, detect the
architecture, build the networks, and assign every tensor. *map*: until every tensor is there. *touch*: and one byte of
every page has been read, so that the whole file has gone through this process's memory. Every run is a new process that
has already imported what it needs; the file is in the page cache; the two alternate. On a busy machine the processor's
clock (*cpu*, the kernel's work for the page cache included) is the steadier one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

READERS = ("safetensors", "hayate")
CLOCKS = ("wall_s", "cpu_s")
TIME_BOUND = 1.5
MEMORY_BOUND = 1.3
_PAGE_BYTES = 4096


def measure(path: Path, rounds: int) -> dict[str, object]:
    """All runs, and the two ratios that the bounds are about."""
    _warm(path)
    runs = [
        {"reader": reader, "touches": touches} | _run(path, reader, touches)
        for touches in (False, True)
        for _ in range(rounds)
        for reader in READERS
    ]
    size_bytes = path.stat().st_size
    peak_bytes = max(run["peak_bytes"] for run in runs if run["reader"] == "hayate")
    return {
        "file_bytes": size_bytes,
        "map": _compare(runs, touches=False),
        "touch": _compare(runs, touches=True),
        "time_bound": TIME_BOUND,
        "peak_bytes": peak_bytes,
        "peak_to_file": peak_bytes / size_bytes,
        "memory_bound": MEMORY_BOUND,
        "runs": runs,
    }


def _compare(runs: list[dict], *, touches: bool) -> dict[str, object]:
    """For each clock: median seconds of each reader, and the ratio of neighbouring runs as median, lowest, highest."""
    result = {}
    for clock in CLOCKS:
        ours, theirs = (
            [run[clock] for run in runs if run["touches"] is touches and run["reader"] == reader]
            for reader in ("hayate", "safetensors")
        )
        ratios = [our / their for our, their in zip(ours, theirs, strict=True)]
        result[clock] = {
            "hayate": statistics.median(ours),
            "safetensors": statistics.median(theirs),
            "ratio": statistics.median(ratios),
            "ratio_range": [min(ratios), max(ratios)],
        }
    return result


def _warm(path: Path) -> None:
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass


def _run(path: Path, reader: str, touches: bool) -> dict:
    command = [sys.executable, __file__, str(path), "--only", reader, *(["--touch"] if touches else [])]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def run_once(path: Path, reader: str, touches: bool) -> dict[str, float]:
    """One reading in this process: its seconds by both clocks, and the process's highest resident memory."""
    read = _prepare_hayate() if reader == "hayate" else _prepare_safetensors()
    wall, cpu = time.perf_counter(), time.process_time()
    kept = list(read(path))
    if touches:
        _touch(kept)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"wall_s": wall, "cpu_s": cpu, "peak_bytes": _peak_bytes()}


def _prepare_safetensors() -> Callable[[Path], Iterable]:
    import torch  # noqa: F401 (safetensors would import it on first use)
    from safetensors import safe_open

    def read(path: Path) -> Iterable:
        with safe_open(path, framework="pt") as file:
            return [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118 (it is no mapping)

    return read


def _prepare_hayate() -> Callable[[Path], Iterable]:
    from hayate.models.clip import text_encoder
    from hayate.models.layers import skeleton
    from hayate.models.unet import UNet
    from hayate.models.vae import AutoencoderKL
    from hayate.weights.detect import UNET_PREFIX, VAE_PREFIX, detect_checkpoint
    from hayate.weights.load import load_part
    from hayate.weights.read import open_checkpoint

    def read(path: Path) -> Iterable:
        with open_checkpoint(path) as checkpoint:
            config = detect_checkpoint(checkpoint)
            checkpoint.prefetch()
            with skeleton():
                parts = {UNET_PREFIX: UNet(config.unet), VAE_PREFIX: AutoencoderKL(config.vae)}
                parts |= {text.prefix: text_encoder(text) for text in config.text}
            for prefix, module in parts.items():
                load_part(module, checkpoint, prefix)
        return [parameter for module in parts.values() for parameter in module.parameters()]

    return read


def _touch(tensors: list) -> int:
    import torch

    views = (tensor.detach().reshape(-1).view(torch.uint8) for tensor in tensors)
    return sum(int(view[::_PAGE_BYTES].sum()) for view in views)


def _peak_bytes() -> int:
    """Highest resident memory of this process, pages of mapped files included."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _table(result: dict) -> str:
    lines = ["               hayate  safetensors  ratio  lowest–highest"]
    for kind, clock in itertools.product(("map", "touch"), CLOCKS):
        row = result[kind][clock]
        low, high = row["ratio_range"]
        times = f"{row['hayate']:7.3f} s {row['safetensors']:10.3f} s"
        lines.append(f"{kind:<6}{clock.removesuffix('_s'):<6}{times}  {row['ratio']:5.2f}       {low:.2f}–{high:.2f}")
    lines.append(f"bound on the ratio of touch: {result['time_bound']}")
    lines.append(f"peak memory / file: {result['peak_to_file']:.2f} (bound {result['memory_bound']})")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="measure the loading of a checkpoint")
    parser.add_argument("file", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="print all runs as JSON")
    parser.add_argument("--only", choices=READERS, help=argparse.SUPPRESS)
    parser.add_argument("--touch", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(run_once(arguments.file, arguments.only, arguments.touch)))
        return
    result = measure(arguments.file, arguments.rounds)
    print(json.dumps(result, indent=1) if arguments.json else _table(result))


if __name__ == "__main__":
    main()
