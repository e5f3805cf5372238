"""A merge made in weights that stand, in place: of a known one only the tensors that are other ones now."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import torch
from torch import Tensor, nn

from hayate.engines.blending import blend
from hayate.engines.identity import MergedId, SourceId
from hayate.engines.networks import Networks
from hayate.engines.seats import Scratch, Seat, SeatKey, TensorSeat, find_seat
from hayate.models.clip import text_encoder
from hayate.models.config import ModelConfig, TextConfig, UNetConfig, VAEConfig
from hayate.models.layers import skeleton
from hayate.models.unet import UNet
from hayate.models.vae import AutoencoderKL
from hayate.weights.detect import UNET_PREFIX, vae_prefix
from hayate.weights.load import check_part
from hayate.weights.merge_blend import spread
from hayate.weights.merged import MergedCheckpoint, open_merged

_THIRDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixed:
    """What one mixing did."""

    evaluated: int
    """Tensors that were made anew."""
    kept: int
    """Tensors that were the same in the merge of before."""
    overflown: int
    """Finite numbers that became infinite by rounding."""
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixing:
    """A merge that is to be made in what stands there, checked."""

    source: MergedId
    before: SourceId | None
    """Whose weights are there; None where that is not sure."""
    prefixes: tuple[str, ...]
    """Of the networks' tensors, in their order."""
    names: tuple[tuple[str, ...], ...]
    """Each network's parameters as it was built, before any preparation."""


class OpenMerges:
    """Merges that are opened when they are first asked for, and once, until the block is left."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._found: dict[MergedId, MergedCheckpoint] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._found.clear()
        self._stack.close()

    def of(self, source: MergedId) -> MergedCheckpoint:
        """The merge, opened. Raises: as `open_merged`."""
        if source not in self._found:
            self._found[source] = self._stack.enter_context(open_merged(source.path, blend))
        return self._found[source]


def plan_mixing(
    opened: OpenMerges, source: MergedId, before: SourceId | None, config: ModelConfig, *, is_vae: bool
) -> Mixing:
    """What has to be made for the networks, or the VAE, of `config`.

    Raises: ModelFileError where the merge's first model has not what they need; then nothing was changed.
    """
    checkpoint = opened.of(source)
    kinds: list[tuple[str, UNetConfig | VAEConfig | TextConfig]] = (
        [(vae_prefix(checkpoint.tensors), config.vae)]
        if is_vae
        else [(UNET_PREFIX, config.unet), *((text.prefix, text) for text in config.text)]
    )
    names = tuple(tuple(check_part(_bare(kind), checkpoint, prefix)) for prefix, kind in kinds)
    return Mixing(source=source, before=before, prefixes=tuple(prefix for prefix, _ in kinds), names=names)


@torch.no_grad()
@torch.inference_mode(mode=False)  # weights that were changed in that mode could be poured over in it only
def mix(opened: OpenMerges, mixing: Mixing, part: Networks | AutoencoderKL, dtypes: tuple[torch.dtype, ...]) -> Mixed:
    """Makes the merge in the weights of `part`, whose networks compute in `dtypes`, and leaves alone what stays.

    Broken off half-way it leaves a mixture. Addresses stay, except those of packed weights.
    Cost: one pass over the inputs of the tensors that differ, and memory for one tensor.
    """
    started = time.perf_counter()
    modules = part.modules if isinstance(part, Networks) else (part,)
    evaluated = 0
    places: list[tuple[str, Tensor]] = []
    packings: list[_Packing] = []
    checkpoint = opened.of(mixing.source)
    before = sum(checkpoint.merge.overflown.values())
    for module, dtype, prefix, names in zip(modules, dtypes, mixing.prefixes, mixing.names, strict=True):
        changed = [name for name in names if not mixing.source.keeps(mixing.before, prefix + name)]
        evaluated += len(changed)
        for seats in _by_seat(module, prefix, changed).values():
            name, seat = seats[0]
            if isinstance(seat, TensorSeat) and _is_plain(seat.tensor()):
                places.append((name, seat.tensor()))
            else:
                packings.append(_Packing(seats=tuple(seats), dtype=dtype))
    checkpoint.merge.fill(places)
    _pack(packings, checkpoint)
    overflown = sum(checkpoint.merge.overflown.values()) - before
    kept = sum(map(len, mixing.names)) - evaluated
    return Mixed(evaluated=evaluated, kept=kept, overflown=overflown, seconds=time.perf_counter() - started)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Packing:
    """A weight that can't be made where it goes."""

    seats: tuple[tuple[str, Seat], ...]
    """Where it goes, by the name in the checkpoint; several are thirds of one."""
    dtype: torch.dtype


@lru_cache(maxsize=8)
def _bare(kind: UNetConfig | VAEConfig | TextConfig) -> nn.Module:
    """The network without memory, as it is before any preparation."""
    with skeleton():
        if isinstance(kind, UNetConfig):
            return UNet(kind)
        return AutoencoderKL(kind) if isinstance(kind, VAEConfig) else text_encoder(kind)


def _by_seat(module: nn.Module, prefix: str, names: list[str]) -> Mapping[SeatKey, list[tuple[str, Seat]]]:
    """The places of the parameters, by full name; those that are thirds of one packed weight together."""
    seats: dict[SeatKey, list[tuple[str, Seat]]] = {}
    for name in names:
        seat = find_seat(module, name, None)
        seats.setdefault(seat.key, []).append((prefix + name, seat))
    return seats


def _is_plain(tensor: Tensor) -> bool:
    """Whether it is laid out as in a file."""
    return tensor.device.type == "cpu" and tensor.is_contiguous()


def _pack(packings: Sequence[_Packing], checkpoint: MergedCheckpoint) -> None:
    """Makes each weight in memory that is used again, and puts it in its place.

    A thread for each core takes one weight after the other, so that one is mixed while another is laid out.
    """
    own = threading.local()

    def pack(packing: _Packing) -> None:
        if not hasattr(own, "scratch"):
            own.scratch = Scratch()
        _pack_one(packing, checkpoint, own.scratch)

    largest_first = sorted(packings, key=lambda each: -math.prod(checkpoint.tensors[each.seats[0][0]].shape))
    for _ in spread(pack, largest_first):
        pass


def _pack_one(packing: _Packing, checkpoint: MergedCheckpoint, scratch: Scratch) -> None:
    shape = checkpoint.tensors[packing.seats[0][0]].shape
    seat = packing.seats[0][1]
    if seat.third is None:
        weight = scratch.room(shape, packing.dtype)
        checkpoint.merge.fill([(packing.seats[0][0], weight)])
    else:
        weight = scratch.room((_THIRDS * shape[0], *shape[1:]), packing.dtype)
        if len(packing.seats) < _THIRDS:
            weight.copy_(seat.plain(seat.clean()))  # for those that stay
        rows = weight.chunk(_THIRDS)
        checkpoint.merge.fill([(name, rows[each.third or 0]) for name, each in packing.seats])
    if isinstance(seat, TensorSeat):
        own = seat.tensor()
        own.copy_(weight.view(own.shape))
    else:
        seat.write(weight)
