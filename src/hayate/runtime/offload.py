"""Weights that wait in the host's memory and come to the device when they are needed."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hayate.models.unet import CrossAttention, ResBlock, UNet
from hayate.runtime.evidence import Evidence
from hayate.runtime.page_lock import lock_pages, unlock_pages

Stage = Literal["text", "projections", "unet", "vae"]
"""What is about to compute: the text encoders, the U-Net's work before the loop, its step, or the VAE."""

ALIGNMENT_BYTES = 256
"""Where tensors may begin in a block: as the allocators of GPUs have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """A U-Net's parameters by when they are used; each is in one place only."""

    projections: tuple[nn.Parameter, ...]
    """Once per prompt and schedule, before the loop: `project_times` and `project_context`."""
    blocks: tuple[tuple[nn.Parameter, ...], ...]
    """In every step, in this order, one after the other."""
    rest: tuple[nn.Parameter, ...]
    """In every step, after the blocks."""


def divide(unet: UNet) -> Division:
    """Which parameters `unet` uses when.

    Those of the projections are a seventh of SDXL's, and the loop never needs them.
    """
    projecting: list[nn.Module] = [unet.time_embed, *([unet.label_emb] if unet.config.vector_width else [])]
    for module in unet.modules():
        if isinstance(module, ResBlock):
            projecting.append(module.emb_layers)
        elif isinstance(module, CrossAttention):
            projecting += [module.to_k, module.to_v]
    projections = _new_ones(projecting, taken := set())
    blocks = tuple(_new_ones([block], taken) for block in blocks_of(unet))
    return Division(projections=projections, blocks=blocks, rest=_new_ones([unet], taken))


def blocks_of(unet: UNet) -> list[nn.Module]:
    """The blocks of a step, in the order in which they compute."""
    return [*unet.input_blocks, unet.middle_block, *unet.output_blocks]


def _new_ones(modules: Iterable[nn.Module], taken: set[int]) -> tuple[nn.Parameter, ...]:
    found = []
    for parameter in (parameter for module in modules for parameter in module.parameters()):
        if id(parameter) not in taken:
            taken.add(id(parameter))
            found.append(parameter)
    return tuple(found)


class Parcel:
    """Parameters whose data lie side by side in one block of host memory, so that one copy takes them to the device.

    The block on the host is their home: what is on the device is only ever a copy, and is dropped unread.
    """

    @torch.inference_mode(mode=False)  # what is made in that mode could be poured over in it only
    def __init__(self, parameters: Sequence[nn.Parameter], device: torch.device) -> None:
        self._parameters = parameters
        self._offsets_bytes: list[int] = []
        size_bytes = 0
        for parameter in parameters:
            self._offsets_bytes.append(size_bytes)
            size_bytes += -(-parameter.nbytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        self.home = torch.empty(size_bytes, dtype=torch.uint8)
        self.is_pinned = device.type == "cuda" and _pin(self.home)
        views = self._views(self.home)
        for parameter, view in zip(parameters, views, strict=True):
            view.copy_(parameter.detach())
        self._seat(views)

    def settle(self, block: Tensor) -> None:
        """Lets the parameters have the data in `block`, which is a copy of the home on another device, or the home."""
        self._seat(self._views(block))

    def _views(self, block: Tensor) -> list[Tensor]:
        return [
            block[offset : offset + parameter.nbytes]
            .view(parameter.dtype)
            .as_strided(parameter.shape, _strides(parameter))
            for parameter, offset in zip(self._parameters, self._offsets_bytes, strict=True)
        ]

    def _seat(self, views: Iterable[Tensor]) -> None:
        for parameter, view in zip(self._parameters, views, strict=True):
            parameter.data = view


class Offloader:
    """Brings to `device` what the next stage computes with, and sends home what it does not.

    With `is_streamed` (lowvram) the U-Net's step has two blocks there at a time: one computes, the next is copied;
    without (medvram) all of it. Weights may be changed at home only: `send_home` first. Addresses on the device
    change, so CUDA graphs must not be captured over these networks. For one thread.
    """

    def __init__(
        self, unet: UNet, text: Sequence[nn.Module], vae: nn.Module, device: torch.device, *, is_streamed: bool
    ) -> None:
        self._device = device
        self._here: Parcel | None = None
        self._stage: Stage | None = None
        self._stream: BlockStream | None = None
        self.moves = 0
        """Parcels that were brought."""
        self.copied_bytes = 0
        parcels = {"text": Parcel(_new_ones(text, set()), device), "vae": Parcel(tuple(vae.parameters()), device)}
        self.is_streamed = is_streamed
        if is_streamed:
            parts = divide(unet)
            parcels |= {"projections": Parcel(parts.projections, device), "unet": Parcel(parts.rest, device)}
            blocks = [Parcel(each, device) for each in parts.blocks]
            self._stream = BlockStream(blocks_of(unet), blocks, device)
        else:
            parcels["projections"] = parcels["unet"] = Parcel(tuple(unet.parameters()), device)
        self._parcels: dict[Stage, Parcel] = parcels  # pyright: ignore[reportAttributeAccessIssue]

    @torch.inference_mode(mode=False)
    def bring(self, stage: Stage) -> None:
        """Makes the device ready for `stage`.

        Cost: nothing when the stage is the same as before; otherwise one copy from pinned memory, which the device's
        stream waits for, not the caller.
        """
        if stage == self._stage:
            return
        parcel = self._parcels[stage]
        if parcel is not self._here:
            self._leave()
            block = parcel.home.to(self._device, non_blocking=True, copy=True)
            parcel.settle(block)
            self._here = parcel
            self.moves += 1
            self.copied_bytes += block.nbytes
        if self._stream and stage == "unet":
            self._stream.start()
        self._stage = stage

    @torch.inference_mode(mode=False)
    def send_home(self) -> None:
        """Gives the device's memory back and waits until nothing reads the weights any more: they may be changed."""
        self._leave()
        if self._device.type != "cpu":
            torch.accelerator.synchronize(self._device)

    def _leave(self) -> None:
        if self._stream:
            self._stream.stop()
        if self._here is not None:
            self._here.settle(self._here.home)
        self._here = self._stage = None

    def evidence(self) -> Evidence:
        """What was moved so far."""
        stream = self._stream
        moves, copied = self.moves, self.copied_bytes
        kind = "pinned" if all(parcel.is_pinned for parcel in self._parcels.values()) else "pageable"
        detail = f"{moves} networks brought"
        if stream:
            copied += stream.copied_bytes
            moves += stream.ahead + stream.late
            detail += f", {stream.ahead} blocks copied ahead and {stream.late} waited for"
        detail += f"; {copied / 2**20:.0f} MiB from {kind} memory"
        return Evidence(name="offload", requested="lowvram" if stream else "medvram", active=moves > 0, detail=detail)


class BlockStream:
    """Blocks that compute one after the other out of two places on the device: one computes, the next is copied."""

    def __init__(self, blocks: Sequence[nn.Module], parcels: Sequence[Parcel], device: torch.device) -> None:
        self.ahead = 0
        """Blocks whose copy had been begun before they were called."""
        self.late = 0
        """Blocks that were not the expected ones: the first, and the first after a step that was broken off."""
        self.copied_bytes = 0
        self._parcels = parcels
        self._lane = Lane(device)
        self._places: list[Tensor] = []
        self._turn = 0
        """Which of the places the next block is copied to."""
        self._coming: tuple[int, Tensor] | None = None
        self._computing: Parcel | None = None
        for index, block in enumerate(blocks):
            block.register_forward_pre_hook(_Announcement(weakref.ref(self), index))

    def start(self) -> None:
        """Takes two places as large as the largest block."""
        size_bytes = max(parcel.home.nbytes for parcel in self._parcels)
        self._places = [torch.empty(size_bytes, dtype=torch.uint8, device=self._lane.device) for _ in range(2)]
        self._lane.follow()

    def stop(self) -> None:
        """Gives the two places back."""
        self._lane.join()
        self._go_home()
        self._places, self._coming = [], None

    @torch.inference_mode(mode=False)
    def announce(self, index: int) -> None:
        """Block `index` is about to compute: its weights are taken in, and the next one's are begun to be copied."""
        if not self._places:
            return
        if self._coming is None or self._coming[0] != index:
            self._fetch(index)
            self.late += 1
        else:
            self.ahead += 1
        assert self._coming is not None
        self._lane.join()
        self._go_home()
        self._computing = self._parcels[index]
        self._computing.settle(self._coming[1])
        self._lane.follow()
        self._fetch((index + 1) % len(self._parcels))

    def _fetch(self, index: int) -> None:
        home = self._parcels[index].home
        place = self._places[self._turn][: home.nbytes]
        self._lane.copy(place, home)
        self._turn = 1 - self._turn
        self._coming = (index, place)
        self.copied_bytes += home.nbytes

    def _go_home(self) -> None:
        if self._computing is not None:
            self._computing.settle(self._computing.home)
        self._computing = None


class Lane:
    """A stream of its own for copies, where the device has streams; elsewhere copies are done at once."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def copy(self, target: Tensor, source: Tensor) -> None:
        """Copies after all that the lane was told to follow; the caller does not wait."""
        if self._stream is None:
            target.copy_(source)
            return
        with torch.cuda.stream(self._stream):
            target.copy_(source, non_blocking=True)

    def follow(self) -> None:
        """Later copies begin when what the computing stream has been given until now is done."""
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(self.device))

    def join(self) -> None:
        """What the computing stream is given from now on begins when all copies until now are done."""
        if self._stream is not None:
            torch.cuda.current_stream(self.device).wait_stream(self._stream)


class _Announcement:
    """A forward pre-hook that does not keep the stream alive."""

    def __init__(self, stream: weakref.ref[BlockStream], index: int) -> None:
        self._stream = stream
        self._index = index

    def __call__(self, *_: Any) -> None:
        if (stream := self._stream()) is not None:
            stream.announce(self._index)


def _strides(parameter: Tensor) -> tuple[int, ...]:
    """Its own, where they leave no gaps; else those of a plain tensor."""
    strides = parameter.stride()
    reach = sum((length - 1) * stride for length, stride in zip(parameter.shape, strides, strict=True)) + 1
    return strides if reach == parameter.numel() else torch.empty(parameter.shape, device="meta").stride()


def _pin(block: Tensor) -> bool:
    """Locks the pages of `block` for as long as its memory lives; whether it could."""
    if not block.nbytes or lock_pages(block):
        return False
    weakref.finalize(block.untyped_storage(), unlock_pages, block.data_ptr()).atexit = False
    return True
