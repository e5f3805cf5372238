"""Hayate itself, as it computes on a processor when nothing is asked."""

from __future__ import annotations

from pathlib import Path

from benchmarks.competitors.base import Competitor, Job, Loaded, tensors


def load(job: Job) -> Loaded:
    import torch

    import hayate
    from hayate.engines.networks import load_networks, load_vae
    from hayate.runtime.attention.choose import choose_attention
    from hayate.runtime.device import resolve_device
    from hayate.runtime.precision import DTYPES, Precision
    from hayate.runtime.prepare import Preparation, set_attention

    torch.set_num_threads(job.threads)
    dtype, device = DTYPES[job.dtype], resolve_device("cpu")
    precision = Precision(unet=dtype, text=dtype, vae=dtype, reason="asked for")
    preparation = Preparation(is_fused=True, is_packed=True)
    networks = load_networks(Path(job.checkpoint), device.torch, precision, preparation)
    vae = load_vae(Path(job.checkpoint), networks.config, dtype, device.torch, preparation)
    unet = networks.unet
    config = networks.config.unet
    head_dims = {width // config.heads_at(width) for width in (config.channels * each for each in config.multipliers)}
    chosen = choose_attention(None, device, dtype, head_dims)
    for network in (unet, vae):
        set_attention(network, chosen.attention)
    given = tensors(job)
    x, latents = given["x"], given["latents"]
    times, contexts = unet.project_times(given["timesteps"][:1], None, dtype), unet.project_context(given["context"])
    return Loaded(
        tasks={"step": lambda: unet.step(x, times, contexts), "decode": lambda: vae.decode(latents)},
        version=f"hayate {hayate.__version__} torch {torch.__version__}",
        setting=f"{job.dtype}, packed layers, {chosen.backend.name} attention",
    )


COMPETITOR = Competitor(package="hayate", install="this repository", dtypes=("bf16", "fp32"), load=load)
