"""New LoRAs: from what sets two models apart, and from other LoRAs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hayate.errors import TensorMismatch, UsageError, clip
from hayate.models.config import Family, ModelConfig
from hayate.weights.detect import UNET_PREFIX
from hayate.weights.lora import Change, read_adapter
from hayate.weights.lora_kinds import factors_of
from hayate.weights.lora_names import Place, places_of
from hayate.weights.merge_inputs import Source, check_families
from hayate.weights.write import entry_of, write_safetensors

_VERSIONS = {Family.SD1: "sd_v1", Family.SD2: "sd_v2", Family.SDXL: "sdxl_base_v1-0"}
"""As kohya's scripts name the base model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeLora:
    """The tensors of a new file, and how good they are."""

    tensors: Mapping[str, Tensor]
    family: Family
    ranks: tuple[int, ...]
    """Of each layer."""
    kept: float
    """The share of the difference that they hold: of its squared numbers, in the layers that a LoRA can change."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cut:
    """A matrix as a thin product. Shapes: `up` [out, rank], `down` [rank, in], float64."""

    up: Tensor
    down: Tensor
    whole: float
    """The sum of all squared singular values."""
    kept: float


@torch.no_grad()
def extract_lora(
    a: Source,
    b: Source,
    *,
    rank: int | None,
    energy: float | None = None,
    on_share: Callable[[float], None] = lambda share: None,
) -> MadeLora:
    """The LoRA that makes A nearly B, of a rank, or of the least ranks that hold a share of each layer's difference.

    With both, `rank` is the highest. Every linear layer and convolution can be changed; norms and biases can't.
    Raises: TensorMismatch for models of other families or shapes; UsageError for a rank or share out of range, and for
    models that do not differ.
    Cost: 0.1 to 2 s for each layer, in float64; minutes for SD1, a quarter of an hour for SDXL.
    Source: Eckart & Young 1936: the truncated singular value decomposition is the nearest of its rank.
    """
    _check_cut(rank, energy)
    list(check_families({"A": a, "B": b}))
    names = file_names(a.config)
    tensors: dict[str, Tensor] = {}
    ranks: list[int] = []
    whole = kept = 0.0
    for done, (place, name) in enumerate(names.items(), start=1):
        cut = cut_matrix(_difference(a, b, place), rank, energy)
        whole, kept = whole + cut.whole, kept + cut.kept
        if cut.down.shape[0]:
            ranks.append(cut.down.shape[0])
            tensors |= _layer(name, place, cut.up, cut.down)
        on_share(done / len(names))
    if not tensors:
        raise UsageError("the models do not differ in any layer that a LoRA can change", hint="choose two other models")
    return MadeLora(tensors=tensors, family=a.config.family, ranks=tuple(ranks), kept=kept / whole)


@torch.no_grad()
def merge_loras(loras: Sequence[tuple[Path, float]], config: ModelConfig, rank: int | None = None) -> MadeLora:
    """One LoRA that changes a model as all of these do together, each at its strength.

    Without `rank` it is exact, and its rank the sum of theirs.
    Raises: ModelFileError, TensorMismatch for a file that is no LoRA for such models, or of another kind than low-rank.
    Cost: a second or two for SD1.
    """
    _check_cut(rank, None)
    names, notes = file_names(config), []
    factors: dict[Place, list[tuple[Tensor, Tensor]]] = {}
    for path, strength in loras:
        adapter = read_adapter(path, config)
        notes += adapter.notes()
        if any(change.bias is not None for change in adapter.changes):
            notes.append(f"LoRA {adapter.title}: its changes of biases are left out")
        for change in adapter.changes:
            factors.setdefault(change.place, []).append(_factors(path, change, strength))
    tensors: dict[str, Tensor] = {}
    ranks: list[int] = []
    whole = kept = 0.0
    for place, parts in factors.items():
        up, down = torch.cat([up for up, _ in parts], dim=1), torch.cat([down for _, down in parts])
        cut = _cut_product(up, down, rank)
        whole, kept = whole + cut.whole, kept + cut.kept
        ranks.append(cut.down.shape[0])
        tensors |= _layer(names[place], place, cut.up, cut.down)
    share = kept / whole if whole else 1.0
    return MadeLora(tensors=tensors, family=config.family, ranks=tuple(ranks), kept=share, notes=tuple(notes))


def write_lora(
    made: MadeLora, path: Path, dtype: torch.dtype = torch.float16, *, may_replace: bool = False, comment: str = ""
) -> None:
    """Writes the file as kohya's scripts do. Raises: OutputError."""
    tensors = {name: tensor.to(dtype) for name, tensor in made.tensors.items()}
    top = str(max(made.ranks))
    metadata = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": top,
        "ss_network_alpha": top,
        "ss_output_name": path.stem,
        "ss_base_model_version": _VERSIONS.get(made.family, made.family.value),
        "ss_training_comment": comment,
    }
    entries = [entry_of(name, tensor) for name, tensor in tensors.items()]
    write_safetensors(path, entries, tensors.__getitem__, metadata, may_replace=may_replace)


def file_names(config: ModelConfig) -> dict[Place, str]:
    """What kohya's scripts call each layer with a matrix or kernel: by diffusers' names, SDXL's U-Net by its own."""
    first: dict[Place, str] = {}
    last: dict[Place, str] = {}
    for name, place in places_of(config).items():
        if len(place.shape) > 1 and "embedding" not in place.weight and math.prod(place.shape):
            first.setdefault(place, name)
            last[place] = name
    is_own = config.family in (Family.SDXL, Family.SDXL_REFINER)
    return {place: name if is_own or place.network else last[place] for place, name in first.items()}


def cut_matrix(matrix: Tensor, rank: int | None, energy: float | None) -> _Cut:
    """The nearest product of a rank, each half with the roots of the singular values. Shapes: [out, …], flattened.

    By the eigenvectors of the smaller of M·Mᵀ and Mᵀ·M: what is below 1e-7 of the largest singular value is noise.
    """
    matrix = matrix.flatten(1).double()
    is_tall = matrix.shape[0] > matrix.shape[1]
    wide = matrix.T if is_tall else matrix
    values, vectors = torch.linalg.eigh(wide @ wide.T)
    values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
    count = _count(values, rank, energy)
    roots = values[:count].sqrt()
    left = vectors[:, :count]
    up, down = left * roots.sqrt(), (left.T @ wide) / roots.sqrt().unsqueeze(1)
    if is_tall:
        up, down = down.T, up.T
    return _Cut(up=up, down=down, whole=float(values.sum()), kept=float(values[:count].sum()))


def _count(values: Tensor, rank: int | None, energy: float | None) -> int:
    """How many of the squared singular values, the largest first, are kept."""
    real = int((values > values[0] * 1e-14).sum()) if len(values) else 0
    count = real if rank is None else min(rank, real)
    if energy is not None and real:
        shares = values.cumsum(0) / values.sum()
        count = min(count, int((shares < energy - 1e-12).sum()) + 1)
    return count


def _cut_product(up: Tensor, down: Tensor, rank: int | None) -> _Cut:
    """The nearest product of a rank to up·down, without the product itself."""
    if rank is None or down.shape[0] <= rank:
        size = float(((up.T @ up) * (down @ down.T)).sum())
        return _Cut(up=up, down=down, whole=size, kept=size)
    left, upper = torch.linalg.qr(up)
    right, lower = torch.linalg.qr(down.T)
    inner, values, outer = torch.linalg.svd(upper @ lower.T, full_matrices=False)
    roots = values[:rank].sqrt()
    kept_up, kept_down = left @ inner[:, :rank] * roots, (right @ outer[:rank].T * roots).T
    return _Cut(up=kept_up, down=kept_down, whole=float((values**2).sum()), kept=float((values[:rank] ** 2).sum()))


def _difference(a: Source, b: Source, place: Place) -> Tensor:
    """B − A of one layer. Shapes: those of the place, float64. Raises: TensorMismatch."""
    text = a.config.text
    name = (UNET_PREFIX if place.network == 0 else text[place.network - 1].prefix) + place.weight
    before, after = (_rows(source, name, place) for source in (a, b))
    difference = after.double()
    for row, own in zip(difference, before, strict=True):  # one by one: no second copy in float64
        row.sub_(own)
    return difference


def _rows(source: Source, name: str, place: Place) -> Tensor:
    if name not in source.names:
        raise TensorMismatch(f"{source.checkpoint.path}: tensor {name!r} is missing", hint="use whole checkpoints")
    tensor = source.get(name)
    if place.third is not None:
        rows = tensor.shape[0] // 3
        tensor = tensor[place.third * rows : (place.third + 1) * rows]
    if tensor.numel() != math.prod(place.shape) or tensor.shape[0] != place.shape[0]:
        shapes = f"{list(tensor.shape)}, not {list(place.shape)}"
        hint = "compare models of one architecture"
        raise TensorMismatch(f"{source.checkpoint.path}: tensor {name!r} has shape {shapes}", hint=hint)
    return tensor.reshape(place.shape)


def _layer(name: str, place: Place, up: Tensor, down: Tensor) -> dict[str, Tensor]:
    """A layer as the file has it; its α is its rank, so that its scale is 1."""
    rank, kernel = down.shape[0], [1] * (len(place.shape) - 2)
    return {
        f"{name}.lora_up.weight": up.reshape(place.shape[0], rank, *kernel).float().contiguous(),
        f"{name}.lora_down.weight": down.reshape(rank, *place.shape[1:]).float().contiguous(),
        f"{name}.alpha": torch.tensor(float(rank)),
    }


def _factors(path: Path, change: Change, strength: float) -> tuple[Tensor, Tensor]:
    parts = None if change.kind is None else factors_of(change.kind, change.parts)
    if parts is None:
        kind = change.kind.title if change.kind else "bias"
        message = f"{path} has a layer of the kind {kind}, which is no plain product: {clip(change.place.weight, 100)}"
        raise TensorMismatch(message, hint='put it into a checkpoint by lora(A, "name", 1) and extract a LoRA of that')
    up, down, scale = parts
    return up.double() * (scale * strength), down.double()


def _check_cut(rank: int | None, energy: float | None) -> None:
    if rank is not None and rank < 1:
        raise UsageError(f"the rank {rank} is too low", hint="1 or more, such as 32")
    if energy is not None and not 0 < energy <= 1:
        raise UsageError(f"the share {energy:g} is out of range", hint="above 0 and at most 1, such as 0.95")
