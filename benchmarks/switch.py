"""Time and memory of switching between two models that are kept in memory, against a plain copy of the same bytes.

    python tests/make_sd15_file.py a.safetensors --seed 1
    python tests/make_sd15_file.py b.safetensors --seed 2
    python benchmarks/switch.py a.safetensors b.safetensors [--dtype bf16] [--device cpu] [--switches 20] [--json]

*seat*: on a CPU a kept model is used where it is. *pour*: its weights are copied into networks that stand, which is the
way on GPUs and is measured on the CPU too. *touch*: then one byte of every page of every weight is read (CPU), so that
work which was only put off would show. *copy*: one block to another, of as many bytes as the model's weights have, to
the same device and from the same kind of memory. Both were written before; copies and switches alternate.

On a CPU with two full-size SD1.5 models in 16 bits, some 11 GB of memory are needed. GPUs: not yet run on one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch

from hayate.engines.cache import bytes_of
from hayate.engines.staging import stage
from hayate.engines.store import ModelStore
from hayate.engines.torch import TorchEngine
from hayate.models.config import SD1
from hayate.runtime.device import resolve_device
from hayate.runtime.precision import resolve_precision

RATIO_BOUND = 1.2
MEMORY_BOUND = 1.05
WARM_UP = 4
_LIMIT_BYTES = 2**40
_PAGE_BYTES = 4096


def measure(models: tuple[Path, Path], device: torch.device, dtype: str, *, switches: int, is_poured: bool) -> dict:
    """All runs of one way to switch, and what the bounds are about."""
    store = ModelStore(_LIMIT_BYTES, _LIMIT_BYTES, is_poured=is_poured)
    precision = resolve_precision(dtype, device)

    def switch(turn: int) -> TorchEngine:
        return store.engine(models[turn % 2], device, precision)

    for turn in range(WARM_UP):
        _touch(switch(turn))
        _wait_for_preparations()
    size_bytes = bytes_of(_modules(switch(WARM_UP)))
    copy = _plain_copy(size_bytes, device)
    runs = [_run(lambda turn=turn: switch(turn), copy) for turn in range(WARM_UP + 1, WARM_UP + 1 + switches)]
    evidence = [f"{each.name}: {each.detail}" for each in store.evidence() if each.active]
    store.clear()
    return _summary(runs, size_bytes) | {"evidence": evidence, "runs": runs}


def _run(switch: Callable[[], TorchEngine], copy: Callable[[], None]) -> dict[str, float]:
    copy_s, _ = _timed(copy)
    switch_s, engine = _timed(switch)
    touch_s, _ = _timed(lambda: _touch(engine))
    return {"copy_s": copy_s, "switch_s": switch_s, "touch_s": touch_s, "resident_bytes": _resident_bytes()}


def _summary(runs: list[dict[str, float]], size_bytes: int) -> dict:
    ratios = sorted(run["switch_s"] / run["copy_s"] for run in runs)
    resident = [run["resident_bytes"] for run in runs]
    return {
        "weights_bytes": size_bytes,
        **{f"{name}_s": statistics.median(run[f"{name}_s"] for run in runs) for name in ("copy", "switch", "touch")},
        "ratio": statistics.median(ratios),
        "ratio_range": [ratios[0], ratios[-1]],
        "ratio_bound": RATIO_BOUND,
        "memory_growth": max(resident) / resident[0],
        "memory_bound": MEMORY_BOUND,
    }


def _timed(work: Callable) -> tuple[float, object]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def _plain_copy(size_bytes: int, device: torch.device) -> Callable[[], None]:
    """A copy of one written block to another; to a GPU from page-locked memory."""
    source = torch.nn.Module()
    source.register_parameter("block", torch.nn.Parameter(torch.ones(size_bytes // 4), requires_grad=False))
    staged = stage([source], SD1, is_kept=device.type != "cpu")
    target = torch.zeros(size_bytes // 4, device=device)

    def copy() -> None:
        target.copy_(staged.tensors[0], non_blocking=True)
        if device.type != "cpu":
            torch.accelerator.synchronize(device)

    copy()
    return copy


def _modules(engine: TorchEngine) -> list[torch.nn.Module]:
    return [engine.unet, engine.vae, *engine.text]


def _touch(engine: object) -> int:
    """Reads one byte of every page of the weights that are in the host's memory."""
    assert isinstance(engine, TorchEngine)
    parameters = [each.detach() for module in _modules(engine) for each in module.parameters() if each.numel()]
    views = (each.reshape(-1).view(torch.uint8) for each in parameters if each.device.type == "cpu")
    return sum(int(view[::_PAGE_BYTES].sum()) for view in views)


def _wait_for_preparations() -> None:
    for thread in threading.enumerate():
        if thread.name == "prefetch-model":
            thread.join()


def _resident_bytes() -> int:
    if not sys.platform.startswith("linux"):
        return 1
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _row(way: str, result: dict) -> str:
    low, high = result["ratio_range"]
    times = "  ".join(f"{name} {1000 * result[f'{name}_s']:8.2f} ms" for name in ("copy", "switch", "touch"))
    grown = f"memory ×{result['memory_growth']:.3f} (bound {MEMORY_BOUND})"
    return f"{way}: {times}  ratio {result['ratio']:.4f} ({low:.4f}–{high:.4f}, bound {RATIO_BOUND})  {grown}"


def main() -> None:
    parser = argparse.ArgumentParser(description="measure switching between two models that are kept in memory")
    parser.add_argument("models", type=Path, nargs=2, metavar="FILE")
    parser.add_argument("--device")
    parser.add_argument("--dtype", default="bf16", choices=("fp32", "fp16", "bf16"))
    parser.add_argument("--switches", type=int, default=20)
    parser.add_argument("--json", action="store_true", help="print all runs as JSON")
    asked = parser.parse_args()
    device = resolve_device(asked.device).torch
    ways = {"seat": False, "pour": True} if device.type == "cpu" else {"pour": True}
    results = {
        way: measure(tuple(asked.models), device, asked.dtype, switches=asked.switches, is_poured=is_poured)
        for way, is_poured in ways.items()
    }
    about = {
        "torch": torch.__version__,
        "device": str(device),
        "dtype": asked.dtype,
        "threads": torch.get_num_threads(),
    }
    if asked.json:
        print(json.dumps(about | results, indent=1))
    else:
        print(", ".join(f"{name} {value}" for name, value in about.items()))
        print("\n".join(_row(way, result) for way, result in results.items()))


if __name__ == "__main__":
    main()
