"""A merge made in weights that stand, in place: of a known one only the tensors that are other ones now."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from hayate.engines.identity import MergedId, SourceId
from hayate.engines.networks import Networks
from hayate.engines.seats import Seat, SeatKey, TensorSeat, find_seat
from hayate.models.clip import text_encoder
from hayate.models.config import ModelConfig, TextConfig, UNetConfig, VAEConfig
from hayate.models.layers import skeleton
from hayate.models.unet import UNet
from hayate.models.vae import AutoencoderKL
from hayate.weights.detect import UNET_PREFIX, vae_prefix
from hayate.weights.load import check_part
from hayate.weights.merged import MergedCheckpoint, open_merged

_THIRDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixed:
    """What one mixing did."""

    evaluated: int
    """Tensors that were made anew."""
    kept: int
    """Tensors that were the same in the merge of before."""
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


def plan_mixing(source: MergedId, before: SourceId | None, config: ModelConfig, *, is_vae: bool) -> Mixing:
    """What has to be made for the networks, or the VAE, of `config`.

    Raises: ModelFileError where the merge's first model has not what they need; then nothing was changed.
    """
    with open_merged(source.path) as checkpoint:
        kinds: list[tuple[str, UNetConfig | VAEConfig | TextConfig]] = (
            [(vae_prefix(checkpoint.tensors), config.vae)]
            if is_vae
            else [(UNET_PREFIX, config.unet), *((text.prefix, text) for text in config.text)]
        )
        names = tuple(tuple(check_part(_bare(kind), checkpoint, prefix)) for prefix, kind in kinds)
    return Mixing(source=source, before=before, prefixes=tuple(prefix for prefix, _ in kinds), names=names)


@torch.no_grad()
@torch.inference_mode(mode=False)  # weights that were changed in that mode could be poured over in it only
def mix(mixing: Mixing, part: Networks | AutoencoderKL, dtypes: tuple[torch.dtype, ...]) -> Mixed:
    """Makes the merge in the weights of `part`, whose networks compute in `dtypes`, and leaves alone what stays.

    Broken off half-way it leaves a mixture. Addresses stay, except those of packed weights.
    Cost: one pass over the inputs of the tensors that differ, and memory for one tensor.
    """
    started, evaluated = time.perf_counter(), 0
    modules = part.modules if isinstance(part, Networks) else (part,)
    places: list[_Place] = []
    with open_merged(mixing.source.path) as checkpoint:
        for module, dtype, prefix, names in zip(modules, dtypes, mixing.prefixes, mixing.names, strict=True):
            changed = [name for name in names if not mixing.source.keeps(mixing.before, prefix + name)]
            evaluated += len(changed)
            for seats in _by_seat(module, prefix, changed).values():
                places += _write(seats, checkpoint, dtype)
        _fill(places, checkpoint)
    kept = sum(map(len, mixing.names)) - evaluated
    return Mixed(evaluated=evaluated, kept=kept, seconds=time.perf_counter() - started)


_Place = tuple[str, Tensor]
"""A tensor's name in the checkpoint, and where it goes as it is laid out in a file."""


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


def _write(seats: list[tuple[str, Seat]], checkpoint: MergedCheckpoint, dtype: torch.dtype) -> list[_Place]:
    """Makes the tensors of one seat and puts them there, or gives the places where they can be made at once."""
    places: list[_Place] = []
    if seats[0][1].third is not None:
        _write_thirds(seats, checkpoint, dtype)
        return places
    for name, each in seats:
        if not isinstance(each, TensorSeat):
            each.write(checkpoint.get_as(name, dtype))
        elif (own := each.tensor()).device.type == "cpu" and own.is_contiguous():
            places.append((name, own))
        else:
            own.copy_(checkpoint.get_as(name, own.dtype).view(own.shape))
    return places


def _write_thirds(seats: list[tuple[str, Seat]], checkpoint: MergedCheckpoint, dtype: torch.dtype) -> None:
    """Queries, keys and values that are packed as one; those that stay are taken out first."""
    seat = seats[0][1]
    made = {each.third: checkpoint.get_as(name, dtype) for name, each in seats}
    if len(made) < _THIRDS:
        old = seat.plain(seat.clean()).chunk(_THIRDS)
        made |= {third: rows for third, rows in enumerate(old) if third not in made}
    seat.write(torch.cat([made[third] for third in range(_THIRDS)]))


def _fill(places: Sequence[_Place], checkpoint: MergedCheckpoint) -> None:
    """Makes tensors straight in their places, one per thread: a thread alone is as fast as several over one tensor."""
    if not places:
        return
    merge, threads = checkpoint.merge, torch.get_num_threads()
    merge.fill(*places[0])  # what is measured over whole models is measured here, once
    try:
        with ThreadPoolExecutor(threads, "mix", initializer=torch.set_num_threads, initargs=(1,)) as pool:
            largest_first = sorted(places[1:], key=lambda place: -place[1].nbytes)
            for _ in pool.map(lambda place: merge.fill(*place), largest_first):
                pass
    finally:
        torch.set_num_threads(threads)  # the workers' number is that of threads to come
