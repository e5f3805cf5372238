"""What becomes of a model's tensors on the way to another file: which stay, in which type, under which averages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from hayate.errors import UnknownName, UsageError
from hayate.weights.detect import UNET_PREFIX, VAE_PREFIX
from hayate.weights.diffusers_read import is_diffusers_folder, open_diffusers
from hayate.weights.narrowing import Loss, narrowed
from hayate.weights.source import Lazy, Source, open_file

if TYPE_CHECKING:
    from torch import Tensor

PARTS = ("unet", "text", "vae", "other")
TEXT_PREFIXES = ("cond_stage_model.", "conditioner.")
EMA_PREFIX = "model_ema."
STORED = MappingProxyType({"fp32": "F32", "fp16": "F16", "bf16": "BF16", "fp8": "F8_E4M3"})
"""The users' names of the types that weights are stored in."""
_JUNK = ("optimizer_states.", "lr_schedulers.", "callbacks.", "loss.", "first_stage_model.loss.", "loops.")
_FLOATS = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})


class Ema(StrEnum):
    """What becomes of the average of the U-Net's weights that training keeps."""

    NONE = "none"
    """It stays beside the weights."""
    ONLY = "only"
    """It takes their place."""
    DROP = "drop"
    """It goes."""


class Treatment(StrEnum):
    """What becomes of a part's tensors."""

    COPY = "copy"
    CONVERT = "convert"
    DELETE = "delete"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """What a user asks to be done to a model."""

    dtype: str | None = None
    """A name in `STORED`; None keeps each tensor's own."""
    ema: Ema = Ema.DROP
    parts: Mapping[str, Treatment] = field(default_factory=dict)
    """By a name in `PARTS`; a part that is not named is converted, the other tensors copied."""

    def __post_init__(self) -> None:
        """Raises: UnknownName."""
        if self.dtype is not None and self.dtype not in STORED:
            raise UnknownName("stored type", self.dtype, ("keep", *STORED))
        for part in self.parts:
            if part not in PARTS:
                raise UnknownName("part", part, PARTS)

    def treatment(self, part: str) -> Treatment:
        return self.parts.get(part, Treatment.COPY if part == "other" else Treatment.CONVERT)


@contextmanager
def open_source(path: Path, scratch: Path) -> Iterator[Source]:
    """A model in any form that can be converted: safetensors, pickled, or a diffusers folder.

    Raises: UsageError, ModelFileError.
    """
    with ExitStack() as stack:
        opened = open_diffusers(path, scratch) if is_diffusers_folder(path) else open_file(path, scratch)
        yield stack.enter_context(opened)


def converted(source: Source, conversion: Conversion, losses: list[Loss]) -> Source:
    """`source` as it will be written; what narrowing costs comes into `losses` while it is.

    Raises: UsageError where nothing is left, or averages are asked for that the file does not have.
    """
    tensors = {name: lazy for name, lazy in source.tensors.items() if not name.startswith(_JUNK)}
    tensors = _with_ema(tensors, conversion.ema, source.path)
    kept: dict[str, Lazy] = {}
    for name, lazy in tensors.items():
        part = part_name(name)
        treatment = conversion.treatment(part)
        if treatment is Treatment.DELETE:
            continue
        if name.endswith("embeddings.position_ids"):
            kept[name] = _position_ids(lazy)
        elif treatment is Treatment.CONVERT and conversion.dtype and lazy.dtype in _FLOATS:
            kept[name] = narrowed(name, lazy, _stored(lazy, conversion.dtype, part), losses)
        else:
            kept[name] = lazy
    if not kept:
        raise UsageError(f"nothing of {source.path} would be left", hint="delete fewer parts")
    return replace(source, tensors=kept)


def part_name(name: str) -> str:
    """Which of `PARTS` a tensor belongs to. A file without prefixes is a VAE alone."""
    if name.startswith(UNET_PREFIX) or name.startswith(EMA_PREFIX):
        return "unet"
    if name.startswith(TEXT_PREFIXES):
        return "text"
    is_vae = name.startswith((VAE_PREFIX, "encoder.", "decoder.", "quant_conv.", "post_quant_conv."))
    return "vae" if is_vae else "other"


def with_part(source: Source, part: str, tensors: Mapping[str, Lazy]) -> Source:
    """`source` with all tensors of a part replaced by `tensors`, which have their full names."""
    kept = {name: lazy for name, lazy in source.tensors.items() if part_name(name) != part}
    return replace(source, tensors=kept | dict(tensors))


def part_tensors(source: Source, part: str) -> dict[str, Lazy]:
    """The tensors of one part under their full names, also from a file of that part alone.

    Raises: UsageError where there are none.
    """
    found = {name: lazy for name, lazy in source.tensors.items() if part_name(name) == part}
    found = {name: lazy for name, lazy in found.items() if not name.startswith((*_JUNK, EMA_PREFIX))}
    if not found:
        raise UsageError(f"{source.path} has no {part}", hint=f"choose a file with one; its parts: {_parts_of(source)}")
    if part == "vae" and not any(name.startswith(VAE_PREFIX) for name in found):
        return {VAE_PREFIX + name: lazy for name, lazy in found.items()}
    return found


def _parts_of(source: Source) -> str:
    return ", ".join(sorted({part_name(name) for name in source.tensors}))


def _with_ema(tensors: Mapping[str, Lazy], ema: Ema, path: Path) -> dict[str, Lazy]:
    """Averages are stored under the weights' names without dots."""
    plain = {name: lazy for name, lazy in tensors.items() if not name.startswith(EMA_PREFIX)}
    if ema is Ema.NONE:
        return dict(tensors)
    if ema is Ema.DROP:
        return plain
    averages = {name: EMA_PREFIX + name.removeprefix("model.").replace(".", "") for name in plain}
    found = {name: tensors[average] for name, average in averages.items() if average in tensors}
    if not found:
        raise UsageError(f"{path} keeps no averages (EMA)", hint="use --ema drop")
    return plain | found


def _stored(lazy: Lazy, dtype: str, part: str) -> str:
    """fp8 is for the matrices and kernels of what is large; all else would lose by it and takes little room."""
    is_large = len(lazy.shape) > 1 and part in ("unet", "text")
    return STORED["fp16"] if dtype == "fp8" and not is_large else STORED[dtype]


def _position_ids(lazy: Lazy) -> Lazy:
    """CLIP's 0…76, which some merges have averaged into halves and fractions."""

    def load() -> Tensor:
        import torch

        return torch.arange(lazy.shape[-1], dtype=torch.int64).reshape(lazy.shape)

    return Lazy(dtype="I64", shape=lazy.shape, load=load)
