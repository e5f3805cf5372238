"""Seconds of a U-Net step and a VAE decode, full-size SD1.5 at 512×512 with guidance, beside diffusers.

    python benchmarks/step.py [--dtype bf16] [--rounds 5] [--json FILE]

Every contender is a process of its own that has loaded its networks; after one run of each they take turns, A B A B, so
that whatever slows the machine slows all. Weights are random, of the true architecture, 2 GB for each contender in
bf16. A figure is the median of the rounds with the lowest and the highest, a ratio the median of the rounds' ratios.
It needs the test extras.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.turns import Contender, say, serve, take_turns
from hayate.bench.machine import fingerprint

CONTENDERS = ("hayate", "eager", "diffusers", "diffusers-last")
"""Hayate as it is by itself; Hayate's networks in plain PyTorch; diffusers, contiguous and channels-last."""
TASKS = ("step", "decode")


def measure(names: list[str], tasks: list[str], dtype: str, *, rounds: int, threads: int) -> dict:
    """All rounds of all contenders, their medians, and the ratios to the best of diffusers."""
    contenders = [Contender(name, command(name, dtype, threads)) for name in names]
    seconds = take_turns(contenders, tasks, rounds)
    about = {contender.name: contender.end() for contender in contenders}
    result: dict = {
        "machine": fingerprint(),
        "dtype": dtype,
        "threads": threads,
        "rounds": rounds,
        "seconds": seconds,
        "about": about,
    }
    for task in tasks:
        medians = {name: statistics.median(seconds[name][task]) for name in names}
        best = min((name for name in names if name.startswith("diffusers")), key=medians.__getitem__)
        ratios = [own / their for own, their in zip(seconds["hayate"][task], seconds[best][task], strict=True)]
        spread = [min(ratios), max(ratios)]
        result[task] = {"median_s": medians, "best": best, "ratio": statistics.median(ratios), "ratio_range": spread}
    return result


def command(name: str, dtype: str, threads: int) -> list[str]:
    return [sys.executable, __file__, "--only", name, "--dtype", dtype, "--threads", str(threads)]


def contend(name: str, dtype_name: str, threads: int) -> None:
    """Loads one contender and serves its tasks until its input ends."""
    import torch

    from hayate.runtime.precision import DTYPES

    torch.set_num_threads(threads)
    started = time.perf_counter()
    load = load_diffusers if name.startswith("diffusers") else load_hayate
    with torch.inference_mode():
        tasks = load(name, DTYPES[dtype_name])
        say({"loaded_s": time.perf_counter() - started})
        serve(tasks)


def load_hayate(name: str, dtype) -> dict[str, Callable[[], object]]:
    import torch

    from hayate.models.config import SD1
    from hayate.models.unet import UNet
    from hayate.models.vae import AutoencoderKL
    from hayate.runtime.attention.choose import choose_attention
    from hayate.runtime.device import resolve_device
    from hayate.runtime.prepare import Preparation, prepare, set_attention

    unet, vae = random_network(UNet, SD1.unet, dtype), random_network(AutoencoderKL, SD1.vae, dtype)
    if name == "hayate":
        chosen = choose_attention(None, resolve_device("cpu"), dtype, {40, 80, 160})
        for network in (unet, vae):
            prepare(network, Preparation(is_fused=True, is_packed=True))
            set_attention(network, chosen.attention)
    x, context = torch.randn(2, 4, 64, 64).to(dtype), torch.randn(2, 77, 768).to(dtype)
    times, contexts = unet.project_times(torch.tensor([500.0]), None, dtype), unet.project_context(context)
    latents = torch.randn(1, 4, 64, 64).to(dtype)
    return {"step": lambda: unet.step(x, times, contexts), "decode": lambda: vae.decode(latents)}


def random_network(kind, config, dtype):
    import torch
    from torch import nn

    from hayate.models.layers import skeleton

    with skeleton():
        network = kind(config)
    for module in network.modules():
        for key, like in module.named_parameters(recurse=False):
            value = torch.randn(like.shape) / max(like[0].numel(), 16) ** 0.5
            module.register_parameter(key, nn.Parameter(value.to(dtype), requires_grad=False))
    return network.eval()


def load_diffusers(name: str, dtype) -> dict[str, Callable[[], object]]:
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch

    from hayate.models.config import SD1
    from tests.models.reference import reference_unet, reference_vae

    order = torch.channels_last if name.endswith("last") else torch.contiguous_format
    unet: Any = reference_unet(SD1.unet).to(dtype).to(memory_format=order)  # pyright: ignore[reportCallIssue]
    vae: Any = reference_vae(SD1.vae).to(dtype).to(memory_format=order)  # pyright: ignore[reportCallIssue]
    x, context = torch.randn(2, 4, 64, 64).to(dtype), torch.randn(2, 77, 768).to(dtype)
    latents, when = torch.randn(1, 4, 64, 64).to(dtype), torch.tensor(500.0)
    return {"step": lambda: unet(x, when, context).sample, "decode": lambda: vae.decode(latents).sample}


def table(result: dict) -> str:
    lines = []
    for task in (each for each in TASKS if each in result):
        row = result[task]
        low, high = row["ratio_range"]
        lines += [f"{task:7}{name:16}{median:7.2f} s" for name, median in row["median_s"].items()]
        lines.append(f"{task:7}hayate / {row['best']}: {row['ratio']:.2f} ({low:.2f}–{high:.2f})")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="time a step and a decode beside diffusers")
    parser.add_argument("--dtype", default="bf16", choices=("bf16", "fp32"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--json", type=Path, help="write every round there")
    parser.add_argument("--only", choices=CONTENDERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        contend(options.only, options.dtype, options.threads)
        return
    result = measure(options.contenders, options.tasks, options.dtype, rounds=options.rounds, threads=options.threads)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
