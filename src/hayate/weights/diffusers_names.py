"""The names of diffusers and transformers beside those of the original files, as one table per network.

A table gives for each of their modules ours; what follows a module's name (`weight`, `bias`, a transformer's inner
layers) is the same in both. Nothing is looked up by position in a list of tensors: a file with a layer more or less is
renamed as far as it goes, and what no rule covers stays out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_RES = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_VAE_ATTENTION = {
    "group_norm": ("norm",),
    "to_q": ("q", "query"),
    "to_k": ("k", "key"),
    "to_v": ("v", "value"),
    "to_out.0": ("proj_out", "proj_attn"),
}
"""Ours, and what diffusers called it before 0.16."""
OPEN_CLIP_ENDS = {
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
    "text_projection.weight": "text_projection",
}
OPEN_CLIP_LAYER = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
VAE_PROJECTIONS = tuple(
    f"{half}.mid.attn_1.{layer}.weight" for half in ("encoder", "decoder") for layer in ("q", "k", "v", "proj_out")
)
"""Our names of the matrices that the original files store as 1x1 convolutions, and diffusers as linear layers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UNetLayout:
    """As much of a U-Net's architecture as its names depend on."""

    res_blocks: int
    has_attention: tuple[bool, ...]
    """For each level, from the widest picture down."""
    has_middle_attention: bool


def unet_layout(names: Iterable[str]) -> UNetLayout:
    """The layout of a U-Net whose tensors have these names in diffusers."""
    modules = {".".join(name.split(".")[:4]) for name in names}
    levels = _count(modules, "down_blocks.{}.resnets.0")
    return UNetLayout(
        res_blocks=_count(modules, "down_blocks.0.resnets.{}"),
        has_attention=tuple(f"down_blocks.{level}.attentions.0" in modules for level in range(levels)),
        has_middle_attention="mid_block.attentions.0" in {name.rpartition(".")[0] for name in modules},
    )


def unet_table(layout: UNetLayout) -> dict[str, str]:
    """Their modules of a U-Net, and ours."""
    table = dict(_UNET_ENDS)
    _add_res(table, "mid_block.resnets.0", "middle_block.0")
    _add_res(table, "mid_block.resnets.1", "middle_block.2" if layout.has_middle_attention else "middle_block.1")
    if layout.has_middle_attention:
        table["mid_block.attentions.0"] = "middle_block.1"
    levels, res_blocks = len(layout.has_attention), layout.res_blocks
    for level, has_attention in enumerate(layout.has_attention):
        first = 1 + level * (res_blocks + 1)
        for block in range(res_blocks):
            _add_block(table, f"down_blocks.{level}", block, f"input_blocks.{first + block}", has_attention)
        if level < levels - 1:
            table[f"down_blocks.{level}.downsamplers.0.conv"] = f"input_blocks.{first + res_blocks}.0.op"
    for up, has_attention in enumerate(reversed(layout.has_attention)):
        for block in range(res_blocks + 1):
            _add_block(table, f"up_blocks.{up}", block, f"output_blocks.{up * (res_blocks + 1) + block}", has_attention)
        if up < levels - 1:
            last = up * (res_blocks + 1) + res_blocks
            table[f"up_blocks.{up}.upsamplers.0.conv"] = f"output_blocks.{last}.{1 + has_attention}.conv"
    return table


def vae_levels(names: Iterable[str]) -> int:
    """How many levels a VAE has whose tensors have these names in diffusers."""
    return _count({".".join(name.split(".")[:3]) for name in names}, "encoder.down_blocks.{}")


def vae_table(levels: int, blocks: int) -> dict[str, str]:
    """Their modules of a VAE of `blocks` residual blocks a level, and ours, which count the way up backwards."""
    table = {"quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv"}
    for half, way in (("encoder", "down"), ("decoder", "up")):
        table |= {f"{half}.conv_in": f"{half}.conv_in", f"{half}.conv_out": f"{half}.conv_out"}
        table[f"{half}.conv_norm_out"] = f"{half}.norm_out"
        for index in range(2):
            _add_vae_block(table, f"{half}.mid_block.resnets.{index}", f"{half}.mid.block_{index + 1}")
        for theirs, (ours, *_) in _VAE_ATTENTION.items():
            table[f"{half}.mid_block.attentions.0.{theirs}"] = f"{half}.mid.attn_1.{ours}"
        for level in range(levels):
            their, our = (
                f"{half}.{way}_blocks.{level}",
                f"{half}.{way}.{level if way == 'down' else levels - 1 - level}",
            )
            for block in range(blocks):
                _add_vae_block(table, f"{their}.resnets.{block}", f"{our}.block.{block}")
            table[f"{their}.{way}samplers.0.conv"] = f"{our}.{way}sample.conv"
    return table


def old_vae_table() -> dict[str, str]:
    """The attention of VAEs from before diffusers 0.16, and ours."""
    return {
        f"{half}.mid_block.attentions.0.{old}": f"{half}.mid.attn_1.{ours}"
        for half in ("encoder", "decoder")
        for ours, *olds in _VAE_ATTENTION.values()
        for old in olds
    }


def rename(name: str, table: Mapping[str, str]) -> str | None:
    """`name` with the longest of its leading modules that the table knows replaced; None if it knows none."""
    words = name.split(".")
    for end in range(len(words), 0, -1):
        if (found := table.get(".".join(words[:end]))) is not None:
            return ".".join([found, *words[end:]])
    return None


def _add_block(table: dict[str, str], theirs: str, block: int, ours: str, has_attention: bool) -> None:
    _add_res(table, f"{theirs}.resnets.{block}", f"{ours}.0")
    if has_attention:
        table[f"{theirs}.attentions.{block}"] = f"{ours}.1"


def _add_res(table: dict[str, str], theirs: str, ours: str) -> None:
    table |= {f"{theirs}.{their}": f"{ours}.{our}" for their, our in _RES.items()}


def _add_vae_block(table: dict[str, str], theirs: str, ours: str) -> None:
    table |= {f"{theirs}.{layer}": f"{ours}.{layer}" for layer in ("norm1", "conv1", "norm2", "conv2")}
    table[f"{theirs}.conv_shortcut"] = f"{ours}.nin_shortcut"


def _count(modules: set[str], pattern: str) -> int:
    index = 0
    while pattern.format(index) in modules:
        index += 1
    return index
