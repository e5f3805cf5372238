"""The U-Net of latent diffusion (SD1, SD2, SDXL); attribute names are the names in the original files."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hayate.models.config import UNetConfig
from hayate.models.layers import (
    Attention,
    conv1x1,
    conv3x3,
    group_norm,
    merge_heads,
    scaled_dot_product,
    sinusoidal_embedding,
    split_heads,
)


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
            group_norm(config.channels, config.norm_groups, eps=1e-5),
            nn.SiLU(),
            conv3x3(config.channels, config.out_channels),
        )

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor, vector: Tensor | None = None) -> Tensor:
        """The network's output for latents `x`, already divided by √(σ² + 1).

        Shapes: x [B, in_channels, h, w], timesteps [B] (may be fractional), context [B, 77·chunks, context_width],
        vector [B, vector_width] or None → [B, out_channels, h, w].
        """
        embedding = self.embed(timesteps, vector, x.dtype)
        skips = []
        for block in self.input_blocks:
            x = block(x, embedding, context)
            skips.append(x)
        x = self.middle_block(x, embedding, context)
        for block in self.output_blocks:
            x = block(torch.cat([fit(x, skips[-1]), skips.pop()], dim=1), embedding, context)
        return self.out(x)

    def embed(self, timesteps: Tensor, vector: Tensor | None, dtype: torch.dtype) -> Tensor:
        """What every residual block is told of the time and, for SDXL, of size and pooled text.

        Shapes: → [B, 4·channels].
        """
        embedding = self.time_embed(sinusoidal_embedding(timesteps, self.config.channels).to(dtype))
        return embedding if vector is None else embedding + self.label_emb(vector.to(dtype))


class Builder:
    """Lays out the blocks in the original's order, remembering the width of every skip."""

    def __init__(self, config: UNetConfig, attention: Attention) -> None:
        self.config = config
        self.attention = attention
        self.width = config.channels
        self.skip_widths: list[int] = []

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
        return ResBlock(in_channels, out_channels, 4 * self.config.channels, self.config.norm_groups)

    def _transformer(self, channels: int, depth: int) -> SpatialTransformer:
        return SpatialTransformer(channels, depth, self.config, self.attention)


class Block(nn.Sequential):
    """Layers in a row, each given what it takes of the embedding and the context."""

    def forward(self, x: Tensor, embedding: Tensor, context: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        for layer in self:
            if isinstance(layer, ResBlock):
                x = layer(x, embedding)
            elif isinstance(layer, SpatialTransformer):
                x = layer(x, context)
            else:
                x = layer(x)
        return x


class ResBlock(nn.Module):
    """Two 3×3 convolutions around a skip, with the time embedding added between them."""

    def __init__(self, in_channels: int, out_channels: int, embedding_width: int, groups: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            group_norm(in_channels, groups, eps=1e-5), nn.SiLU(), conv3x3(in_channels, out_channels)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding_width, out_channels))
        self.out_layers = nn.Sequential(
            group_norm(out_channels, groups, eps=1e-5), nn.SiLU(), nn.Identity(), conv3x3(out_channels, out_channels)
        )
        self.skip_connection = nn.Identity() if in_channels == out_channels else conv1x1(in_channels, out_channels)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        hidden = self.in_layers(x) + self.emb_layers(embedding)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(hidden)


class SpatialTransformer(nn.Module):
    """Transformer blocks over the positions of a feature map, around a skip."""

    def __init__(self, channels: int, depth: int, config: UNetConfig, attention: Attention) -> None:
        super().__init__()
        self.is_linear = config.is_linear_projection
        project = nn.Linear if self.is_linear else conv1x1
        heads = config.heads_at(channels)
        self.norm = group_norm(channels, config.norm_groups, eps=1e-6)
        self.proj_in = project(channels, channels)
        self.transformer_blocks = nn.ModuleList(
            TransformerBlock(channels, config.context_width, heads, attention) for _ in range(depth)
        )
        self.proj_out = project(channels, channels)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        hidden = self.norm(x)
        hidden = self.proj_in(to_sequence(hidden)) if self.is_linear else to_sequence(self.proj_in(hidden))
        for block in self.transformer_blocks:
            hidden = block(hidden, context)
        return x + (to_map(self.proj_out(hidden), x) if self.is_linear else self.proj_out(to_map(hidden, x)))


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention to the prompt, and a gated feed-forward, each pre-normed around a skip."""

    def __init__(self, channels: int, context_width: int, heads: int, attention: Attention) -> None:
        super().__init__()
        self.attn1 = CrossAttention(channels, channels, heads, attention)
        self.ff = FeedForward(channels)
        self.attn2 = CrossAttention(channels, context_width, heads, attention)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.norm3 = nn.LayerNorm(channels)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        hidden = self.norm1(x)
        x = x + self.attn1(hidden, hidden)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class CrossAttention(nn.Module):
    """Multi-head attention of `x` over `context`."""

    def __init__(self, channels: int, context_width: int, heads: int, attention: Attention) -> None:
        super().__init__()
        self.attention = attention
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context_width, channels, bias=False)
        self.to_v = nn.Linear(context_width, channels, bias=False)
        self.to_out = nn.Sequential(nn.Linear(channels, channels))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        q, k, v = (split_heads(t, self.heads) for t in (self.to_q(x), self.to_k(context), self.to_v(context)))
        return self.to_out(merge_heads(self.attention(q, k, v)))


class FeedForward(nn.Module):
    """GEGLU to four times the width, and back.

    Source: Shazeer 2020.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(GEGLU(channels, 4 * channels), nn.Identity(), nn.Linear(4 * channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class GEGLU(nn.Module):
    """A linear layer whose one half is gated by the GELU of the other."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.proj = nn.Linear(in_channels, 2 * out_channels)

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


class Upsample(nn.Module):
    """Doubles the size by nearest neighbour, then convolves."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv3x3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def mlp(in_width: int, out_width: int) -> nn.Sequential:
    """Linear, SiLU, linear: how times and vectors are embedded."""
    return nn.Sequential(nn.Linear(in_width, out_width), nn.SiLU(), nn.Linear(out_width, out_width))


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
