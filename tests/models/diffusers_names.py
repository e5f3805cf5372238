"""From the names of diffusers and transformers to the names in the original files, for the parity tests.

Written from the layout that `hayate.models.config` describes, not from the modules under test: a module that
names or wires a layer otherwise fails to load or to agree.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hayate.models.config import TextConfig, TextLayout, UNetConfig, VAEConfig

UNET_RES = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
UNET_ENDS = {
    "time_embedding.linear_1.": "time_embed.0.",
    "time_embedding.linear_2.": "time_embed.2.",
    "add_embedding.linear_1.": "label_emb.0.0.",
    "add_embedding.linear_2.": "label_emb.0.2.",
    "conv_in.": "input_blocks.0.0.",
    "conv_norm_out.": "out.0.",
    "conv_out.": "out.2.",
}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def unet_prefixes(config: UNetConfig) -> dict[str, str]:
    """diffusers module path → original module path, for every residual block, transformer and resampler."""
    levels = len(config.multipliers)
    table = {f"mid_block.attentions.0.{''}": "middle_block.1.", "mid_block.resnets.0.": "middle_block.0."}
    table["mid_block.resnets.1."] = "middle_block.2." if config.middle_depth else "middle_block.1."
    index = 1
    for level in range(levels):
        for block in range(config.res_blocks):
            table[f"down_blocks.{level}.resnets.{block}."] = f"input_blocks.{index}.0."
            table[f"down_blocks.{level}.attentions.{block}."] = f"input_blocks.{index}.1."
            index += 1
        if level < levels - 1:
            table[f"down_blocks.{level}.downsamplers.0.conv."] = f"input_blocks.{index}.0.op."
            index += 1
    index = 0
    for up in range(levels):
        level = levels - 1 - up
        for block in range(config.res_blocks + 1):
            table[f"up_blocks.{up}.resnets.{block}."] = f"output_blocks.{index}.0."
            table[f"up_blocks.{up}.attentions.{block}."] = f"output_blocks.{index}.1."
            if block == config.res_blocks and level > 0:
                place = 2 if config.transformer_depths[level] else 1
                table[f"up_blocks.{up}.upsamplers.0."] = f"output_blocks.{index}.{place}."
            index += 1
    return table


def unet_state(state: dict[str, Tensor], config: UNetConfig) -> dict[str, Tensor]:
    """diffusers' UNet2DConditionModel under original names."""
    prefixes = unet_prefixes(config)
    renamed = {}
    for name, tensor in state.items():
        prefix = next((p for p in [*UNET_ENDS, *prefixes] if name.startswith(p)), None)
        assert prefix is not None, name
        rest = name[len(prefix) :]
        if ".resnets." in prefix:
            rest = replace_first(rest, UNET_RES)
        renamed[(UNET_ENDS | prefixes)[prefix] + rest] = tensor
    return renamed


def vae_state(state: dict[str, Tensor], config: VAEConfig) -> dict[str, Tensor]:
    """diffusers' AutoencoderKL under original names; its attention is linear, the original's a 1×1 convolution."""
    last = len(config.multipliers) - 1
    renamed = {}
    for name, tensor in state.items():
        new = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        new = new.replace("mid_block.resnets.0", "mid.block_1").replace("mid_block.resnets.1", "mid.block_2")
        if "mid_block.attentions.0." in new:
            head, rest = new.split("mid_block.attentions.0.")
            new = f"{head}mid.attn_1.{replace_first(rest, VAE_ATTENTION)}"
        for level in range(last + 1):
            new = new.replace(f"down_blocks.{level}.resnets.", f"down.{level}.block.")
            new = new.replace(f"down_blocks.{level}.downsamplers.0.", f"down.{level}.downsample.")
            new = new.replace(f"up_blocks.{level}.resnets.", f"up.{last - level}.block.")
            new = new.replace(f"up_blocks.{level}.upsamplers.0.", f"up.{last - level}.upsample.")
        is_projection = "attn_1" in new and tensor.dim() == 2
        renamed[new] = tensor[:, :, None, None] if is_projection else tensor
    return renamed


def text_state(state: dict[str, Tensor], config: TextConfig) -> dict[str, Tensor]:
    """transformers' CLIPTextModel(WithProjection) under the names inside `config.prefix`."""
    state = {name.removeprefix("text_model."): tensor for name, tensor in state.items()}
    state = {name: tensor for name, tensor in state.items() if not name.endswith("position_ids")}
    if config.layout is TextLayout.CLIP:
        return state
    renamed = {
        "token_embedding.weight": state["embeddings.token_embedding.weight"],
        "positional_embedding": state["embeddings.position_embedding.weight"],
        "ln_final.weight": state["final_layer_norm.weight"],
        "ln_final.bias": state["final_layer_norm.bias"],
        "text_projection": state["text_projection.weight"].T.contiguous(),
    }
    for layer in range(config.depth):
        old, new = f"encoder.layers.{layer}.", f"transformer.resblocks.{layer}."
        for leaf in ("weight", "bias"):
            parts = [state[f"{old}self_attn.{part}_proj.{leaf}"] for part in "qkv"]
            renamed[f"{new}attn.in_proj_{leaf}"] = torch.cat(parts)
            renamed[f"{new}attn.out_proj.{leaf}"] = state[f"{old}self_attn.out_proj.{leaf}"]
            renamed[f"{new}ln_1.{leaf}"] = state[f"{old}layer_norm1.{leaf}"]
            renamed[f"{new}ln_2.{leaf}"] = state[f"{old}layer_norm2.{leaf}"]
            renamed[f"{new}mlp.c_fc.{leaf}"] = state[f"{old}mlp.fc1.{leaf}"]
            renamed[f"{new}mlp.c_proj.{leaf}"] = state[f"{old}mlp.fc2.{leaf}"]
    return renamed


def replace_first(name: str, table: dict[str, str]) -> str:
    """`name` with its leading module replaced by the table."""
    for old, new in table.items():
        if name.startswith(old + "."):
            return new + name[len(old) :]
    return name
