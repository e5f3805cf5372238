"""AutoencoderKL: pictures to latents and back; attribute names are the names in the original files."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from hayate.models.config import VAEConfig
from hayate.models.layers import Attention, Upsample, conv1x1, conv3x3, group_norm, scaled_dot_product

NORM_EPS = 1e-6


class AutoencoderKL(nn.Module):
    """The autoencoder of latent diffusion, downsampling by 2 at each level but the last.

    Source: Rombach et al. 2022; Kingma & Welling 2014.
    """

    def __init__(self, config: VAEConfig, attention: Attention = scaled_dot_product) -> None:
        super().__init__()
        self.config = config
        latent = config.latent_channels
        self.encoder = Encoder(config, attention)
        self.decoder = Decoder(config, attention)
        self.quant_conv = conv1x1(2 * latent, 2 * latent)
        self.post_quant_conv = conv1x1(latent, latent)

    def encode_moments(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the latents of `pixels`, not yet multiplied by `config.scale`.

        Shapes: [B, 3, H, W] in −1…1 → two of [B, 4, H/8, W/8].
        """
        mean, log_variance = self.quant_conv(self.encoder(pixels)).chunk(2, dim=1)
        return mean, log_variance.clamp(-30.0, 20.0)

    def decode(self, latents: Tensor) -> Tensor:
        """Pixels from latents that were divided by `config.scale`.

        Shapes: [B, 4, H/8, W/8] → [B, 3, H, W], about −1…1, not clamped.
        """
        return self.decoder(self.post_quant_conv(latents))


class Encoder(nn.Module):
    """Pixels to 2·latent_channels moments."""

    def __init__(self, config: VAEConfig, attention: Attention) -> None:
        super().__init__()
        widths = [config.channels * multiplier for multiplier in config.multipliers]
        self.conv_in = conv3x3(3, config.channels)
        self.down = nn.ModuleList()
        before = config.channels
        for level, width in enumerate(widths):
            blocks = res_blocks(before, width, config.res_blocks, config.norm_groups)
            self.down.append(DownStage(blocks, is_last=level == len(widths) - 1))
            before = width
        self.mid = Middle(before, config.norm_groups, attention)
        self.norm_out = group_norm(before, config.norm_groups, eps=NORM_EPS, is_activated=True)
        self.conv_out = conv3x3(before, 2 * config.latent_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for stage in self.down:
            x = stage(x)
        return self.conv_out(self.norm_out(self.mid(x)))


class Decoder(nn.Module):
    """Latents to pixels; `up.0` is the last stage, as in the original files."""

    def __init__(self, config: VAEConfig, attention: Attention) -> None:
        super().__init__()
        widths = [config.channels * multiplier for multiplier in config.multipliers]
        before = widths[-1]
        self.conv_in = conv3x3(config.latent_channels, before)
        self.mid = Middle(before, config.norm_groups, attention)
        stages: list[nn.Module] = []
        for level, width in reversed(list(enumerate(widths))):
            blocks = res_blocks(before, width, config.res_blocks + 1, config.norm_groups)
            stages.insert(0, UpStage(blocks, is_last=level == 0))
            before = width
        self.up = nn.ModuleList(stages)
        self.norm_out = group_norm(before, config.norm_groups, eps=NORM_EPS, is_activated=True)
        self.conv_out = conv3x3(before, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mid(self.conv_in(x))
        for stage in reversed(self.up):
            x = stage(x)
        return self.conv_out(self.norm_out(x))


class DownStage(nn.Module):
    """Residual blocks at one resolution, then half of it, unless the stage is the last."""

    def __init__(self, blocks: nn.ModuleList, is_last: bool) -> None:
        super().__init__()
        self.block = blocks
        self.downsample = nn.Identity() if is_last else Downsample(width_of(blocks))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.block:
            x = block(x)
        return self.downsample(x)


class UpStage(nn.Module):
    """Residual blocks at one resolution, then twice of it, unless the stage is the last."""

    def __init__(self, blocks: nn.ModuleList, is_last: bool) -> None:
        super().__init__()
        self.block = blocks
        self.upsample = nn.Identity() if is_last else Upsample(width_of(blocks))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.block:
            x = block(x)
        return self.upsample(x)


class Middle(nn.Module):
    """Residual block, attention over all positions, residual block, at the lowest resolution."""

    def __init__(self, channels: int, groups: int, attention: Attention) -> None:
        super().__init__()
        self.block_1 = ResBlock(channels, channels, groups)
        self.attn_1 = SpatialAttention(channels, groups, attention)
        self.block_2 = ResBlock(channels, channels, groups)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class ResBlock(nn.Module):
    """Two 3×3 convolutions, each after GroupNorm and SiLU, around a skip."""

    def __init__(self, in_channels: int, out_channels: int, groups: int) -> None:
        super().__init__()
        self.norm1 = group_norm(in_channels, groups, eps=NORM_EPS, is_activated=True)
        self.conv1 = conv3x3(in_channels, out_channels)
        self.norm2 = group_norm(out_channels, groups, eps=NORM_EPS, is_activated=True)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.out_channels = out_channels
        self.nin_shortcut = nn.Identity() if in_channels == out_channels else conv1x1(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.norm2(self.conv1(self.norm1(x)))
        return self.conv2(hidden, self.nin_shortcut(x))


class SpatialAttention(nn.Module):
    """One-head self-attention over all positions of a feature map."""

    def __init__(self, channels: int, groups: int, attention: Attention) -> None:
        super().__init__()
        self.attention = attention
        self.norm = group_norm(channels, groups, eps=NORM_EPS)
        self.q = conv1x1(channels, channels)
        self.k = conv1x1(channels, channels)
        self.v = conv1x1(channels, channels)
        self.proj_out = conv1x1(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.norm(x)
        q, k, v = (part(hidden).flatten(2).transpose(1, 2).unsqueeze(1) for part in (self.q, self.k, self.v))
        mixed = self.attention(q, k, v).squeeze(1).transpose(1, 2).reshape(x.shape)
        return self.proj_out(mixed, x)


class Downsample(nn.Module):
    """Halves the size; pads right and bottom only, as the original does."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv3x3(channels, channels, stride=2, padding=0)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


def res_blocks(in_channels: int, out_channels: int, count: int, groups: int) -> nn.ModuleList:
    """`count` residual blocks, the first of which changes the width."""
    widths = [in_channels] + [out_channels] * count
    return nn.ModuleList(ResBlock(before, after, groups) for before, after in pairwise(widths))


def width_of(blocks: nn.ModuleList) -> int:
    """Channels that the last of `blocks` puts out."""
    last = blocks[-1]
    assert isinstance(last, ResBlock)
    return last.out_channels
