"""diffusers, eager, in plain layout: on processors the fastest of its settings or within a few percent of it."""

from __future__ import annotations

import os

from benchmarks.competitors.base import Competitor, Job, Loaded, tensors


def load(job: Job) -> Loaded:
    os.environ["HF_HUB_OFFLINE"] = "1"
    import diffusers
    import torch
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
    from safetensors.torch import load_file

    from hayate.runtime.precision import DTYPES

    torch.set_num_threads(job.threads)
    file, dtype = load_file(job.checkpoint), DTYPES[job.dtype]
    unet, vae = (_bare(network) for network in _networks(_config(job)))
    _fill(unet, convert_ldm_unet_checkpoint(file, unet.config), dtype)
    _fill(vae, convert_ldm_vae_checkpoint(file, vae.config), dtype)
    given = tensors(job)
    x, when, context, latents = given["x"], given["timesteps"][0], given["context"], given["latents"]
    return Loaded(
        tasks={"step": lambda: unet(x, when, context).sample, "decode": lambda: vae.decode(latents).sample},
        version=f"diffusers {diffusers.__version__} torch {torch.__version__}",
        setting=f"{job.dtype}, eager",
    )


def _config(job: Job):
    from hayate.weights.detect import detect_checkpoint
    from hayate.weights.read import open_checkpoint

    with open_checkpoint(job.checkpoint) as checkpoint:
        return detect_checkpoint(checkpoint)


def _networks(config):
    """How diffusers makes a U-Net and a VAE of this architecture."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    unet, vae = config.unet, config.vae
    depths, levels = unet.transformer_depths, len(vae.multipliers)
    yield lambda: UNet2DConditionModel(
        down_block_types=[("CrossAttnDownBlock2D" if depth else "DownBlock2D") for depth in depths],
        up_block_types=[("CrossAttnUpBlock2D" if depth else "UpBlock2D") for depth in reversed(depths)],
        block_out_channels=[unet.channels * each for each in unet.multipliers],
        layers_per_block=unet.res_blocks,
        cross_attention_dim=unet.context_width,
        attention_head_dim=[unet.heads_at(unet.channels * each) for each in unet.multipliers],
        norm_num_groups=unet.norm_groups,
    )
    yield lambda: AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * levels,
        up_block_types=["UpDecoderBlock2D"] * levels,
        block_out_channels=[vae.channels * each for each in vae.multipliers],
        layers_per_block=vae.res_blocks,
        norm_num_groups=vae.norm_groups,
    )


def _bare(make):
    import torch

    with torch.device("meta"):
        return make().eval().requires_grad_(False)


def _fill(network, tensors, dtype) -> None:
    network.load_state_dict({name: tensor.to(dtype) for name, tensor in tensors.items()}, strict=True, assign=True)


COMPETITOR = Competitor(
    package="diffusers",
    install="pip install 'diffusers>=0.40' 'transformers>=5' safetensors",
    dtypes=("bf16", "fp32"),
    load=load,
)
