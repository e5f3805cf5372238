"""What is inside a checkpoint, part by part, and which files hold the same numbers under other names."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

import torch

from hayate.errors import HayateError
from hayate.models.clip import text_encoder
from hayate.models.config import ModelConfig
from hayate.models.layers import skeleton
from hayate.models.unet import UNet
from hayate.models.vae import AutoencoderKL
from hayate.weights.detect import UNET_PREFIX, VAE_PREFIX
from hayate.weights.hashes import remembered
from hayate.weights.header import TensorInfo
from hayate.weights.ignored import is_ignored
from hayate.weights.read import Checkpoint, open_checkpoint, read_header

PART_PREFIXES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "unet": (UNET_PREFIX,),
        "text": ("cond_stage_model.", "conditioner."),
        "vae": (VAE_PREFIX,),
        "ema": ("model_ema.",),
    }
)
"""Where a checkpoint's parts start; what starts otherwise is "other"."""
PARTS = (*PART_PREFIXES, "other")
_VAE_STARTS = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
_BLOCK = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True)
class PartSize:
    """One part of a checkpoint, from its header."""

    tensors: int
    size_bytes: int
    dtypes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alike:
    """Files that hold the same numbers."""

    parts: tuple[str, ...]
    """The parts that all of them share, to the bit."""
    paths: tuple[Path, ...]
    is_whole: bool
    """Whether that is all that they hold."""
    size_bytes: int
    """What the shared parts take in one of them."""


def part_of_name(name: str) -> str:
    """The part that a tensor belongs to; those of a VAE's own file are its VAE."""
    for part, prefixes in PART_PREFIXES.items():
        if name.startswith(prefixes):
            return part
    return "vae" if name.startswith(_VAE_STARTS) else "other"


def part_sizes(tensors: Mapping[str, TensorInfo]) -> dict[str, PartSize]:
    """Every part that is there."""
    found: dict[str, list[TensorInfo]] = {}
    for name, info in tensors.items():
        found.setdefault(part_of_name(name), []).append(info)
    return {
        part: PartSize(
            tensors=len(found[part]),
            size_bytes=sum(info.size_bytes for info in found[part]),
            dtypes=tuple(sorted({info.dtype for info in found[part]})),
        )
        for part in PARTS
        if part in found
    }


def missing_and_extra(
    tensors: Mapping[str, TensorInfo], config: ModelConfig
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The tensors that the architecture needs and the file lacks, and those that it has no use for.

    Known companions (position numbers, averages, schedules) are neither.
    """
    wanted = {name for name, shape in expected_shapes(config).items() if math.prod(shape)}
    extra = (name for name in tensors if name not in wanted and not is_ignored(_inner(name, config)))
    return tuple(sorted(wanted - tensors.keys())), tuple(sorted(extra))


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that a checkpoint of this architecture has."""
    with skeleton():
        networks = {
            UNET_PREFIX: UNet(config.unet),
            VAE_PREFIX: AutoencoderKL(config.vae),
            **{text.prefix: text_encoder(text) for text in config.text},
        }
    return {
        prefix + name: tuple(tensor.shape)
        for prefix, network in networks.items()
        for name, tensor in network.named_parameters()
    }


def part_digest(path: Path, part: str, cache_dir: Path | None = None, *, is_rounded: bool = False) -> str:
    """A SHA-256 of a part's tensors: names without their prefix, types, shapes and bytes, whatever their order.

    `is_rounded` takes numbers as fp16 has them, so that a part is recognised after it was halved.
    Raises: UsageError, ModelFileError. Cost: the part is read once, then the cache knows.
    """
    label = f"{'rounded ' if is_rounded else ''}tensors of {part} in "
    return remembered(path, cache_dir, label, partial(_digest, part=part, is_rounded=is_rounded))


def find_vae(path: Path, others: Iterable[Path], cache_dir: Path | None = None) -> tuple[Path, ...]:
    """The files among `others` whose VAE is that of the checkpoint at `path`, when both are rounded to fp16.

    Cost: VAEs are read once, 0.1 to 0.4 s each; unreadable files are passed over.
    """
    own = part_digest(path, "vae", cache_dir, is_rounded=True)
    return tuple(each for each in others if _digest_or_none(each, cache_dir) == own)


def find_alike(
    paths: Sequence[Path], cache_dir: Path | None = None, on_file: Callable[[Path], None] = lambda path: None
) -> tuple[Alike, ...]:
    """Files that are the same but for their names, order and metadata; then those that share parts.

    `on_file` is told which file is looked at. Files that can't be read as models are passed over.
    Cost: a part is read only where another file's has the same names, types and shapes, and then the cache knows.
    """
    digests = _digests(paths, cache_dir, on_file)
    known = {path: parts for path, parts in digests.items() if all(digest for digest, _ in parts.values())}
    whole = _grouped({path: tuple(sorted(parts.items())) for path, parts in known.items()})
    first = {path: group[0] for group in whole for path in group}
    apart = [path for path in digests if first.get(path, path) == path]
    found = [_alike(group, tuple(digests[group[0]]), digests, is_whole=True) for group in whole]
    shared: dict[tuple[Path, ...], list[str]] = {}
    for part in ("unet", "text", "vae"):
        keyed = {path: digests[path][part] for path in apart if part in digests[path] and digests[path][part][0]}
        for group in _grouped(keyed):
            shared.setdefault(group, []).append(part)
    return (*found, *(_alike(group, tuple(parts), digests) for group, parts in shared.items()))


def spare_bytes(found: Iterable[Alike]) -> int:
    """What would be won if of files that are the same only one was kept."""
    return sum(each.size_bytes * (len(each.paths) - 1) for each in found if each.is_whole)


def distinct_files(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Each file once: links to one that is listed already take no space of their own. Links that lead nowhere stay."""
    found: dict[object, Path] = {}
    for path in sorted(paths, key=Path.is_symlink):
        try:
            status = path.stat()
        except OSError:
            found[path] = path
        else:
            found.setdefault((status.st_dev, status.st_ino), path)
    return tuple(sorted(found.values()))


def _inner(name: str, config: ModelConfig) -> str:
    prefixes = (UNET_PREFIX, VAE_PREFIX, *(text.prefix for text in config.text))
    return next((name[len(prefix) :] for prefix in prefixes if name.startswith(prefix)), name)


def _digest_or_none(path: Path, cache_dir: Path | None) -> str | None:
    try:
        has_vae = any(part_of_name(name) == "vae" for name in read_header(path).tensors)
        return part_digest(path, "vae", cache_dir, is_rounded=True) if has_vae else None
    except HayateError:
        return None


def _digest(path: Path, *, part: str, is_rounded: bool) -> str:
    digest = hashlib.sha256()
    with open_checkpoint(path) as checkpoint:
        for short, name in _names(checkpoint.tensors, part):
            info = checkpoint.tensors[name]
            dtype = "F16" if is_rounded else info.dtype
            shape = _squeezed(info.shape) if is_rounded else info.shape
            digest.update(f"{short} {dtype} {list(shape)}\n".encode())
            _update(digest, checkpoint, name, is_rounded=is_rounded)
    return digest.hexdigest()


def _update(digest: hashlib._Hash, checkpoint: Checkpoint, name: str, *, is_rounded: bool) -> None:
    flat = checkpoint.get(name).reshape(-1)
    for block in flat.split(_BLOCK):
        plain = block.half() if is_rounded and block.is_floating_point() else block
        digest.update(plain.contiguous().view(torch.uint8).numpy().data)


def _names(tensors: Mapping[str, TensorInfo], part: str) -> list[tuple[str, str]]:
    """The part's tensors in order, each with its name without the part's prefix."""
    names = (name for name in tensors if part_of_name(name) == part)
    prefixes = PART_PREFIXES.get(part, ())
    return sorted(
        (next((name[len(each) :] for each in prefixes if name.startswith(each)), name), name) for name in names
    )


def _squeezed(shape: Sequence[int]) -> list[int]:
    """A matrix that is stored as a 1×1 convolution is the same matrix."""
    return [size for place, size in enumerate(shape) if place < 2 or size != 1]


_Digest = tuple[str, int]
"""The digest, empty for a part that no other file can share, and the bytes."""


def _digests(
    paths: Sequence[Path], cache_dir: Path | None, on_file: Callable[[Path], None]
) -> dict[Path, dict[str, _Digest]]:
    """Digests of the parts of every readable file, where another file has a part of the same layout."""
    layouts: dict[Path, dict[str, tuple[object, int]]] = {}
    for path in paths:
        try:
            tensors = read_header(path).tensors
        except HayateError:
            continue
        layouts[path] = {part: _layout(tensors, part) for part in part_sizes(tensors)}
    counts: dict[object, int] = {}
    for parts in layouts.values():
        for part, (layout, _) in parts.items():
            counts[part, layout] = counts.get((part, layout), 0) + 1
    found: dict[Path, dict[str, _Digest]] = {}
    for path, parts in layouts.items():
        on_file(path)
        found[path] = {
            part: (_digest_or_nothing(path, part, cache_dir) if counts[part, layout] > 1 else "", size_bytes)
            for part, (layout, size_bytes) in parts.items()
        }
    return found


def _digest_or_nothing(path: Path, part: str, cache_dir: Path | None) -> str:
    try:
        return part_digest(path, part, cache_dir)
    except HayateError:  # a type that can't be read, or a file that went away
        return ""


def _layout(tensors: Mapping[str, TensorInfo], part: str) -> tuple[object, int]:
    infos = [(short, tensors[name]) for short, name in _names(tensors, part)]
    layout = tuple((short, info.dtype, tuple(info.shape)) for short, info in infos)
    return layout, sum(info.size_bytes for _, info in infos)


def _grouped(keyed: Mapping[Path, object]) -> list[tuple[Path, ...]]:
    """Paths of one key, where there are several."""
    groups: dict[object, list[Path]] = {}
    for path, key in keyed.items():
        groups.setdefault(key, []).append(path)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def _alike(
    group: tuple[Path, ...],
    parts: tuple[str, ...],
    digests: Mapping[Path, Mapping[str, _Digest]],
    *,
    is_whole: bool = False,
) -> Alike:
    size_bytes = sum(digests[group[0]][part][1] for part in parts)
    return Alike(parts=parts, paths=group, is_whole=is_whole, size_bytes=size_bytes)
