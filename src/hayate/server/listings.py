"""What is in the user's folders, as lists that many callers may ask for often: models, VAEs, LoRAs, and the rest."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hayate.errors import HayateError, UsageError
from hayate.prompt.styles import StyleSheet, read_styles
from hayate.settings import Settings
from hayate.weights.builtin import builtin_model
from hayate.weights.embedding_files import embedding_files
from hayate.weights.folders import BUILT_IN, ModelEntry, find_model, list_models, title_and_hash
from hayate.weights.hashes import known_sha256
from hayate.weights.read import read_header
from hayate.weights.upscalers import A1111_NAMES, upscaler_files

KEPT_S = 5.0
"""A list is this old at most; a folder of many models takes a second to read."""

_T = TypeVar("_T")
_DIGITS = re.compile(r"[0-9a-fA-F]{10,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedModel:
    """A checkpoint or VAE, with its hash where that is known already."""

    name: str
    """Its path inside the folder."""
    path: Path
    sha256: str | None
    problem: str | None
    """Why it can't be used."""

    @property
    def stem(self) -> str:
        return self.name.rpartition(".")[0] or self.name

    @property
    def title(self) -> str:
        """As A1111 shows it: with the hash behind it."""
        return f"{self.name} [{self.sha256[:10]}]" if self.sha256 else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedLora:
    """A LoRA as prompts name it."""

    name: str
    alias: str
    """Its trainer's name for it, else the file's."""
    path: Path
    metadata: Mapping[str, Any]
    problem: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedEmbedding:
    """A textual inversion; its size is known where the file says it without being opened whole."""

    name: str
    path: Path
    width: int | None
    vectors: int | None
    problem: str | None


class Listings:
    """The lists; safe from any thread, and slow only when a list is older than `KEPT_S`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, object]] = {}

    def models(self) -> tuple[ListedModel, ...]:
        """The checkpoints, the built-in one first; broken ones with the reason."""
        return self._list("models", self._read_models)

    def vaes(self) -> tuple[ListedModel, ...]:
        """The separate VAEs."""
        return self._list("vaes", self._read_vaes)

    def loras(self) -> tuple[ListedLora, ...]:
        """The LoRAs."""
        return self._list("loras", self._read_loras)

    def embeddings(self) -> tuple[ListedEmbedding, ...]:
        """The textual inversions."""
        found = self._settings.embeddings_dir
        return self._list("embeddings", lambda: tuple(map(_embedding, *_pairs(embedding_files(found)))))

    def upscalers(self) -> Mapping[str, Path]:
        """The upscalers that are files, by their names and by those that A1111 gives them."""
        return self._list("upscalers", self._read_upscalers)

    def styles(self) -> StyleSheet:
        """The styles; none where there is no file.

        Raises: UsageError.
        """
        file = self._settings.styles_file
        return self._list("styles", lambda: read_styles(file) if file.exists() else StyleSheet(styles=()))

    def find_model(self, name: str) -> str:
        """What a job calls the model that a caller calls `name`: "built-in", or its place inside the models' folder.

        A hash that is known means its file.
        Raises: UnknownName, UsageError.
        """
        if title_and_hash(name)[0] == BUILT_IN:
            return BUILT_IN
        if _DIGITS.fullmatch(name) and (found := self._by_hash(name.casefold())) is not None:
            return found
        folder = self._settings.models_dir
        return find_model(name, folder, builtin_model(), allows_paths=False).relative_to(folder).as_posix()

    def find_vae(self, name: str) -> str:
        """The same of a separate VAE.

        Raises: UnknownName, UsageError.
        """
        folder = self._settings.vae_dir
        return find_model(name, folder, allows_paths=False).relative_to(folder).as_posix()

    def refresh(self) -> None:
        """Forgets the lists, so that the next ones are read anew."""
        with self._lock:
            self._kept.clear()

    def _by_hash(self, digits: str) -> str | None:
        return next((each.name for each in self.models() if each.sha256 and each.sha256.startswith(digits)), None)

    def _list(self, name: str, read: Callable[[], _T]) -> _T:
        """Two callers at once may both read; that is only work done twice."""
        with self._lock:
            read_s, kept = self._kept.get(name, (0.0, None))
        if kept is not None and time.monotonic() - read_s < KEPT_S:
            return kept  # pyright: ignore[reportReturnType] - what `read` gave under this name
        made = read()
        with self._lock:
            self._kept[name] = (time.monotonic(), made)
        return made

    def _read_models(self) -> tuple[ListedModel, ...]:
        own = ListedModel(name=BUILT_IN, path=builtin_model(), sha256=self._hash(builtin_model()), problem=None)
        found = list_models(self._settings.models_dir, follows_links=False)
        return (own, *(self._model(each) for each in found))

    def _model(self, entry: ModelEntry) -> ListedModel:
        sha256 = None if entry.problem else self._hash(entry.path)
        return ListedModel(name=entry.name, path=entry.path, sha256=sha256, problem=entry.problem)

    def _read_vaes(self) -> tuple[ListedModel, ...]:
        return tuple(map(self._vae, list_models(self._settings.vae_dir, follows_links=False)))

    def _vae(self, entry: ModelEntry) -> ListedModel:
        """A file that holds a VAE alone is no checkpoint, which is no fault here; a link that leads out is one."""
        try:
            self.find_vae(entry.name)
            read_header(entry.path)
            problem = None
        except HayateError as error:
            problem = str(error)
        sha256 = None if problem else self._hash(entry.path)
        return ListedModel(name=entry.name, path=entry.path, sha256=sha256, problem=problem)

    def _hash(self, path: Path) -> str | None:
        return known_sha256(path, self._settings.cache_dir)

    def _read_loras(self) -> tuple[ListedLora, ...]:
        entries = list_models(self._settings.lora_dir)
        return tuple(_lora(entry.path) for entry in entries if entry.path.is_file())

    def _read_upscalers(self) -> Mapping[str, Path]:
        files = upscaler_files(self._settings.upscalers_dir)
        return {**files, **{name: files[stem] for name, stem in A1111_NAMES.items() if stem in files}}


def _pairs(files: Mapping[str, Path]) -> tuple[tuple[str, ...], tuple[Path, ...]]:
    return tuple(files), tuple(files.values())


def _lora(path: Path) -> ListedLora:
    try:
        metadata, problem = read_header(path).metadata, None
    except HayateError as error:
        metadata, problem = {}, str(error)
    alias = metadata.get("ss_output_name") or path.stem
    parsed = {key: _parsed(value) for key, value in metadata.items()}
    return ListedLora(name=path.stem, alias=alias, path=path, metadata=parsed, problem=problem)


def _parsed(value: str) -> Any:
    """Metadata are texts; trainers put JSON objects into some of them."""
    if not value.startswith("{"):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _embedding(name: str, path: Path) -> ListedEmbedding:
    """Only safetensors files say their size in a header."""
    width = vectors = problem = None
    if path.suffix.lower() == ".safetensors":
        try:
            shapes = [info.shape for info in read_header(path).tensors.values() if len(info.shape) == 2]
            vectors, width = max(shapes, default=(None, None))
        except HayateError as error:
            problem = str(error)
    return ListedEmbedding(name=name, path=path, width=width, vectors=vectors, problem=problem)


def preview_of(path: Path) -> Path | None:
    """The picture beside a file that shows what it makes. Source: A1111 behaviour."""
    stem = os.fspath(path.with_suffix(""))
    for ending in (".png", ".jpg", ".jpeg", ".webp"):
        for middle in (".preview", ""):
            if (found := Path(f"{stem}{middle}{ending}")).is_file():
                return found
    return None


def inside(path: Path, roots: tuple[Path, ...]) -> Path:
    """The real path of a file, if one of the folders holds it.

    Raises: UsageError.
    """
    try:
        real = path.resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        raise UsageError("there is no such file", hint="take a name from the lists") from None
    if not real.is_file() or not any(real.is_relative_to(root.resolve()) for root in roots):
        raise UsageError("there is no such file", hint="take a name from the lists")
    return real
