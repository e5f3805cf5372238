"""Reading a file of the LoRA family: which layers of a model it changes, and how."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from hayate.errors import BrokenFile, TensorMismatch, clip
from hayate.models.config import Family, ModelConfig
from hayate.weights.lora_kinds import LEAVES, Kind, Parts, has_fitting_scales, kind_of, missing_parts
from hayate.weights.lora_names import Place, places_of, plain_name, seems_for
from hayate.weights.read import Checkpoint, open_checkpoint

_KEY = re.compile(rf"(?P<module>.+?)(?P<leaf>{'|'.join(map(re.escape, LEAVES))})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a file changes about one layer."""

    place: Place
    kind: Kind | None
    """None where only the bias is changed."""
    parts: Parts
    """Views of the file, in its types."""
    bias: Tensor | None
    """What is added to the layer's bias."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A file of the LoRA family, as it applies to one model."""

    path: Path
    changes: tuple[Change, ...]
    """In the order of the model's layers."""
    unknown: tuple[str, ...]
    """Layers and tensors that the model has no place for, or of no known kind."""

    @property
    def title(self) -> str:
        return self.path.stem

    def kinds(self) -> str:
        """How many layers of each kind, such as "LoRA 192"."""
        titles = [change.kind.title for change in self.changes if change.kind]
        return ", ".join(f"{title} {titles.count(title)}" for title in dict.fromkeys(titles))

    def notes(self) -> tuple[str, ...]:
        """What the user should know of the file."""
        if not self.unknown:
            return ()
        count, first = len(self.unknown), clip(self.unknown[0], 100)
        return (f"LoRA {self.title}: {count} of its layers are left out, this model has none such: {first}",)


def read_adapter(path: Path, config: ModelConfig) -> Adapter:
    """The changes that a file makes to a model.

    Raises: UsageError where there is no file; ModelFileError for one that is broken, lacks a half of a layer, or is for
    another architecture.
    Cost: the numbers stay in the file, unread.
    """
    with open_checkpoint(path) as file:
        layers, unknown = _layers(file, len(config.text))
        places = places_of(config)
        order = {place: index for index, place in enumerate(dict.fromkeys(places.values()))}
        changes = []
        for name, parts in layers.items():
            place = places.get(name)
            kind = kind_of(parts)
            if place is None or not _is_known(place, kind, parts):
                unknown.append(name)
                continue
            changes.append(_change(path, name, place, kind, parts))
        misfit = next((name for name in layers if name in places and not _fits(places[name], layers[name])), None)
        if misfit or not changes:
            raise _other_family(path, config, layers, misfit)
    changes.sort(key=lambda change: order[change.place])
    return Adapter(path=path, changes=tuple(changes), unknown=tuple(unknown))


def family_of(path: Path) -> Family | None:
    """What a file is for, as far as its names and widths tell. Raises: UsageError, ModelFileError."""
    with open_checkpoint(path) as file:
        layers, _ = _layers(file, 2)
        guess = _guess(layers)
    return next((family for family in Family if family.value.upper() == guess), None)


def check_finite(adapter: Adapter) -> None:
    """Refuses a file with numbers that are none.

    Raises: BrokenFile. Cost: reads the whole file.
    """
    for change in adapter.changes:
        for name, part in [*change.parts.items(), *([("bias", change.bias)] if change.bias is not None else [])]:
            if part.is_floating_point() and not bool(part.float().sum().isfinite()):
                raise BrokenFile(
                    f"{adapter.path}: {name} of the layer for {change.place.weight!r} is not finite",
                    hint="the file was saved after its training had failed; take another version of it",
                )


def _layers(file: Checkpoint, encoders: int) -> tuple[dict[str, dict[str, Tensor]], list[str]]:
    """The file's tensors by layer and part, and the names that no kind has."""
    layers: dict[str, dict[str, Tensor]] = {}
    unknown = []
    for name in file.tensors:
        found = _KEY.fullmatch(name)
        if found is None:
            unknown.append(name)
            continue
        parts = layers.setdefault(plain_name(found["module"], encoders), {})
        parts[LEAVES[found["leaf"]]] = file.get(name)
    return layers, unknown


def _is_known(place: Place, kind: Kind | None, parts: Parts) -> bool:
    has_bias = "diff_b" in parts or "b_norm" in parts
    return (kind is not None or has_bias) and (not has_bias or place.bias is not None)


def _change(path: Path, name: str, place: Place, kind: Kind | None, parts: Parts) -> Change:
    if kind is not None and (lost := missing_parts(kind, parts)):
        have = " and ".join(part for part in kind.needs(parts) if part in parts)
        raise BrokenFile(
            f"{path}: layer {clip(name, 100)!r} has {have} but no {' and no '.join(lost)}",
            hint="the file is incomplete; download it again",
        )
    bias = next((parts[key] for key in ("diff_b", "b_norm") if key in parts), None)
    inner = {key: part for key, part in parts.items() if key not in ("diff_b", "b_norm")}
    return Change(place=place, kind=kind, parts=inner, bias=bias)


def _fits(place: Place, parts: Parts) -> bool:
    kind = kind_of(parts)
    bias = next((parts[key] for key in ("diff_b", "b_norm") if key in parts), None)
    if bias is not None and bias.numel() != place.shape[0]:
        return False
    if kind is None or missing_parts(kind, parts):
        return True
    try:
        return kind.fits(parts, place.shape) and has_fitting_scales(parts, place.shape)
    except IndexError:  # a tensor with fewer dimensions than its kind has
        return False


def _other_family(path: Path, config: ModelConfig, layers: Mapping[str, Parts], misfit: str | None) -> TensorMismatch:
    family = config.family.value.upper()
    guess = _guess(layers)
    seems = f"it seems to be for {guess}" if guess and guess != family else "it seems to be for another model"
    why = f"its layer {clip(misfit, 100)!r} has another shape" if misfit else "none of its layers is one of the model's"
    return TensorMismatch(f"{path} does not fit this {family} model: {why}; {seems}", hint=f"use a LoRA for {family}")


def _guess(layers: Mapping[str, Parts]) -> str | None:
    widths = {name: tuple(parts["down"].shape) for name, parts in layers.items() if "down" in parts}
    return seems_for({**dict.fromkeys(layers, ()), **widths})
