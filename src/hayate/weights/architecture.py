"""Widths, depths and channel counts of each network, read from the shapes of its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from hayate.errors import RefusedFormat, TensorMismatch
from hayate.models.config import TextConfig, TextLayout, UNetConfig, VAEConfig
from hayate.weights.header import TensorInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The tensors of one network of a file, by their names inside the network."""

    source: str
    """What to call the file in an error."""
    prefix: str
    shapes: Mapping[str, tuple[int, ...]]

    def __contains__(self, name: str) -> bool:
        return name in self.shapes

    def shape(self, name: str, rank: int) -> tuple[int, ...]:
        """The shape of a tensor that must be there, of this rank and not empty.

        Raises: TensorMismatch.
        """
        if name not in self.shapes:
            raise TensorMismatch(f"{self.source}: tensor {self.prefix + name!r} is missing")
        shape = self.shapes[name]
        if len(shape) != rank or 0 in shape:
            raise TensorMismatch(f"{self.source}: tensor {self.prefix + name!r} has the odd shape {list(shape)}")
        return shape

    def count(self, pattern: str) -> int:
        """How many tensors in a row from 0 there are whose names `pattern` gives, with {} for the number."""
        index = 0
        while pattern.format(index) in self.shapes:
            index += 1
        return index

    def refuse(self, message: str, hint: str) -> RefusedFormat:
        return RefusedFormat(f"{self.source}: {message}", hint=hint)


def part_of(tensors: Mapping[str, TensorInfo], prefix: str, source: str) -> Part:
    """The tensors whose names start with `prefix`."""
    start = len(prefix)
    shapes = {name[start:]: info.shape for name, info in tensors.items() if name.startswith(prefix)}
    return Part(source=source, prefix=prefix, shapes=shapes)


def read_unet(part: Part, like: UNetConfig) -> UNetConfig:
    """The U-Net's architecture; what shapes don't tell (heads and norm groups) is as in `like`."""
    channels, in_channels = part.shape("input_blocks.0.0.weight", 4)[:2]
    levels = _levels(part)
    width_of, depth_of = zip(*(level[0] for level in levels), strict=True)
    attention = next((name for name in part.shapes if name.endswith(".transformer_blocks.0.attn2.to_k.weight")), None)
    if attention is None:
        raise part.refuse("the U-Net has no attention to a prompt", "give a text-to-image model")
    projection = attention.split(".transformer_blocks.")[0] + ".proj_in.weight"
    return replace(
        like,
        in_channels=in_channels,
        out_channels=part.shape("out.2.weight", 4)[0],
        channels=channels,
        multipliers=_multipliers(part, channels, width_of),
        res_blocks=len(levels[0]),
        transformer_depths=depth_of,
        middle_depth=part.count("middle_block.1.transformer_blocks.{}.norm1.weight"),
        context_width=part.shape(attention, 2)[1],
        is_linear_projection=len(part.shapes.get(projection, ())) == 2,
        vector_width=part.shape("label_emb.0.0.weight", 2)[1] if "label_emb.0.0.weight" in part else 0,
    )


def _levels(part: Part) -> list[list[tuple[int, int]]]:
    """Width and transformer depth of every residual block on the way down, by level; every level is even in itself."""
    levels: list[list[tuple[int, int]]] = [[]]
    index = 1
    while True:
        if f"input_blocks.{index}.0.op.weight" in part:
            levels.append([])
        elif (name := f"input_blocks.{index}.0.in_layers.2.weight") in part:
            depth = part.count(f"input_blocks.{index}.1.transformer_blocks.{{}}.norm1.weight")
            levels[-1].append((part.shape(name, 4)[0], depth))
        else:
            break
        index += 1
    if not all(len(level) == len(levels[0]) > 0 and len(set(level)) == 1 for level in levels):
        raise _uneven(part)
    _check_way_up(part, levels)
    return levels


def _check_way_up(part: Part, levels: list[list[tuple[int, int]]]) -> None:
    """Checks that the output blocks, one more to a level than the input blocks, have the same depths."""
    depths = [level[0][1] for level in reversed(levels) for _ in range(len(level) + 1)]
    for index, depth in enumerate(depths):
        if part.count(f"output_blocks.{index}.1.transformer_blocks.{{}}.norm1.weight") != depth:
            raise _uneven(part)


def _uneven(part: Part) -> RefusedFormat:
    return part.refuse(
        "the U-Net's blocks differ within a level, as in SSD-1B and other distilled models",
        "only the layouts of SD1, SD2 and SDXL are run",
    )


def _multipliers(part: Part, channels: int, widths: tuple[int, ...]) -> tuple[int, ...]:
    if any(width % channels for width in widths):
        raise part.refuse(f"widths {list(widths)} are no multiples of {channels} channels", "no such network is known")
    return tuple(width // channels for width in widths)


def read_vae(part: Part, like: VAEConfig) -> VAEConfig:
    """The VAE's architecture; scale and norm groups are as in `like`."""
    channels = part.shape("encoder.conv_in.weight", 4)[0]
    depth = part.count("encoder.down.{}.block.0.conv1.weight")
    widths = tuple(part.shape(f"encoder.down.{level}.block.0.conv1.weight", 4)[0] for level in range(max(1, depth)))
    return replace(
        like,
        channels=channels,
        multipliers=_multipliers(part, channels, widths),
        res_blocks=part.count("encoder.down.0.block.{}.conv1.weight"),
        latent_channels=part.shape("decoder.conv_in.weight", 4)[1],
    )


def read_text(part: Part, like: TextConfig) -> TextConfig:
    """A text encoder's architecture; heads are 64 wide, as in every published CLIP, and the rest is as in `like`."""
    is_clip = like.layout is TextLayout.CLIP
    tokens, positions, depth, mlp = _CLIP_NAMES if is_clip else _OPEN_CLIP_NAMES
    vocabulary, width = part.shape(tokens, 2)
    has_projection = not is_clip and "text_projection" in part
    return replace(
        like,
        prefix=part.prefix,
        width=width,
        depth=part.count(depth),
        heads=max(1, width // 64),
        mlp_width=part.shape(mlp, 2)[0],
        projection_width=part.shape("text_projection", 2)[1] if has_projection else 0,
        vocabulary=vocabulary,
        positions=part.shape(positions, 2)[0],
    )


_CLIP_NAMES = (
    "embeddings.token_embedding.weight",
    "embeddings.position_embedding.weight",
    "encoder.layers.{}.layer_norm1.weight",
    "encoder.layers.0.mlp.fc1.weight",
)
_OPEN_CLIP_NAMES = (
    "token_embedding.weight",
    "positional_embedding",
    "transformer.resblocks.{}.ln_1.weight",
    "transformer.resblocks.0.mlp.c_fc.weight",
)
