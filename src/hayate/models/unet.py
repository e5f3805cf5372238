"""The U-Net of latent diffusion (SD1, SD2, SDXL); attribute names are the names in the original files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hayate.models.config import UNetConfig
from hayate.models.layers import (
    Attention,
    LayerNorm,
    Linear,
    Upsample,
    conv1x1,
    conv3x3,
    group_norm,
    merge_heads,
    scaled_dot_product,
    sinusoidal_embedding,
    split_heads,
)

Merging = Callable[[nn.Module, Tensor, Tensor, tuple[int, int]], Tensor]
"""`merging(attend, x, residual, size)`: self-attention over fewer tokens than the map of `size` has."""

SHALLOW_BLOCKS = 1
"""Blocks at either end of the U-Net that an evaluation computes which takes the deep features of another."""


class UNet(nn.Module):
    """Predicts the noise (or v) in latents.

    Source: Rombach et al. 2022; Podell et al. 2023 for SDXL.
    """

    def __init__(self, config: UNetConfig, attention: Attention = scaled_dot_product) -> None:
        super().__init__()
        self.config = config
        embedding = 4 * config.channels
        self.time_embed = mlp(config.channels, embedding)
        if config.vector_width:
            self.label_emb = nn.Sequential(mlp(config.vector_width, embedding))
        build = Builder(config, attention)
        self.input_blocks = nn.ModuleList(build.input_blocks())
        self.middle_block = build.middle_block()
        self.output_blocks = nn.ModuleList(build.output_blocks())
        self.out = nn.Sequential(
            group_norm(config.channels, config.norm_groups, eps=1e-5, is_activated=True),
            nn.Identity(),
            conv3x3(config.channels, config.out_channels),
        )

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor, vector: Tensor | None = None) -> Tensor:
        """The network's output for latents `x`, already divided by √(σ² + 1).

        Shapes: x [B, in_channels, h, w], timesteps [B] (may be fractional), context [B, 77·chunks, context_width],
        vector [B, vector_width] or None → [B, out_channels, h, w].
        """
        return self.step(x, self.project_times(timesteps, vector, x.dtype), self.project_context(context))

    def step(self, x: Tensor, times: Tensor, contexts: Sequence[Tensor]) -> Tensor:
        """The network's output, from what `project_times` and `project_context` computed before the loop.

        Shapes: x [B, in_channels, h, w], times [B or 1, time_width], contexts of [B, 77·chunks, 2·channels].
        """
        skips = _descend(self.input_blocks, x, times, contexts)
        # Without a name of its own here, the middle's result is free as soon as the first block has read it.
        return self.out(
            _ascend(self.output_blocks, self.middle_block(skips[-1], times, contexts), skips, times, contexts)
        )

    def step_whole(self, x: Tensor, times: Tensor, contexts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """What `step` gives, and the deep feature on the way to it.

        Shapes: → [B, out_channels, h, w], [B, channels, h, w].
        """
        skips = _descend(self.input_blocks, x, times, contexts)
        deep = self.middle_block(skips[-1], times, contexts)
        deep = _ascend(list(self.output_blocks)[:-SHALLOW_BLOCKS], deep, skips, times, contexts)
        return self.out(_ascend(list(self.output_blocks)[-SHALLOW_BLOCKS:], deep, skips, times, contexts)), deep

    def step_shallow(self, x: Tensor, times: Tensor, contexts: Sequence[Tensor], deep: Tensor) -> Tensor:
        """What `step` would give, but for the deep feature, which is another evaluation's.

        Source: Ma et al. 2023 (DeepCache), eq. 5.
        """
        skips = _descend(list(self.input_blocks)[:SHALLOW_BLOCKS], x, times, contexts)
        return self.out(_ascend(list(self.output_blocks)[-SHALLOW_BLOCKS:], deep, skips, times, contexts))

    def project_times(self, timesteps: Tensor, vector: Tensor | None, dtype: torch.dtype) -> Tensor:
        """What every residual block adds for its time and vector, side by side, for a whole schedule at once.

        Shapes: timesteps [N], vector [N, vector_width] or None → [N, time_width].
        """
        embedding = F.silu(self.embed(timesteps, vector, dtype))
        return torch.cat([block.emb_layers[1](embedding) for block in self.res_blocks()], dim=-1)

    def project_context(self, context: Tensor) -> list[Tensor]:
        """Keys and values of the prompt for every transformer block, side by side: once per prompt.

        Shapes: [B, 77·chunks, context_width] → one [B, 77·chunks, 2·channels] for each block.
        """
        return [block.attn2.project(context) for block in self.transformer_blocks()]

    def res_blocks(self) -> list[ResBlock]:
        """All residual blocks, in the order of their parts of `times`."""
        return [each for each in self.modules() if isinstance(each, ResBlock)]

    def transformer_blocks(self) -> list[TransformerBlock]:
        """All transformer blocks, in the order of `contexts`."""
        return [each for each in self.modules() if isinstance(each, TransformerBlock)]

    def largest_transformers(self) -> list[TransformerBlock]:
        """The transformer blocks at the highest resolution that has any."""
        config = self.config
        level = next((index for index, depth in enumerate(config.transformer_depths) if depth), None)
        if level is None:
            return []
        before = level * (config.res_blocks + 1) + 1  # the first convolution, and each level with its downsampling
        going_in = list(self.input_blocks)[before : before + config.res_blocks]
        after = len(self.output_blocks) - level * (config.res_blocks + 1)
        going_out = list(self.output_blocks)[after - config.res_blocks - 1 : after]
        blocks = [*going_in, *going_out]
        return [each for block in blocks for each in block.modules() if isinstance(each, TransformerBlock)]

    def embed(self, timesteps: Tensor, vector: Tensor | None, dtype: torch.dtype) -> Tensor:
        """What every residual block is told of the time and, for SDXL, of size and pooled text.

        Shapes: → [B, 4·channels].
        """
        embedding = self.time_embed(sinusoidal_embedding(timesteps, self.config.channels).to(dtype))
        return embedding if vector is None else embedding + self.label_emb(vector.to(dtype))


def _descend(blocks: Iterable[nn.Module], x: Tensor, times: Tensor, contexts: Sequence[Tensor]) -> list[Tensor]:
    """The map after each of the input blocks."""
    skips = []
    for block in blocks:
        x = block(x, times, contexts)
        skips.append(x)
    return skips


def _ascend(
    blocks: Iterable[nn.Module], x: Tensor, skips: list[Tensor], times: Tensor, contexts: Sequence[Tensor]
) -> Tensor:
    """The map after the output blocks, each of which takes the last of `skips` away."""
    for block in blocks:
        x = block(torch.cat([fit(x, skips[-1]), skips.pop()], dim=1), times, contexts)
    return x


class Builder:
    """Lays out the blocks in the original's order, remembering the width of every skip."""

    def __init__(self, config: UNetConfig, attention: Attention) -> None:
        self.config = config
        self.attention = attention
        self.width = config.channels
        self.skip_widths: list[int] = []
        self.time_width = 0
        self.transformers = 0

    def input_blocks(self) -> Iterator[Block]:
        config = self.config
        yield self._skip(Block(conv3x3(config.in_channels, self.width)))
        for level, multiplier in enumerate(config.multipliers):
            for _ in range(config.res_blocks):
                yield self._skip(Block(*self._stage(self.width, level, config.channels * multiplier)))
            if level < len(config.multipliers) - 1:
                yield self._skip(Block(Downsample(self.width)))

    def middle_block(self) -> Block:
        width, depth = self.width, self.config.middle_depth
        transformer = [self._transformer(width, depth)] if depth else []
        return Block(self._res(width, width), *transformer, self._res(width, width))

    def output_blocks(self) -> Iterator[Block]:
        config = self.config
        for level, multiplier in reversed(list(enumerate(config.multipliers))):
            for index in range(config.res_blocks + 1):
                stage = self._stage(self.width + self.skip_widths.pop(), level, config.channels * multiplier)
                is_last = index == config.res_blocks
                yield Block(*stage, *([Upsample(self.width)] if is_last and level else []))

    def _skip(self, block: Block) -> Block:
        self.skip_widths.append(self.width)
        return block

    def _stage(self, in_channels: int, level: int, out_channels: int) -> list[nn.Module]:
        self.width = out_channels
        depth = self.config.transformer_depths[level]
        res = self._res(in_channels, out_channels)
        return [res, self._transformer(out_channels, depth)] if depth else [res]

    def _res(self, in_channels: int, out_channels: int) -> ResBlock:
        times = slice(self.time_width, self.time_width + out_channels)
        self.time_width = times.stop
        return ResBlock(in_channels, out_channels, self.config, times)

    def _transformer(self, channels: int, depth: int) -> SpatialTransformer:
        self.transformers += depth
        return SpatialTransformer(
            channels, self.config, self.attention, range(self.transformers - depth, self.transformers)
        )


class Block(nn.Sequential):
    """Layers in a row, each given what it takes of the times and the contexts."""

    def forward(self, x: Tensor, times: Tensor, contexts: Sequence[Tensor]) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        for layer in self:
            if isinstance(layer, ResBlock):
                x = layer(x, times)
            elif isinstance(layer, SpatialTransformer):
                x = layer(x, contexts)
            else:
                x = layer(x)
        return x


class ResBlock(nn.Module):
    """Two 3×3 convolutions around a skip, with the time embedding added between them."""

    def __init__(self, in_channels: int, out_channels: int, config: UNetConfig, times: slice) -> None:
        super().__init__()
        self.times = times
        """Which of the projected times are this block's."""
        norm_in, norm_out = (
            group_norm(width, config.norm_groups, eps=1e-5, is_activated=True) for width in (in_channels, out_channels)
        )
        self.in_layers = nn.Sequential(norm_in, nn.Identity(), conv3x3(in_channels, out_channels))
        self.emb_layers = nn.Sequential(nn.SiLU(), Linear(4 * config.channels, out_channels))
        self.out_layers = nn.Sequential(norm_out, nn.Identity(), nn.Identity(), conv3x3(out_channels, out_channels))
        self.skip_connection = nn.Identity() if in_channels == out_channels else conv1x1(in_channels, out_channels)

    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        hidden = self.out_layers[0](self.in_layers(x), times[:, self.times])
        return self.out_layers[3](hidden, self.skip_connection(x))


class SpatialTransformer(nn.Module):
    """Transformer blocks over the positions of a feature map, around a skip."""

    def __init__(self, channels: int, config: UNetConfig, attention: Attention, numbers: range) -> None:
        super().__init__()
        self.is_linear = config.is_linear_projection
        project = Linear if self.is_linear else conv1x1
        heads = config.heads_at(channels)
        self.norm = group_norm(channels, config.norm_groups, eps=1e-6)
        self.proj_in = project(channels, channels)
        self.transformer_blocks = nn.ModuleList(
            TransformerBlock(channels, config.context_width, heads, attention, number) for number in numbers
        )
        self.proj_out = project(channels, channels)

    def forward(self, x: Tensor, contexts: Sequence[Tensor]) -> Tensor:
        hidden = self.norm(x)
        hidden = self.proj_in(to_sequence(hidden)) if self.is_linear else to_sequence(self.proj_in(hidden))
        for block in self.transformer_blocks:
            hidden = block(hidden, contexts, x.shape[-2:])
        if self.is_linear:
            return to_map(self.proj_out(hidden, to_sequence(x)), x)
        return self.proj_out(to_map(hidden, x), x)


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention to the prompt, and a gated feed-forward, each pre-normed around a skip."""

    def __init__(self, channels: int, context_width: int, heads: int, attention: Attention, number: int) -> None:
        super().__init__()
        self.number = number
        """Which of the contexts is this block's."""
        self.attn1 = SelfAttention(channels, heads, attention)
        self.ff = FeedForward(channels)
        self.attn2 = CrossAttention(channels, context_width, heads, attention)
        self.norm1 = LayerNorm(channels)
        self.norm2 = LayerNorm(channels)
        self.norm3 = LayerNorm(channels)
        self.merging: Merging | None = None
        """How the self-attention is given fewer tokens; None gives it all."""

    def forward(self, x: Tensor, contexts: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        merging = self.merging
        x = self.attn1(self.norm1(x), x) if merging is None else merging(self.attn1, self.norm1(x), x, size)
        x = self.attn2(self.norm2(x), contexts[self.number], x)
        return self.ff(self.norm3(x), x)


class SelfAttention(nn.Module):
    """Multi-head attention of `x` over itself."""

    def __init__(self, channels: int, heads: int, attention: Attention) -> None:
        super().__init__()
        self.attention = attention
        self.heads = heads
        self.to_q = Linear(channels, channels, bias=False)
        self.to_k = Linear(channels, channels, bias=False)
        self.to_v = Linear(channels, channels, bias=False)
        self.to_out = nn.Sequential(Linear(channels, channels))

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        q, k, v = (split_heads(project(x), self.heads) for project in (self.to_q, self.to_k, self.to_v))
        return self.to_out[0](merge_heads(self.attention(q, k, v)), residual)


class CrossAttention(nn.Module):
    """Multi-head attention of `x` over a prompt whose keys and values are computed beforehand."""

    def __init__(self, channels: int, context_width: int, heads: int, attention: Attention) -> None:
        super().__init__()
        self.attention = attention
        self.heads = heads
        self.to_q = Linear(channels, channels, bias=False)
        self.to_k = Linear(context_width, channels, bias=False)
        self.to_v = Linear(context_width, channels, bias=False)
        self.to_out = nn.Sequential(Linear(channels, channels))

    def project(self, context: Tensor) -> Tensor:
        """Keys and values, side by side. Shapes: [B, length, context_width] → [B, length, 2·channels]."""
        return torch.cat([self.to_k(context), self.to_v(context)], dim=-1)

    def forward(self, x: Tensor, projected: Tensor, residual: Tensor) -> Tensor:
        q, k, v = (split_heads(part, self.heads) for part in (self.to_q(x), *projected.chunk(2, dim=-1)))
        return self.to_out[0](merge_heads(self.attention(q, k, v)), residual)


class FeedForward(nn.Module):
    """GEGLU to four times the width, and back.

    Source: Shazeer 2020.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(GEGLU(channels, 4 * channels), nn.Identity(), Linear(4 * channels, channels))

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.net[2](self.net[0](x), residual)


class GEGLU(nn.Module):
    """A linear layer whose one half is gated by the GELU of the other."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.proj = Linear(in_channels, 2 * out_channels)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class Downsample(nn.Module):
    """Halves the size by a strided convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = conv3x3(channels, channels, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


def mlp(in_width: int, out_width: int) -> nn.Sequential:
    """Linear, SiLU, linear: how times and vectors are embedded."""
    return nn.Sequential(Linear(in_width, out_width), nn.SiLU(), Linear(out_width, out_width))


def fit(x: Tensor, skip: Tensor) -> Tensor:
    """`x` at the size of `skip`, which differs by one where a picture's size is no multiple of the U-Net's stride.

    Source: A1111 behaviour (nearest neighbour, after the upsampling convolution).
    """
    return x if x.shape[-2:] == skip.shape[-2:] else F.interpolate(x, size=skip.shape[-2:], mode="nearest")


def to_sequence(x: Tensor) -> Tensor:
    """Shapes: [B, C, h, w] → [B, h·w, C]."""
    return x.flatten(2).transpose(1, 2)


def to_map(x: Tensor, like: Tensor) -> Tensor:
    """Shapes: [B, h·w, C] → [B, C, h, w], with the size of `like`."""
    return x.transpose(1, 2).reshape(like.shape)
