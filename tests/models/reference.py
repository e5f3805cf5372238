"""Reference networks of diffusers and transformers, with random weights, for a `ModelConfig`'s parts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hayate.models.config import TextConfig, UNetConfig, VAEConfig


def reference_unet(config: UNetConfig, seed: int = 0) -> nn.Module:
    """diffusers' UNet2DConditionModel of the same architecture."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    depths = config.transformer_depths
    widths = [config.channels * multiplier for multiplier in config.multipliers]
    has_vector = config.vector_width > 0
    arguments = {
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "down_block_types": [("CrossAttnDownBlock2D" if depth else "DownBlock2D") for depth in depths],
        "up_block_types": [("CrossAttnUpBlock2D" if depth else "UpBlock2D") for depth in reversed(depths)],
        "block_out_channels": widths,
        "layers_per_block": config.res_blocks,
        "transformer_layers_per_block": [depth or 1 for depth in depths[:-1]] + [config.middle_depth],
        "reverse_transformer_layers_per_block": [config.middle_depth] + [depth or 1 for depth in reversed(depths[:-1])],
        "cross_attention_dim": config.context_width,
        "attention_head_dim": [config.heads_at(width) for width in widths],
        "use_linear_projection": config.is_linear_projection,
        "norm_num_groups": config.norm_groups,
    }
    if has_vector:
        arguments |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": config.vector_width,
        }
    with torch.device("meta"):
        model = UNet2DConditionModel(**arguments)
    return randomised(model, seed)


def reference_vae(config: VAEConfig, seed: int = 1) -> nn.Module:
    """diffusers' AutoencoderKL of the same architecture."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    levels = len(config.multipliers)
    with torch.device("meta"):
        model = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=tuple(config.channels * multiplier for multiplier in config.multipliers),
            layers_per_block=config.res_blocks,
            latent_channels=config.latent_channels,
            norm_num_groups=config.norm_groups,
        )
    return randomised(model, seed)


def reference_text(config: TextConfig, seed: int = 2) -> nn.Module:
    """transformers' CLIPTextModel, with a projection where `config` has one."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    settings = CLIPTextConfig(
        vocab_size=config.vocabulary,
        hidden_size=config.width,
        intermediate_size=config.mlp_width,
        num_hidden_layers=config.depth,
        num_attention_heads=config.heads,
        max_position_embeddings=config.positions,
        hidden_act="quick_gelu" if config.is_quick_gelu else "gelu",
        projection_dim=config.projection_width or config.width,
        bos_token_id=49406,
        eos_token_id=49407,
        pad_token_id=1,
    )
    kind = CLIPTextModelWithProjection if config.projection_width else CLIPTextModel
    torch.manual_seed(seed)
    model = kind(settings)
    return randomised(model, seed)


def randomised(model: nn.Module, seed: int) -> nn.Module:
    """`model` in evaluation mode with Gaussian weights of variance 1/fan-in and norms near one.

    Slices of one random pool fill the weights, so that billions of parameters take seconds.
    """
    pool = torch.randn(1 << 22, generator=torch.Generator().manual_seed(seed))
    offset = 0
    state = {}
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            state[name] = tensor
            continue
        values = tile(pool, offset, tensor.numel()).view(tensor.shape)
        offset += tensor.numel() + 1
        if tensor.dim() > 1:
            values *= tensor[0].numel() ** -0.5
        else:
            values.mul_(0.1).add_(1.0 if name.endswith("weight") else 0.0)
        state[name] = values
    model.load_state_dict(state, assign=True)
    return model.eval().requires_grad_(False)


def tile(pool: Tensor, offset: int, count: int) -> Tensor:
    """`count` values of `pool`, read round and round from `offset`.

    Nothing else is allocated: holes that passing copies of 16 MB leave between the weights were seen to take three
    times the weights' own memory, because glibc does not reuse a hole of exactly the size that is asked for aligned.
    """
    values = torch.empty(count)
    done = 0
    while done < count:
        start = (offset + done) % pool.numel()
        piece = pool[start : start + count - done]
        values[done : done + piece.numel()] = piece
        done += piece.numel()
    return values


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """Norm of the difference over the norm of the reference."""
    return float((ours - theirs).norm() / theirs.norm())
