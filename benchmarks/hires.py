"""Hires fix from 512×512 to 1024×1024 on full-size SD1.5: seconds of each phase and peak memory, beside diffusers.

    python benchmarks/hires.py [--dtype bf16] [--rounds 2] [--steps 3] [--json FILE]

Both do the same work with random weights of the true architecture: so many steps of Euler with guidance at 512×512,
the latents doubled ("Latent", bilinear), as many steps at 1024×1024 from strength 0.5, and the decode there. Hayate
runs its own passes behind its guard; diffusers its StableDiffusionPipeline and its Img2Img one, given the
prompt's embeddings, which it need not compute. Each contender is a process of its own, and they take turns. *peak* is
the most memory that the process had, with the weights, which diffusers' makes and Hayate's reads from a file.
It needs the test extras.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.turns import Contender, say, serve, take_turns
from hayate.bench.machine import fingerprint

CONTENDERS = ("hayate", "diffusers")
PHASES = ("first", "second", "decode")
SIZE_PX, STRENGTH = 512, 0.5
Tasks = Mapping[str, Callable[[], object]]


def load_hayate(folder: Path, dtype: str, steps: int) -> Tasks:
    """The two passes of a job, as `hayate generate --hires` runs them."""
    from hayate.bench.random_model import random_model
    from hayate.pipeline.cast import Cast
    from hayate.pipeline.decode import decode_latents
    from hayate.pipeline.prepared import prepare_request
    from hayate.pipeline.text2image import enlarge, sample, tell
    from hayate.pipeline.workspace import Workspace
    from hayate.request import Hires, TextToImage
    from hayate.settings import load_settings

    settings = load_settings({"cache_dir": folder}, environment={})
    request = TextToImage(
        prompt="a lighthouse in a storm",
        model=str(random_model("sd15", folder)),
        steps=steps,
        sampler="Euler",
        scheduler="Automatic",
        width_px=SIZE_PX,
        height_px=SIZE_PX,
        seed=1,
        hires=Hires(scale=2.0, denoising=STRENGTH, steps=steps),
        dtype=dtype,
    )
    workspace = Workspace(settings)
    prepared = prepare_request(request, settings, None, workspace)
    guard = Cast(prepared, settings, workspace).open()
    job = prepared.job
    assert job.second is not None
    second, seeds = job.second, next(iter(job.batches()))
    kept: dict[str, Any] = {}

    def quiet(done: int, rows: int) -> None: ...

    def first_pass() -> None:
        _, kept["small"] = sample(guard, job, tell(guard, job), seeds, quiet)

    def second_pass() -> None:
        _, kept["large"] = enlarge(guard, second, None, seeds, quiet, latents=kept["small"])

    return {"first": first_pass, "second": second_pass, "decode": lambda: decode_latents(guard, kept["large"])}


def load_diffusers(dtype_name: str, steps: int) -> Tasks:
    """The same with diffusers' pipelines."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img import StableDiffusionImg2ImgPipeline
    from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler

    from hayate.models.config import SD1
    from hayate.runtime.precision import DTYPES
    from tests.models.reference import reference_unet, reference_vae

    dtype = DTYPES[dtype_name]
    unet: Any = reference_unet(SD1.unet).to(dtype)
    unet.register_to_config(sample_size=SIZE_PX // 8)
    vae: Any = reference_vae(SD1.vae).to(dtype)
    noise = EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)
    parts: dict[str, Any] = {
        "unet": unet,
        "vae": vae,
        "scheduler": noise,
    }
    others: dict[str, Any] = dict.fromkeys(
        ("text_encoder", "tokenizer", "safety_checker", "feature_extractor", "image_encoder")
    )
    text: Any = StableDiffusionPipeline(**parts, **others, requires_safety_checker=False)
    again: Any = StableDiffusionImg2ImgPipeline(**parts, **others, requires_safety_checker=False)
    for pipeline in (text, again):
        pipeline.set_progress_bar_config(disable=True)
    embeds = {name: torch.randn(1, 77, 768).to(dtype) for name in ("prompt_embeds", "negative_prompt_embeds")}
    common: dict[str, Any] = {**embeds, "guidance_scale": 7.0, "output_type": "latent"}
    kept: dict[str, Any] = {}

    def first_pass() -> None:
        kept["small"] = text(**common, num_inference_steps=steps, height=SIZE_PX, width=SIZE_PX).images

    def second_pass() -> None:
        large = torch.nn.functional.interpolate(kept["small"], scale_factor=2.0, mode="bilinear")
        asked = int(steps / STRENGTH)  # of which the share `strength` is taken
        kept["large"] = again(**common, image=large, num_inference_steps=asked, strength=STRENGTH).images

    def decode() -> None:
        with torch.inference_mode():
            vae.decode(kept["large"] / vae.config.scaling_factor)

    return {"first": first_pass, "second": second_pass, "decode": decode}


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All rounds, the medians with their range, and the ratio of each phase and of the whole."""
    words = ["--dtype", options.dtype, "--steps", str(options.steps), "--threads", str(options.threads)]
    contenders = [
        Contender(name, [sys.executable, __file__, "--only", name, "--folder", str(folder), *words])
        for name in CONTENDERS
    ]
    seconds = take_turns(contenders, PHASES, options.rounds)
    peaks = {contender.name: contender.end()["peak_bytes"] for contender in contenders}
    for name in CONTENDERS:
        seconds[name]["whole"] = [sum(each) for each in zip(*(seconds[name][phase] for phase in PHASES), strict=True)]
    ratios = {
        phase: [own / their for own, their in zip(seconds["hayate"][phase], seconds["diffusers"][phase], strict=True)]
        for phase in (*PHASES, "whole")
    }
    return {
        "machine": fingerprint(),
        "dtype": options.dtype,
        "threads": options.threads,
        "steps": options.steps,
        "seconds": seconds,
        "ratio": {
            phase: {"median": statistics.median(found), "range": [min(found), max(found)]}
            for phase, found in ratios.items()
        },
        "peak_bytes": peaks,
    }


def table(result: Mapping[str, Any]) -> str:
    lines = [f"{'phase':8}{'hayate':>12}{'diffusers':>12}   ratio"]
    for phase, ratio in result["ratio"].items():
        own, their = (statistics.median(result["seconds"][name][phase]) for name in CONTENDERS)
        low, high = ratio["range"]
        lines.append(f"{phase:8}{own:10.2f} s{their:10.2f} s   {ratio['median']:.2f} ({low:.2f}–{high:.2f})")
    own, their = (result["peak_bytes"][name] / 2**30 for name in CONTENDERS)
    lines.append(f"{'peak':8}{own:8.2f} GiB{their:8.2f} GiB   {own / their:.2f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="time hires fix beside diffusers")
    parser.add_argument("--dtype", default="bf16", choices=("bf16", "fp32"))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3, help="of each pass")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=Path, help="write every round there")
    parser.add_argument("--only", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="where the random model is, or is to be written")
    options = parser.parse_args()
    if options.only:
        import torch

        torch.set_num_threads(options.threads)
        started = time.perf_counter()
        is_own = options.only == "hayate"
        tasks = (
            load_hayate(options.folder, options.dtype, options.steps)
            if is_own
            else load_diffusers(options.dtype, options.steps)
        )
        say({"loaded_s": time.perf_counter() - started})
        serve(tasks)
        return
    with tempfile.TemporaryDirectory() as folder:
        result = measure(options, options.folder or Path(folder))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
