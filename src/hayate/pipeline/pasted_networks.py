"""The LoRAs and textual inversions that a picture's text names, found by their hashes where the names differ here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from hayate.errors import HayateError, clip
from hayate.pipeline.infotext import Infotext
from hayate.settings import Settings
from hayate.weights.embedding import embedding_hash
from hayate.weights.embedding_files import embedding_files
from hayate.weights.folders import find_lora, model_files
from hayate.weights.hashes import lora_hash, lora_hash_if_known

_PAIR = re.compile(r"\s*(?P<name>[^:,]+):\s*(?P<digits>[0-9a-fA-F]{8,64})")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    key: str
    """The infotext's key with the names and hashes."""
    title: str
    folder: str
    """The setting of their folder."""
    mark: str
    """What stands for one in a prompt, as a pattern of `{}`."""
    find: Callable[[str, Path], Path | None]
    by_hash: Callable[[str, Path, Path], Path | None]
    hash: Callable[[Path, Path], str]


def renamed_networks(info: Infotext, settings: Settings) -> tuple[Callable[[str], str], list[str]]:
    """How a prompt is written with the names that the files have here, and notes on those that are not here.

    A file is another one than the text's where its hash differs; then a note says so, and it is taken.
    """
    changes: list[tuple[re.Pattern[str], str]] = []
    notes: list[str] = []
    for kind in _KINDS:
        folder: Path = getattr(settings, kind.folder)
        for name, digits in _pairs(info.parameters.get(kind.key, "")).items():
            shown = f"{kind.title} {clip(name, 80)}"
            path = kind.find(name, folder)
            if path is not None:
                if not _same(kind.hash, path, settings.cache_dir, digits):
                    notes.append(f"{shown}: the picture was made with one whose hash is {digits}")
                continue
            path = kind.by_hash(digits, folder, settings.cache_dir)
            if path is None:
                notes.append(f"not honoured: {shown} [{digits}] is not in {folder}")
                continue
            notes.append(f"{shown} is called {clip(path.stem, 80)} here")
            changes.append((re.compile(kind.mark.format(re.escape(name)), re.IGNORECASE), path.stem))
    return lambda prompt: _rewritten(prompt, changes), notes


def _rewritten(prompt: str, changes: list[tuple[re.Pattern[str], str]]) -> str:
    for pattern, name in changes:
        prompt = pattern.sub(lambda _, name=name: name, prompt)
    return prompt


def _pairs(text: str) -> Mapping[str, str]:
    return {found["name"].strip(): found["digits"].lower() for found in _PAIR.finditer(text)}


def _same(compute: Callable[[Path, Path], str], path: Path, cache_dir: Path, digits: str) -> bool:
    try:
        return compute(path, cache_dir).startswith(digits[:12])
    except HayateError:
        return False


def _lora(name: str, folder: Path) -> Path | None:
    try:
        return find_lora(name, folder)
    except HayateError:
        return None


def _lora_by_hash(digits: str, folder: Path, cache_dir: Path) -> Path | None:
    """Among files whose hash is known already, or said in the header: no file is read whole for it."""
    files = model_files(folder)
    return next((path for path in files if lora_hash_if_known(path, cache_dir) == digits[:12]), None)


def _embedding_by_hash(digits: str, folder: Path, cache_dir: Path) -> Path | None:
    files = embedding_files(folder).values()
    return next((path for path in files if _same(embedding_hash, path, cache_dir, digits)), None)


_KINDS = (
    _Kind(
        key="Lora hashes",
        title="LoRA",
        folder="lora_dir",
        mark=r"(?<=<lora:){}(?=[:>])|(?<=<lyco:){}(?=[:>])".replace("{}", "{0}"),
        find=_lora,
        by_hash=_lora_by_hash,
        hash=lora_hash,
    ),
    _Kind(
        key="TI hashes",
        title="embedding",
        folder="embeddings_dir",
        mark=r"(?<!\w){0}(?!\w)",
        find=lambda name, folder: MappingProxyType(
            {stem.casefold(): path for stem, path in embedding_files(folder).items()}
        ).get(name.casefold()),
        by_hash=_embedding_by_hash,
        hash=embedding_hash,
    ),
)
