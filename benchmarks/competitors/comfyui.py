"""ComfyUI's own functions in one process: the checkpoint loader, the sampler with its progress callback, the decode."""

from __future__ import annotations

import sys
import time

from benchmarks.competitors.base import Competitor, Job, Loaded, inputs

FLAGS = {"bf16": ("--bf16-unet", "--bf16-vae", "--bf16-text-enc"), "fp32": ("--force-fp32",)}
COMMON_FLAGS = ("--cpu", "--use-pytorch-cross-attention")
"""PyTorch's attention is a third faster on processors than the default."""


def load(job: Job) -> Loaded:
    flags = (*COMMON_FLAGS, *FLAGS[job.dtype])
    sys.argv = ["main.py", *flags]
    import comfy.options

    comfy.options.enable_args_parsing()  # before anything of it that reads the flags is imported
    import comfy.sample
    import comfy.sd
    import torch
    from comfyui_version import __version__

    torch.set_num_threads(job.threads)
    model, clip, vae, *_ = comfy.sd.load_checkpoint_guess_config(job.checkpoint)
    prompts = [clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in ("a horse", "blurry")]
    latents = torch.from_numpy(inputs(job)["latents"])

    def step() -> float:
        """Seconds from the end of the first of two steps to the end of the second."""
        done: list[float] = []

        def note(*_: object) -> None:
            done.append(time.perf_counter())

        comfy.sample.sample(
            model, latents, 2, 7.0, "euler", "normal", *prompts, torch.zeros_like(latents), callback=note, seed=1
        )
        return done[1] - done[0]

    return Loaded(
        tasks={"step": step, "decode": lambda: vae.decode(latents)},
        version=f"ComfyUI {__version__} torch {torch.__version__}",
        setting=" ".join(flags),
    )


COMPETITOR = Competitor(
    package="comfy",
    install="git clone https://github.com/comfyanonymous/ComfyUI beside; python3 -m venv comfy; comfy/bin/pip install "
    "-r ComfyUI/requirements.txt; --python comfyui=comfy/bin/python and COMFYUI_DIR=ComfyUI in the environment",
    dtypes=("bf16", "fp32"),
    load=load,
)
