"""How much memory a picture will take, computed before the work from shapes alone, and what to do about it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from hayate.models.clip import text_encoder
from hayate.models.config import ModelConfig, UNetConfig, VAEConfig
from hayate.models.layers import Attention, skeleton
from hayate.models.unet import UNet
from hayate.models.vae import AutoencoderKL
from hayate.runtime.live import LiveBytes, bare
from hayate.runtime.offload import divide
from hayate.runtime.precision import Precision

Offload = Literal["none", "medvram", "lowvram"]
"""All networks on the device; one at a time; one at a time, and of the U-Net only two blocks."""
OFFLOADS: tuple[Offload, ...] = ("none", "medvram", "lowvram")

TILES_PX = (1024, 768, 512, 384, 256)
PX_PER_LAT = 8
SLACK = 1.05
"""What a caching allocator holds beyond the tensors, as a factor."""
WORKSPACE_BYTES = 256 << 20
"""What convolutions and matrix products of a GPU take for themselves, and no tensor shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is computed at once."""

    inputs: int
    """Latents that the U-Net takes in one step: with guidance two for each image."""
    images: int
    """Pictures that the VAE decodes at once."""
    height_px: int
    width_px: int
    context_length: int = 77
    tile_px: int | None = None
    """The VAE's tile, or None where it decodes pictures whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The bytes that a model and one piece of work take on the device that computes."""

    text_bytes: int
    unet_bytes: int
    vae_bytes: int
    projections_bytes: int
    """Of the U-Net's weights those that are used before the loop, once per prompt and schedule."""
    window_bytes: int
    """What `lowvram` keeps of the U-Net's weights: two blocks as large as the largest, and the last layers."""
    told_bytes: int
    """The prompts as the U-Net is told them, kept from before the loop to its end."""
    step_bytes: int
    """Highest sum of the tensors of one step, weights and prompts not counted."""
    decode_bytes: int
    """Highest sum of the tensors of a decode, weights not counted."""

    def peak_bytes(self, offload: Offload) -> int:
        """The most that is on the device at any time.

        The text encoders' own tensors are left out, for they are below a hundredth of their weights.
        """
        if offload == "none":
            weights = self.text_bytes + self.unet_bytes + self.vae_bytes
            return weights + self.told_bytes + max(self.step_bytes, self.decode_bytes)
        unet = self.unet_bytes
        if offload == "lowvram":  # the projections' weights are gone before the first step takes its memory
            unet = max(self.projections_bytes - self.step_bytes, self.window_bytes)
        return max(self.text_bytes, self.told_bytes + max(unet + self.step_bytes, self.vae_bytes + self.decode_bytes))


@dataclass(frozen=True, slots=True, kw_only=True)
class OffloadPlan:
    """Where the weights are kept, and why."""

    offload: Offload
    reason: str
    is_enough: bool
    """Whether the forecast fits; where it does not, the work is tried all the same, and taken in smaller parts."""


def forecast(config: ModelConfig, precision: Precision, work: Work, attention: Attention | None = None) -> Forecast:
    """The memory that `work` will take, found by running the networks on tensors without memory.

    `attention` is what the networks will call, for its scratch memory to be counted; None stands for a fused kernel,
    which has next to none. Inside kernels nothing is seen: `WORKSPACE_BYTES` stands for that.
    Cost: 0.1 s (SDXL 0.15 s) the first time, nothing for work that was asked for before.
    """
    return _forecast(config, precision, work, attention or _fused)


def resolve_offload(
    asked: Offload | None, forecast: Forecast, free_bytes: int | None, device: torch.device
) -> OffloadPlan:
    """What was asked for, else the least offload with which the forecast fits into `free_bytes` of `device`."""
    if device.type in ("cpu", "mps"):
        reason, peak = "the weights are in the memory that the processor computes with", forecast.peak_bytes("none")
        if free_bytes is None or peak <= free_bytes:
            return OffloadPlan(offload="none", reason=reason, is_enough=True)
        return OffloadPlan(offload="none", reason=f"{_gib(peak)} of {_gib(free_bytes)} free", is_enough=False)
    needed = {each: needed_bytes(forecast, each) for each in OFFLOADS}
    if free_bytes is None:
        return OffloadPlan(offload=asked or "none", reason="free memory is not known here", is_enough=True)
    found = f"of {_gib(free_bytes)} free"
    if asked is not None:
        reason = f"asked for; {_gib(needed[asked])} {found}"
        return OffloadPlan(offload=asked, reason=reason, is_enough=needed[asked] <= free_bytes)
    for offload in OFFLOADS:
        if needed[offload] <= free_bytes:
            more = "".join(f", {_gib(needed[each])} with {each}" for each in OFFLOADS[: OFFLOADS.index(offload)])
            return OffloadPlan(offload=offload, reason=f"{_gib(needed[offload])} {found}{more}", is_enough=True)
    reason = f"even so {_gib(needed['lowvram'])} {found}"
    return OffloadPlan(offload="lowvram", reason=reason, is_enough=False)


def tiles_for(work: Work) -> tuple[int, ...]:
    """The sides of the VAE's tiles that are worth a try where a whole picture is too much, largest first."""
    return tuple(side for side in TILES_PX if side < max(work.height_px, work.width_px))


def needed_bytes(forecast: Forecast, offload: Offload) -> int:
    """What a GPU should have free for a forecast: with slack, and room for what kernels take for themselves."""
    return int(forecast.peak_bytes(offload) * SLACK) + WORKSPACE_BYTES


def free_bytes(device: torch.device) -> int | None:
    """Memory that can still be had: on a CUDA device within this process's share of it, on Linux that of the machine.

    None where the system does not say.
    """
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        reserved = torch.cuda.memory_reserved(device)
        share = int(total * torch.cuda.get_per_process_memory_fraction(device)) - reserved
        return min(free, share) + reserved - torch.cuda.memory_allocated(device)
    if device.type != "cpu" or sys.platform != "linux":
        return None
    words = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    return next((int(each[1]) * 1024 for each in words if each[0] == "MemAvailable:"), None)


@lru_cache(maxsize=64)
def _forecast(config: ModelConfig, precision: Precision, work: Work, attention: Attention) -> Forecast:
    with skeleton():
        unet, vae = UNet(config.unet), AutoencoderKL(config.vae)
        text = [text_encoder(each) for each in config.text]
    parts = divide(unet)
    size = precision.unet.itemsize
    blocks = [_elements(block) * size for block in parts.blocks]
    return Forecast(
        text_bytes=sum(_elements(each.parameters()) for each in text) * precision.text.itemsize,
        unet_bytes=_elements(unet.parameters()) * size,
        vae_bytes=_elements(vae.parameters()) * precision.vae.itemsize,
        projections_bytes=_elements(parts.projections) * size,
        window_bytes=2 * max(blocks) + _elements(parts.rest) * size,
        told_bytes=sum(tensor.nbytes for tensor in _told(unet, work, precision.unet)),
        step_bytes=_step_bytes(config.unet, precision.unet, work, attention),
        decode_bytes=_decode_bytes(config.vae, precision.vae, work, attention),
    )


def _step_bytes(config: UNetConfig, dtype: torch.dtype, work: Work, attention: Attention) -> int:
    """Of transformer blocks in a row each takes what the first does, so that one stands for all."""
    depths = tuple(min(1, depth) for depth in config.transformer_depths)
    shallow = replace(config, transformer_depths=depths, middle_depth=min(1, config.middle_depth))
    unet = _bare(lambda: UNet(shallow, attention), dtype)
    assert isinstance(unet, UNet)
    times, *contexts = _told(unet, work, dtype)
    x = bare(work.inputs, config.in_channels, *_latent_size(work.height_px, work.width_px))
    return _peak(lambda: unet.step(x.to(dtype), times, contexts).float(), [x, times, *contexts, *unet.parameters()])


def _decode_bytes(config: VAEConfig, dtype: torch.dtype, work: Work, attention: Attention) -> int:
    vae = _bare(lambda: AutoencoderKL(config, attention), dtype)
    assert isinstance(vae, AutoencoderKL)
    whole_px = (work.height_px, work.width_px)
    tile_px = whole_px if work.tile_px is None else tuple(min(side, work.tile_px) for side in whole_px)
    latents = bare(work.images, config.latent_channels, *_latent_size(*tile_px))
    peak = _peak(lambda: vae.decode(latents.to(dtype)).float(), [latents, *vae.parameters()])
    pasted = 0 if tile_px == whole_px else 3 * work.images * work.height_px * work.width_px * torch.float32.itemsize
    return peak + pasted


def _peak(run: Callable[[], Tensor], given: Iterable[Tensor]) -> int:
    with torch.no_grad(), LiveBytes(ignored=given) as live:
        run()
    return live.peak_bytes


def _told(unet: UNet, work: Work, dtype: torch.dtype) -> list[Tensor]:
    """Times and contexts of one step, without memory."""
    times = bare(work.inputs, max(block.times.stop for block in unet.res_blocks()), dtype=dtype)
    widths = [2 * block.attn2.to_q.out_features for block in unet.transformer_blocks()]
    return [times, *(bare(work.inputs, work.context_length, width, dtype=dtype) for width in widths)]


def _bare(make: Callable[[], nn.Module], dtype: torch.dtype) -> nn.Module:
    with skeleton():
        return make().requires_grad_(requires_grad=False).to(dtype)


def _latent_size(height_px: int, width_px: int) -> tuple[int, int]:
    return height_px // PX_PER_LAT, width_px // PX_PER_LAT


def _elements(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)


def _fused(q: Tensor, k: Tensor, v: Tensor, is_causal: bool = False) -> Tensor:  # noqa: ARG001
    """What a fused kernel leaves behind: its result, ready to be merged without a copy."""
    batch, heads, length, width = q.shape
    return bare(batch, length, heads, width, dtype=q.dtype).transpose(1, 2)


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GiB"
