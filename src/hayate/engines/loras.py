"""LoRAs in the weights that stand: changed in place from a clean copy, and given back to the last bit."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hayate.engines.identity import FileId, file_id
from hayate.engines.seats import Scratch, Seat, SeatKey, find_seat
from hayate.models.config import ModelConfig
from hayate.runtime.evidence import Evidence
from hayate.weights.lora import Adapter, Change, check_finite, read_adapter
from hayate.weights.lora_kinds import delta_of, factors_of, shortened

_BLOCK = 1 << 20
"""Numbers that are computed at a time: 4 MiB in float32, about what a cache holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraUse:
    """A file, and how strongly it acts."""

    name: str
    """As the prompt calls it."""
    path: Path
    text: float = 1.0
    """Strength in the text encoders."""
    unet: float = 1.0
    rank: int | None = None
    """Only so many of its directions act; None lets all."""


LoraSet = tuple[tuple[FileId, float, float, int | None], ...]


@dataclass(slots=True, kw_only=True)
class _Edit:
    """All that a set of LoRAs does to one seat."""

    seat: Seat
    changes: list[tuple[Change, float, int | None, int | None]] = field(default_factory=list)
    """Change, strength, rank and third, in the order of the set."""
    biases: list[tuple[Tensor, float]] = field(default_factory=list)


class LoraEditor:
    """Changes the weights of one model's networks; one for each model, for as long as its networks live.

    The clean copies are taken at the first touch and given up when no LoRA is left, so they cost the memory of the
    layers that are touched. Nothing else may change these weights while LoRAs are in them.
    """

    def __init__(self, config: ModelConfig, networks: Mapping[int, nn.Module]) -> None:
        """`networks` are the U-Net as 0 and the text encoders as 1 and 2, or some of them."""
        self._config = config
        self._networks = networks
        self._clean: dict[SeatKey, tuple[Seat, Any]] = {}
        self._changed: set[SeatKey] = set()
        self._adapters: dict[FileId, Adapter] = {}
        """The files of the present set, so that another strength needs no second look."""
        self._applied: LoraSet | None = ()
        self.notes: tuple[str, ...] = ()
        """What the user should know of the files that are applied."""
        self.edits = 0
        """How often weights were changed."""
        self._detail = ""

    def is_applied(self, uses: Sequence[LoraUse]) -> bool:
        """Whether the weights are those that `uses` make.

        Raises: UsageError where there is no file.
        """
        return _set_of(uses) == self._applied

    @torch.no_grad()
    @torch.inference_mode(mode=False)  # weights that were changed in that mode could be poured over in it only
    def apply(self, uses: Sequence[LoraUse]) -> None:
        """Makes the weights those of the model with `uses`, and none else; with what is there already nothing is done.

        The changes are added to the clean weights in an order of their own, so theirs in the prompt does not matter.
        Raises: UsageError where there is no file, ModelFileError; then the weights are clean.
        """
        wanted = _set_of(uses)
        if wanted == self._applied:
            return
        started = time.perf_counter()
        edits: dict[SeatKey, _Edit] = {}
        self._applied = None
        try:
            adapters = self._collect(uses, edits)
            self._restore(self._changed - edits.keys())
            scratch = Scratch()
            for key, edit in edits.items():
                self._changed.add(key)
                _write(edit, self._clean_of(edit.seat), scratch)
        except BaseException:
            self.restore()
            raise
        self._applied = wanted
        if not uses:
            self._clean.clear()
        self.edits += 1
        self.notes = tuple(note for adapter in adapters for note in adapter.notes())
        what = "; ".join(f"{adapter.title}: {adapter.kinds()}" for adapter in adapters)
        self._detail = f"{len(edits)} weights changed in {1000 * (time.perf_counter() - started):.0f} ms ({what})"

    @torch.no_grad()
    @torch.inference_mode(mode=False)
    def restore(self) -> None:
        """Gives every weight back as it was."""
        self._restore(self._changed)
        self._clean.clear()
        self._adapters, self._applied, self.notes = {}, (), ()

    def evidence(self) -> Evidence | None:
        """What is in the weights; None without LoRAs."""
        if not self._applied:
            return None
        requested = ", ".join(_shown(each) for each in self._applied)
        detail = f"{self._detail}; edit {self.edits} of these networks"
        return Evidence(name="LoRA", requested=requested, active=bool(self._changed), detail=detail)

    def _collect(self, uses: Sequence[LoraUse], edits: dict[SeatKey, _Edit]) -> tuple[Adapter, ...]:
        """Reads all files, before the first weight is changed."""
        known, self._adapters = self._adapters, {}
        for use in sorted(uses, key=_order):
            adapter = self._adapters[file_id(use.path)] = self._adapter(use.path, known)
            for change in adapter.changes:
                strength = use.unet if change.place.network == 0 else use.text
                if strength and change.place.network in self._networks:
                    self._enter(change, strength, use.rank, edits)
        return tuple(self._adapters.values())

    def _adapter(self, path: Path, known: Mapping[FileId, Adapter]) -> Adapter:
        file = file_id(path)
        found = known.get(file) or self._adapters.get(file)
        if found is None:
            check_finite(found := read_adapter(path, self._config))
        return found

    def _enter(
        self,
        change: Change,
        strength: float,
        rank: int | None,
        edits: dict[SeatKey, _Edit],
    ) -> None:
        place = change.place
        network = self._networks[place.network]
        if change.kind is not None:
            seat = find_seat(network, place.weight, place.third)
            edits.setdefault(seat.key, _Edit(seat=seat)).changes.append((change, strength, rank, seat.third))
        if change.bias is not None and place.bias is not None:
            seat = find_seat(network, place.bias, place.third)
            edits.setdefault(seat.key, _Edit(seat=seat)).biases.append((change.bias, strength))

    def _clean_of(self, seat: Seat) -> Any:
        if seat.key not in self._clean:
            self._clean[seat.key] = seat, seat.clean()
        return self._clean[seat.key][1]

    def _restore(self, keys: Iterable[SeatKey]) -> None:
        for key in tuple(keys):
            if key in self._clean:
                seat, clean = self._clean[key]
                seat.restore(clean)
            self._changed.discard(key)


def _set_of(uses: Iterable[LoraUse]) -> LoraSet:
    return tuple((file_id(use.path), use.text, use.unet, use.rank) for use in sorted(uses, key=_order))


def _order(use: LoraUse) -> tuple[str, float, float, int]:
    return str(use.path), use.text, use.unet, use.rank or 0


def _shown(each: tuple[FileId, float, float, int | None]) -> str:
    file, text, unet, rank = each
    return f"{file.path.stem} {text:g}:{unet:g}" + (f":{rank}" if rank else "")


def _write(edit: _Edit, clean: Any, scratch: Scratch) -> None:
    """Computes one weight from its clean copy and puts it where it belongs."""
    seat = edit.seat
    plain = seat.plain(clean)
    products = None if edit.biases else _products(edit, plain)
    if not products or not plain.is_contiguous():
        seat.write(_summed(edit, plain))
        return
    room = seat.room(plain, scratch)
    flat, new = plain.flatten(1), room.view(len(plain), -1)
    if None in products:
        _add_product(flat, products[None], new)
    else:
        for third, (old_rows, new_rows) in enumerate(zip(flat.chunk(3), new.chunk(3), strict=True)):
            if third in products:
                _add_product(old_rows, products[third], new_rows)
            else:
                new_rows.copy_(old_rows)
    seat.write(room)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Product:
    """A change that is `scale` · up·down. Shapes: [out, rank] and [rank, in·…], float32."""

    up: Tensor
    down: Tensor
    scale: float


def _products(edit: _Edit, like: Tensor) -> dict[int | None, _Product] | None:
    """The changes of a seat, or of each of its thirds, as one thin product; None where one of them is none."""
    found: dict[int | None, list[_Product]] = {}
    for change, strength, rank, third in edit.changes:
        assert change.kind is not None
        pair = factors_of(change.kind, shortened(_wide(change, like), rank))
        if pair is None:
            return None
        up, down, scale = pair
        found.setdefault(third, []).append(_Product(up=up, down=down, scale=scale * strength))
    return {third: _joined(products) for third, products in found.items()}


def _joined(products: Sequence[_Product]) -> _Product:
    """The sum of thin products as one, which is as much thicker."""
    if len(products) == 1:
        return products[0]
    up = torch.cat([each.up * each.scale for each in products], 1)
    return _Product(up=up, down=torch.cat([each.down for each in products]), scale=1.0)


def _add_product(flat: Tensor, change: _Product, new: Tensor) -> None:
    """W + scale · up·down, rounded once: one product in types that are summed in float32, else block by block."""
    if flat.dtype in (torch.float32, torch.bfloat16) or flat.is_cuda:
        up, down = change.up.to(flat.dtype), change.down.to(flat.dtype)
        torch.addmm(flat, up, down, alpha=change.scale, out=new)
    else:
        _add_by_blocks(flat, change, new)


def _add_by_blocks(flat: Tensor, change: _Product, new: Tensor) -> None:
    """In float32, so much at a time as a cache holds."""
    rows = max(1, _BLOCK // flat.shape[1])
    buffer = torch.empty(min(rows, len(flat)), flat.shape[1], device=flat.device)
    for start in range(0, len(flat), rows):
        block = slice(start, start + rows)
        wide = buffer[: len(flat[block])].copy_(flat[block])
        new[block] = wide.addmm_(change.up[block], change.down, alpha=change.scale)


def _summed(edit: _Edit, plain: Tensor) -> Tensor:
    """The clean weight with every change added, in float32."""
    wide = plain.float()
    new = wide.clone()
    for change, strength, rank, third in edit.changes:
        assert change.kind is not None
        parts = shortened(_wide(change, plain), rank)
        ours, old = (new, wide) if third is None else (new.chunk(3)[third], wide.chunk(3)[third])
        ours += strength * delta_of(change.kind, parts, old.reshape(change.place.shape)).reshape(old.shape)
    for bias, strength in edit.biases:
        new += strength * bias.to(new.device, torch.float32).reshape(new.shape)
    return new.to(plain.dtype)


def _wide(change: Change, like: Tensor) -> dict[str, Tensor]:
    """The parts where the weight is, in float32."""
    return {name: part.to(like.device, torch.float32) for name, part in change.parts.items()}
