"""Where a LoRA's names point: from the names of kohya's scripts, diffusers and the original files to our parameters."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from torch import nn

from hayate.models.clip import text_encoder
from hayate.models.config import Family, ModelConfig, TextConfig, TextLayout, UNetConfig
from hayate.models.layers import skeleton
from hayate.models.unet import UNet

Shape = tuple[int, ...]

_RES = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_OPEN_CLIP = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
"""open_clip's names inside a layer, and transformers'."""
_RES_LAYER = re.compile(rf"(.*)\.({'|'.join(map(re.escape, _RES))})")
_OPEN_LAYER = re.compile(r"transformer\.resblocks\.(\d+)\.(.*)")
_PROCESSOR = re.compile(r"\.processor\.(to_[qkv]|to_out)$")
_DOTTED = (
    ("unet.", "lora_unet_"),
    ("model.diffusion_model.", "lora_unet_"),
    ("diffusion_model.", "lora_unet_"),
    ("text_encoder_2.", "lora_te2_"),
)
_FOREIGN = (
    ("double_blocks", "Flux"),
    ("single_blocks", "Flux"),
    ("joint_blocks", "SD3"),
    ("transformer_blocks_0_attn_add", "SD3"),
    ("lora_transformer_", "a diffusion transformer (Flux, SD3)"),
    ("lora_prior_", "Stable Cascade"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One layer of a model that a LoRA can change."""

    network: int
    """0 is the U-Net, 1 and 2 are the text encoders."""
    weight: str
    """The parameter's name inside its network, as in the original file."""
    bias: str | None
    shape: Shape
    """Of the weight, or of its third."""
    third: int | None = None
    """Which third of the parameter's rows it is, where queries, keys and values stand in one: 0, 1 or 2."""


@lru_cache(maxsize=8)
def places_of(config: ModelConfig) -> Mapping[str, Place]:
    """Every layer of a model by all of its names, dots as underscores, as kohya's scripts write them.

    Cost: 0.1 s for a full-size model, once.
    """
    table: dict[str, Place] = {}
    with skeleton():
        shapes = _shapes(UNet(config.unet))
        encoders = [_shapes(text_encoder(text)) for text in config.text]
    theirs = _unet_prefixes(config.unet)
    for name, place in _layers(shapes, 0):
        for alias in (name, _diffusers_name(name, theirs)):
            table["lora_unet_" + alias.replace(".", "_")] = place
    for number, (text, shapes) in enumerate(zip(config.text, encoders, strict=True), start=1):
        prefix = "lora_te_" if len(config.text) == 1 else f"lora_te{number}_"
        for name, place in _text_layers(shapes, text, number):
            for alias in (f"text_model.{name}", name):
                table[prefix + alias.replace(".", "_")] = place
    return MappingProxyType(table)


def plain_name(module: str, encoders: int) -> str:
    """A layer's name in a file as `places_of` has it, for a model with so many text encoders."""
    module = _PROCESSOR.sub(r".\1", module.removeprefix("base_model.model."))
    module = module + ".0" if module.endswith(".to_out") else module
    first = "lora_te_" if encoders == 1 else "lora_te1_"
    for start, prefix in (*_DOTTED, ("text_encoder.", first)):
        if module.startswith(start):
            return prefix + module.removeprefix(start).replace(".", "_")
    if "." in module or not module.startswith("lora_"):  # a U-Net alone, as PEFT saves one
        module = module if module.startswith("lora_") else "lora_unet_" + module
    return module.replace(".", "_")


def seems_for(names: Mapping[str, Shape]) -> str | None:
    """What a file is for, as far as its layers' names and inner widths tell."""
    for name in names:
        for sign, title in _FOREIGN:
            if sign in name:
                return title
    if any(name.startswith(("lora_te1_", "lora_te2_")) for name in names):
        return Family.SDXL.value.upper()
    widths = {shape[1] for name, shape in names.items() if name.endswith("attn2_to_k") and len(shape) > 1}
    known = {768: Family.SD1, 1024: Family.SD2, 2048: Family.SDXL}
    return next((known[width].value.upper() for width in widths if width in known), None)


def _shapes(network: nn.Module) -> dict[str, Shape]:
    return {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}


def _layers(shapes: Mapping[str, Shape], network: int) -> Iterator[tuple[str, Place]]:
    """Every layer with a weight, and its place."""
    for weight, shape in shapes.items():
        if weight.endswith(".weight"):
            name = weight.removesuffix(".weight")
            bias = f"{name}.bias" if f"{name}.bias" in shapes else None
            yield name, Place(network=network, weight=weight, bias=bias, shape=shape)


def _text_layers(shapes: Mapping[str, Shape], text: TextConfig, network: int) -> Iterator[tuple[str, Place]]:
    """A text encoder's layers under transformers' names."""
    for name, place in _layers(shapes, network):
        if text.layout is TextLayout.CLIP:
            yield name, place
        elif found := _OPEN_LAYER.fullmatch(name):
            yield f"encoder.layers.{found[1]}.{_OPEN_CLIP.get(found[2], found[2])}", place
        elif name in ("token_embedding", "ln_final"):
            yield {"token_embedding": "embeddings.token_embedding", "ln_final": "final_layer_norm"}[name], place
    for weight, shape in shapes.items():
        if weight.endswith("attn.in_proj_weight") and (found := _OPEN_LAYER.fullmatch(weight)):
            bias = weight.removesuffix("weight") + "bias"
            for third, part in enumerate("qkv"):
                third_shape = (shape[0] // 3, *shape[1:])
                place = Place(network=network, weight=weight, bias=bias, shape=third_shape, third=third)
                yield f"encoder.layers.{found[1]}.self_attn.{part}_proj", place


def _diffusers_name(name: str, prefixes: Mapping[str, str]) -> str:
    """A U-Net layer's name in diffusers."""
    if name in _ENDS:
        return _ENDS[name]
    start = next((each for each in prefixes if name == each or name.startswith(each + ".")), None)
    assert start is not None, name
    rest = name[len(start) :]
    if ".resnets." in prefixes[start] and (found := _RES_LAYER.fullmatch(name)):
        rest = "." + _RES[found[2]]
    return prefixes[start] + rest


def _unet_prefixes(config: UNetConfig) -> dict[str, str]:
    """The original name of every residual block, transformer and resampler, and diffusers'."""
    table = {"middle_block.0": "mid_block.resnets.0"}
    last = 2 if config.middle_depth else 1
    table[f"middle_block.{last}"] = "mid_block.resnets.1"
    if config.middle_depth:
        table["middle_block.1"] = "mid_block.attentions.0"
    levels = len(config.multipliers)
    for level in range(levels):
        first = 1 + level * (config.res_blocks + 1)
        for block in range(config.res_blocks):
            table[f"input_blocks.{first + block}.0"] = f"down_blocks.{level}.resnets.{block}"
            table[f"input_blocks.{first + block}.1"] = f"down_blocks.{level}.attentions.{block}"
        table[f"input_blocks.{first + config.res_blocks}.0.op"] = f"down_blocks.{level}.downsamplers.0.conv"
    for up in range(levels):
        first = up * (config.res_blocks + 1)
        has_attention = bool(config.transformer_depths[levels - 1 - up])
        for block in range(config.res_blocks + 1):
            start = f"output_blocks.{first + block}"
            table[f"{start}.0"] = f"up_blocks.{up}.resnets.{block}"
            if has_attention:
                table[f"{start}.1"] = f"up_blocks.{up}.attentions.{block}"
        end = f"output_blocks.{first + config.res_blocks}"
        table[f"{end}.{2 if has_attention else 1}"] = f"up_blocks.{up}.upsamplers.0"
    return table
