"""The models in a folder: what is there, what is wrong with it, and which one a name means."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hayate.errors import ModelFileError, UnknownName, UsageError, clip
from hayate.models.config import Family
from hayate.weights.detect import detect_family
from hayate.weights.read import read_header

READABLE = frozenset({".safetensors"})
REFUSED = frozenset({".ckpt", ".pt", ".pth", ".bin"})
"""Listed with the reason why they are not opened; what decides is the content, not this extension."""
RECIPES = frozenset({".recipe"})
"""Texts that say how a model is merged of others."""

BUILT_IN = "built-in"
"""The name of the small model that comes with Hayate."""

_TITLE = re.compile(r"(?P<name>.+?)\s*\[(?P<hash>[0-9a-f]{8,64})\]", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """One model file of a folder."""

    name: str
    """Its path inside the folder, with forward slashes and the extension."""
    path: Path
    family: Family | None
    size_bytes: int
    problem: str | None
    """Why it can't be used, or None."""


def list_models(folder: Path, *, follows_links: bool = True) -> tuple[ModelEntry, ...]:
    """Every model file in `folder` and below, sorted by name; broken ones with the reason.

    People keep models on another disk and link to them; a server's list passes `follows_links=False` and shows such a
    link as a problem.
    Cost: only headers are read; 1 to 10 ms for each file.
    """
    root = None if follows_links else folder.resolve()
    return tuple(_entry(name, path, root) for name, path in _files(folder, follows_links))


def model_files(folder: Path) -> tuple[Path, ...]:
    """The files in `folder` and below that can be opened as models, sorted by name. Cost: none is read."""
    return tuple(path for _, path in _files(folder, follows_links=True) if path.suffix.lower() in READABLE)


def all_files(folder: Path) -> tuple[Path, ...]:
    """The files in `folder` and below that are called models, pickles too, sorted by name. Cost: none is read."""
    return tuple(path for _, path in _files(folder, follows_links=True))


def find_model(name: str, folder: Path, built_in: Path | None = None, *, allows_paths: bool = True) -> Path:
    """The file that `name` means: a path, a model's name in `folder` with or without extension, or "title [hash]".

    A name never leads out of the folder. Only the path of an existing file and the user's own links do, where
    `allows_paths`: on the command line, never for a server's callers.
    Raises: UnknownName, which lists the nearest names of models and recipes; UsageError for a name that several files
    share.
    """
    if name == BUILT_IN and built_in is not None:
        return built_in
    if allows_paths and (path := _as_path(name)) is not None and path.suffix.lower() not in RECIPES:
        return path
    files = dict(_files(folder, follows_links=allows_paths))
    title = _TITLE.fullmatch(name)
    for wanted in (name, title["name"]) if title else (name,):
        matches = _matches(wanted, files)
        if len(matches) > 1:
            raise UsageError(f"{clip(wanted)!r} is the name of several models", hint=f"choose {' or '.join(matches)}")
        if matches:
            return _check_inside(files[matches[0]], None if allows_paths else folder.resolve())
    raise unknown_model(name, folder, built_in, follows_links=allows_paths)


def unknown_model(name: str, folder: Path, built_in: Path | None = None, *, follows_links: bool = True) -> UnknownName:
    """The error for a name that nothing in `folder` has."""
    found = (name for name, _ in _files(folder, follows_links))
    known = [*found, *([BUILT_IN] if built_in else []), *recipe_files(folder, follows_links=follows_links)]
    return UnknownName("model", name, known)


def recipe_files(folder: Path, *, follows_links: bool = True) -> dict[str, Path]:
    """The saved recipes in `folder` and below, by their names without the extension."""
    return {_stem(name): path for name, path in _files(folder, follows_links, RECIPES)}


def find_recipe(name: str, folder: Path, *, allows_paths: bool = True) -> Path | None:
    """The saved recipe that `name` means, by the rules of `find_model`; None where there is none.

    Raises: UsageError for a name that several files share.
    """
    if allows_paths and Path(name).suffix.lower() in RECIPES and (path := _as_path(name)) is not None:
        return path
    files = dict(_files(folder, allows_paths, RECIPES))
    matches = _matches(name, files)
    if len(matches) > 1:
        raise UsageError(f"{clip(name)!r} is the name of several recipes", hint=f"choose {' or '.join(matches)}")
    return _check_inside(files[matches[0]], None if allows_paths else folder.resolve()) if matches else None


def title_and_hash(text: str) -> tuple[str, str]:
    """The parts of "title [hash]"; a text without a hash is all title."""
    found = _TITLE.fullmatch(text)
    return (found["name"], found["hash"]) if found else (text, "")


def find_lora(name: str, folder: Path) -> Path:
    """The file in `folder` and below that a prompt calls `name`: by its file name, else by its trainer's title for it.

    A name never leads out of the folder, except by the user's own links.
    Raises: UnknownName, which lists the nearest names; UsageError for a name that several files share.
    Cost: headers are read only where no file has the name.
    Source: A1111 behaviour, docs/compat.md.
    """
    files = dict(_files(folder, follows_links=True))
    matches = _matches(name, files) or [each for each, path in files.items() if _title_of(path) == name]
    if len(matches) > 1:
        raise UsageError(f"{clip(name)!r} is the name of several LoRAs", hint=f"choose {' or '.join(matches)}")
    if not matches:
        raise UnknownName("LoRA", name, map(_stem, files))
    return files[matches[0]]


def _title_of(path: Path) -> str | None:
    """What a LoRA was called when it was trained; None for files that say nothing or can't be read."""
    try:
        return read_header(path).metadata.get("ss_output_name")
    except (ModelFileError, UsageError):
        return None


def _as_path(name: str) -> Path | None:
    """`name` as the path of an existing file or folder; a bare file name must have a model's extension."""
    try:
        path = Path(name).expanduser()
        is_path = path.exists() and (len(path.parts) > 1 or path.suffix.lower() in READABLE | REFUSED | RECIPES)
    except (OSError, ValueError, RuntimeError):  # too long, a NUL inside, or an unknown ~user
        return None
    return path if is_path else None


def _matches(wanted: str, files: dict[str, Path]) -> list[str]:
    """Names in `files` that `wanted` can mean: exact, without folders or extension, or without regard to case."""
    plain = wanted.replace("\\", "/").removeprefix("./")
    if plain in files:
        return [plain]
    forms = {name: (_stem(name), name.rpartition("/")[2], _stem(name.rpartition("/")[2])) for name in files}
    exact = [name for name, others in forms.items() if plain in others]
    folded = plain.casefold()
    return exact or [
        name for name, others in forms.items() if folded in {name.casefold(), *(other.casefold() for other in others)}
    ]


def _stem(name: str) -> str:
    return name.rpartition(".")[0]


def _files(
    folder: Path, follows_links: bool, suffixes: frozenset[str] = READABLE | REFUSED
) -> Iterator[tuple[str, Path]]:
    """Name and path of every model file in `folder` and below, and of the links out of it that are not followed."""
    found: list[Path] = []
    root = folder.resolve()
    seen = {root}
    for parent, folders, names in os.walk(folder, followlinks=follows_links):
        # A link can lead back to a folder above it: each real folder is entered once.
        folders[:] = [inner for inner in folders if inner[0] != "." and _is_new(Path(parent, inner).resolve(), seen)]
        links_out = [] if follows_links else [inner for inner in folders if _leads_out(Path(parent, inner), root)]
        models = [name for name in names if name[0] != "." and Path(name).suffix.lower() in suffixes]
        found += [Path(parent, name) for name in models + links_out]
    yield from sorted((path.relative_to(folder).as_posix(), path) for path in found)


def _is_new(path: Path, seen: set[Path]) -> bool:
    is_new = path not in seen
    seen.add(path)
    return is_new


def _leads_out(path: Path, root: Path) -> bool:
    return path.is_symlink() and not path.resolve().is_relative_to(root)


def _entry(name: str, path: Path, root: Path | None) -> ModelEntry:
    family, problem = None, None
    size_bytes = path.stat().st_size if path.is_file() else 0
    try:
        family = detect_family(read_header(_check_inside(path, root)).tensors, source=str(path))
    except (ModelFileError, UsageError) as error:
        problem = str(error)
    return ModelEntry(name=name, path=path, family=family, size_bytes=size_bytes, problem=problem)


def _check_inside(path: Path, root: Path | None) -> Path:
    """`path`, unless there is a `root` that it must not leave and does."""
    if root is not None and _leads_out(path, root):
        hint = "give the file's own path, or choose the folder it is in as models_dir"
        raise UsageError(f"{path} is a link that leads out of the models' folder", hint=hint)
    return path
