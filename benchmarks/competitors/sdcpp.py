"""stable-diffusion.cpp through its Python binding, which makes whole pictures only and says when a step is done."""

from __future__ import annotations

import time
from importlib.metadata import version

from benchmarks.competitors.base import Competitor, Job, Loaded

WEIGHT_TYPES = {"bf16": "bf16", "fp32": "f32"}


def load(job: Job) -> Loaded:
    from stable_diffusion_cpp import StableDiffusion

    model = StableDiffusion(
        model_path=job.checkpoint, n_threads=job.threads, wtype=WEIGHT_TYPES[job.dtype], vae_decode_only=True
    )

    def marks(steps: int) -> list[float]:
        """When each step of a picture was done, and when the picture was."""
        done: list[float] = []

        def note(step: int, total: int, _seconds: float) -> None:
            if total == steps and step > 0:
                done.append(time.perf_counter())

        model.generate_image(
            prompt="a horse",
            negative_prompt="blurry",
            width=job.side_px,
            height=job.side_px,
            cfg_scale=7.0,
            sample_method="euler",
            sample_steps=steps,
            seed=1,
            progress_callback=note,
        )
        return [*done, time.perf_counter()]

    return Loaded(
        tasks={"step": lambda: _gap(marks(2), -3), "decode": lambda: _gap(marks(1), -2)},
        version=f"stable-diffusion-cpp-python {version('stable_diffusion_cpp_python')}",
        setting=f"{job.dtype} weights",
    )


def _gap(marks: list[float], index: int) -> float:
    return marks[index + 1] - marks[index]


COMPETITOR = Competitor(
    package="stable_diffusion_cpp",
    install="python3 -m venv sdcpp; sdcpp/bin/pip install stable-diffusion-cpp-python (builds for some minutes); "
    "--python sdcpp=sdcpp/bin/python",
    dtypes=("bf16", "fp32"),
    load=load,
)
