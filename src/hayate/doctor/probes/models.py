"""The model files: headers, opcodes of pickles and samples; no tensor is read whole, and nothing is unpickled."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from hayate.doctor.facts import ModelFile
from hayate.doctor.probes.ask import homely
from hayate.errors import HayateError, clip
from hayate.settings import Settings
from hayate.weights.detect import detect_family
from hayate.weights.folders import READABLE, all_files
from hayate.weights.header import Header
from hayate.weights.learnt_types import FILE_NAME, SAFE_TYPES, learnt_of, read_learnt
from hayate.weights.marks import layout_mark, sampled_mark
from hayate.weights.overflowing import is_known_to_overflow
from hayate.weights.pickles import is_pickled
from hayate.weights.read import read_header
from hayate.weights.scan import scan

LIMIT_S = 1.5
_EMA = "model_ema."
ModelKind = Literal["checkpoint", "vae", "lora", "embedding"]


def models(settings: Settings, limit_s: float = LIMIT_S) -> tuple[tuple[ModelFile, ...], str | None]:
    """Every model file, and a note where there was no time for all of them.

    Cost: 1 to 10 ms a file, up to `limit_s`.
    """
    ends_at = time.monotonic() + limit_s
    learnt, _ = read_learnt(settings.cache_dir / FILE_NAME)
    found: list[tuple[ModelFile, Header | None]] = []
    paths = list(_paths(settings))
    for path, kind in paths:
        if time.monotonic() > ends_at:
            break
        header = _header(path)
        file = _described(path, kind, header)
        types = dict(file.safe_types) | learnt_of(learnt, path)
        if "vae" not in types and is_known_to_overflow(path, file.size_bytes, settings.cache_dir):
            types["vae"] = "bf16"
        found.append((replace(file, safe_types=types), header))
    note = None
    if len(found) < len(paths):
        note = f"of {len(paths)} model files {len(found)} were looked at: there was no time for more"
    return tuple(_marked(found)), note


def largest(settings: Settings) -> Path | None:
    """The largest checkpoint, whose disk is worth timing."""
    sizes = {}
    for path in all_files(settings.models_dir) if settings.models_dir.is_dir() else ():
        with contextlib.suppress(OSError):
            sizes[path] = path.stat().st_size
    return max(sizes, key=lambda path: sizes[path], default=None)


def _paths(settings: Settings) -> Iterator[tuple[Path, ModelKind]]:
    places: dict[ModelKind, Path] = {
        "checkpoint": settings.models_dir,
        "vae": settings.vae_dir,
        "lora": settings.lora_dir,
        "embedding": settings.embeddings_dir,
    }
    for kind, folder in places.items():
        for path in all_files(folder) if folder.is_dir() else ():
            yield path, kind


def _header(path: Path) -> Header | None:
    try:
        return read_header(path)
    except HayateError:
        return None


def _described(path: Path, kind: ModelKind, header: Header | None) -> ModelFile:
    try:
        size_bytes = path.stat().st_size
    except OSError as error:
        return ModelFile(
            path=homely(path), kind=kind, form="broken", size_bytes=0, problem=f"it can't be opened: {error.strerror}"
        )
    if header is None:
        return _without_header(path, kind, size_bytes)
    dtype_bytes: Counter[str] = Counter()
    ema_bytes = 0
    for name, info in header.tensors.items():
        dtype_bytes[info.dtype] += info.size_bytes
        ema_bytes += info.size_bytes if name.startswith(_EMA) else 0
    family = None
    if kind == "checkpoint":
        with contextlib.suppress(HayateError):
            family = detect_family(header.tensors).value
    return ModelFile(
        path=homely(path),
        kind=kind,
        form="safetensors",
        size_bytes=size_bytes,
        family=family,
        dtype_bytes=dict(dtype_bytes),
        ema_bytes=ema_bytes,
        safe_types=_said(header),
    )


def _without_header(path: Path, kind: ModelKind, size_bytes: int) -> ModelFile:
    """What is no safetensors file: a pickle, with what it would do, or broken, with the reason."""
    if is_pickled(path) and kind != "embedding":  # embeddings are read from pickles, apart and without running any
        try:
            verdict = scan(path).verdict.value
        except HayateError as error:
            verdict = clip(error.message, 120)
        return ModelFile(path=homely(path), kind=kind, form="pickle", size_bytes=size_bytes, pickle_verdict=verdict)
    if is_pickled(path):
        return ModelFile(path=homely(path), kind=kind, form="safetensors", size_bytes=size_bytes)
    problem = "no model under this ending"
    if path.suffix.lower() in READABLE:
        try:
            read_header(path)
        except HayateError as error:
            problem = clip(error.message.replace(str(path), path.name), 200)
    return ModelFile(path=homely(path), kind=kind, form="broken", size_bytes=size_bytes, problem=problem)


def _said(header: Header) -> dict[str, str]:
    """What a converted file says of itself."""
    try:
        types = json.loads(header.metadata.get(SAFE_TYPES, "{}"))
    except (ValueError, RecursionError):
        return {}
    return {str(part): str(name) for part, name in types.items()} if isinstance(types, dict) else {}


def _marked(found: list[tuple[ModelFile, Header | None]]) -> Iterator[ModelFile]:
    """With marks where several files have the same layout; no bytes are read of others."""
    layouts = [None if header is None else layout_mark(header) for _, header in found]
    counts = Counter(layouts)
    for (file, header), layout in zip(found, layouts, strict=True):
        mark = None
        if header is not None and counts[layout] > 1:
            with contextlib.suppress(OSError):
                mark = sampled_mark(header)
        yield replace(file, tensors_mark=mark)
