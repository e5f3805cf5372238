"""What each approximate method gains and costs: speed, distance from the exact picture, and a judge's opinion.

    python benchmarks/approximate.py [--prompts 100] [--rounds 7] [--json FILE] [--only pictures speed step]

Pictures: held-out prompts of the built-in model, 20 steps of DPM++ 2M at guidance 7, one picture each; PSNR against the
exact picture of the same seed, and the share of attributes that the judge of docs/demo-model.md finds right. Speed: the
sampling of one prompt, exact and approximate in turns. Step: one evaluation of full-size SD1.5 at 512×512 with random
weights, prepared as a plan does it, in turns too. A ratio is the median of the rounds' ratios, with lowest and highest.
The Markdown table goes to standard output.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "training"))
sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import torch
from budget import pixels_to_signal
from evaluate import FIRST_SEED, PROMPT_SEED, Painter
from export import TARGET
from judge import load_judge, verdicts
from sample import held_out_prompts
from torch import Tensor
from world import CLASSES, labels

from benchmarks.step import random_network
from hayate.bench.machine import fingerprint
from hayate.engines.reuse import DeepFeatures
from hayate.models.config import SD1
from hayate.models.unet import UNet
from hayate.pipeline.guards import Guard
from hayate.pipeline.job import Job
from hayate.pipeline.noise import resolve_source
from hayate.pipeline.resolve import resolve
from hayate.pipeline.text2image import text2image
from hayate.request import TextToImage
from hayate.runtime.approximate import EXACT, Approximate
from hayate.runtime.attention.choose import choose_attention
from hayate.runtime.device import resolve_device
from hayate.runtime.merging import TokenMerging, set_merging
from hayate.runtime.prepare import Preparation, prepare, set_attention

METHODS: dict[str, Approximate] = {
    "--guidance-interval 0.3,15": Approximate(guidance_interval=(0.3, 15.0)),
    "--guidance-interval 1,15": Approximate(guidance_interval=(1.0, 15.0)),
    "--guidance-interval 0.3,5": Approximate(guidance_interval=(0.3, 5.0)),
    "--s-min-uncond 1": Approximate(s_min_uncond=1.0),
    "--s-min-uncond 4": Approximate(s_min_uncond=4.0),
    "--deepcache 2": Approximate(deepcache=2),
    "--deepcache 3": Approximate(deepcache=3),
    "--deepcache 5": Approximate(deepcache=5),
    "--tome 0.25": Approximate(tome=0.25),
    "--tome 0.5": Approximate(tome=0.5),
    "--guidance-interval 0.3,15 --deepcache 2": Approximate(guidance_interval=(0.3, 15.0), deepcache=2),
}
SAME_DB = 99.0
"""What stands for the distance of two equal pictures."""


@dataclass(frozen=True, slots=True)
class Bench:
    """The built-in model, and what draws with it by a method."""

    painter: Painter

    def job(self, prompt: str, number: int, methods: Approximate) -> Job:
        request = TextToImage(prompt=prompt, cfg=7, steps=20, seed=FIRST_SEED + number)
        job = resolve(request, self.painter.settings, self.painter.config)
        source = resolve_source(job.noise_source, self.painter.engine.device)
        return job.with_noise_source(*source).with_approximate(methods)

    def draw(self, prompt: str, number: int, methods: Approximate) -> tuple[np.ndarray, float]:
        """One picture, and the seconds of its sampling; a method that did not act ends the run."""
        merging = TokenMerging(methods.tome) if methods.tome else None
        guard = Guard(engine=self.painter.engine.merging_by(merging))
        [batch] = text2image(guard, self.job(prompt, number, methods), lambda *_: None)
        evidence = [*guard.acted.evidence(methods), *([merging.evidence()] if merging else [])]
        assert all(each.active for each in evidence), evidence
        return batch.pictures[0], batch.phases.sample_s


def pictures(bench: Bench, prompts: list[str], truth: np.ndarray) -> dict[str, Any]:
    """PSNR and the judge's share for each method, and for the exact pictures."""
    judge, exact = load_judge(), None
    result: dict[str, Any] = {}
    for name, methods in {"exact": EXACT, **METHODS}.items():
        drawn = np.stack([bench.draw(prompt, number, methods)[0] for number, prompt in enumerate(prompts)])
        found = verdicts(judge, pixels_to_signal(torch.from_numpy(drawn))).numpy()
        shares = dict(zip(CLASSES, (found == truth).mean(axis=0).round(4).tolist(), strict=True))
        result[name] = {"right": shares, "all_right": float((found == truth).mean())}
        exact = drawn if exact is None else exact
        if methods != EXACT:
            levels = psnr(drawn, exact)
            result[name]["psnr_db"] = {"mean": float(levels.mean()), "lowest": float(levels.min())}
        print(name, result[name], file=sys.stderr, flush=True)
    return result


def psnr(pictures: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Shapes: two of [B, H, W, 3] uint8 → [B], in dB."""
    error = ((pictures.astype(np.float64) - others) ** 2).mean(axis=(1, 2, 3))
    return np.where(error > 0, 10 * np.log10(255**2 / np.maximum(error, 1e-12)), SAME_DB)


def speed(bench: Bench, prompts: list[str], rounds: int) -> dict[str, Any]:
    """The exact sampling's seconds over each method's, in turns."""
    return {
        name: turns(
            lambda number: bench.draw(prompts[number % len(prompts)], number, EXACT)[1],
            lambda number, methods=methods: bench.draw(prompts[number % len(prompts)], number, methods)[1],
            rounds,
        )
        for name, methods in METHODS.items()
    }


def turns(exact: Callable[[int], float], other: Callable[[int], float], rounds: int) -> dict[str, Any]:
    """Ratios of A B A B, after one of each that does not count."""
    exact(0), other(0)
    seconds = [(exact(number), other(number)) for number in range(rounds)]
    ratios = [first / second for first, second in seconds]
    return {"ratio": statistics.median(ratios), "range": [min(ratios), max(ratios)], "seconds": seconds}


@torch.inference_mode()
def step(rounds: int) -> dict[str, Any]:
    """Seconds of one full-size evaluation by what it is spared, in turns with the exact one."""
    dtype = torch.bfloat16
    unet = random_network(UNet, SD1.unet, dtype)
    chosen = choose_attention(None, resolve_device("cpu"), dtype, {40, 80, 160})
    prepare(unet, Preparation(is_fused=True, is_packed=True))
    set_attention(unet, chosen.attention)
    x, context = torch.randn(2, 4, 64, 64).to(dtype), torch.randn(2, 77, 768).to(dtype)
    times, contexts = unet.project_times(torch.tensor([500.0]), None, dtype), unet.project_context(context)
    features = DeepFeatures(deep=unet.step_whole(x, times, contexts)[1])

    def merged(ratio: float) -> Tensor:
        set_merging(unet, TokenMerging(ratio))
        try:
            return unet.step(x, times, contexts)
        finally:
            set_merging(unet, None)

    assert features.deep is not None
    deep = features.deep
    spared: dict[str, Callable[[], object]] = {
        "without the negative prompt": lambda: unet.step(x[:1], times, [context[:1] for context in contexts]),
        "with another's deep features": lambda: unet.step_shallow(x, times, contexts, deep),
        "25 % of tokens merged": lambda: merged(0.25),
        "50 % of tokens merged": lambda: merged(0.5),
    }
    return {
        name: turns(lambda _: timed(lambda: unet.step(x, times, contexts)), lambda _, do=do: timed(do), rounds)
        for name, do in spared.items()
    }


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def table(result: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = []
    if "pictures" in result:
        lines += [
            "| Setting | Sampling, times as fast | PSNR, mean (lowest) | Judge, all attributes | The worst attribute |",
            "|---|---|---|---|---|",
        ]
        for name, row in result["pictures"].items():
            worst = min(row["right"], key=row["right"].__getitem__)
            distance = f"{row['psnr_db']['mean']:.1f} ({row['psnr_db']['lowest']:.1f}) dB" if "psnr_db" in row else "–"
            title = name if name == "exact" else f"`{name}`"
            judged = f"{row['all_right']:.1%} | {worst} {row['right'][worst]:.0%}"
            lines.append(f"| {title} | {ratio(result.get('speed', {}).get(name))} | {distance} | {judged} |")
    if "step" in result:
        lines += ["", "| One evaluation of full-size SD1.5 | Times as fast |", "|---|---|"]
        lines += [f"| {name} | {ratio(row)} |" for name, row in result["step"].items()]
    return "\n".join(lines)


def ratio(row: dict[str, Any] | None) -> str:
    return "1" if row is None else f"{row['ratio']:.2f} ({row['range'][0]:.2f}–{row['range'][1]:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description="what approximate methods gain and cost")
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--only", nargs="+", choices=("pictures", "speed", "step"), default=["pictures", "speed", "step"]
    )
    parser.add_argument("--json", type=Path, help="write the results there; sections of before are kept")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    result: dict[str, Any] = {}
    if options.json and options.json.exists():
        result = json.loads(options.json.read_text())
    result |= {"machine": fingerprint(), "threads": options.threads}
    landscapes, prompts = held_out_prompts(options.prompts, PROMPT_SEED)
    truth = np.stack([labels(landscape) for landscape in landscapes])
    bench = Bench(Painter(TARGET))
    sections: dict[str, Callable[[], dict[str, Any]]] = {
        "pictures": lambda: pictures(bench, prompts, truth),
        "speed": lambda: speed(bench, prompts, options.rounds),
        "step": lambda: step(options.rounds),
    }
    for name in options.only:
        result[name] = sections[name]()
        if name == "pictures":
            result["prompts"] = options.prompts
        if options.json:
            options.json.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
