"""Which extensions there are: folders, installed packages, and those that Hayate brings; none is imported."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from hayate import __version__
from hayate.errors import UsageError, clip
from hayate.extensions.manifest import FILE, Manifest, is_for, read_manifest

ENTRY_POINTS = "hayate.extensions"
BUILT_IN_DIR = Path(__file__).parent / "builtin"
PARENT = "hayate_extensions"
"""The package whose modules the folders are, so that nothing of them is on the path of imports."""
MAX_ENTRY_POINTS_BYTES = 256 * 1024
_PLACE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", re.ASCII)


class Origin(StrEnum):
    """Where an extension comes from."""

    BUILT_IN = "built in"
    FOLDER = "folder"
    PACKAGE = "package"
    A1111 = "for A1111"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An extension as it lies there."""

    name: str
    origin: Origin
    path: Path | None
    """The folder of its files."""
    package: str = ""
    """What its modules are imported from; of those that are built in the places are whole."""
    manifest: Manifest | None = None
    problem: str = ""
    """Why it can't be used."""

    @property
    def is_usable(self) -> bool:
        return self.manifest is not None and not self.problem

    def module_of(self, place: str) -> tuple[str, str]:
        """The module of a hook's place, as it is imported, and the object in it."""
        module, _, name = place.partition(":")
        return (f"{self.package}.{module}" if self.package else module), name


def find_extensions(folder: Path, *, path: Sequence[str] | None = None) -> tuple[Found, ...]:
    """All extensions: the built-in ones first, then the folder's, then those of packages, each by name.

    Of several with one name the first counts, and the others say so.
    Cost: a small file is read for each, and one for each installed package that has entry points.
    """
    found: dict[str, Found] = {}
    doubles: list[Found] = []
    for each in (*built_in(), *_in_folder(folder), *_in_packages(sys.path if path is None else path)):
        if each.name in found:
            problem = f"there is another extension of this name ({found[each.name].origin})"
            doubles.append(Found(name=each.name, origin=each.origin, path=each.path, problem=problem))
        else:
            found[each.name] = each
    return (*found.values(), *doubles)


def built_in() -> Iterator[Found]:
    """Those that Hayate brings."""
    for path in sorted(BUILT_IN_DIR.glob("*.toml")):
        manifest = read_manifest(path)
        yield Found(name=manifest.name, origin=Origin.BUILT_IN, path=None, manifest=manifest)


def _in_folder(folder: Path) -> Iterator[Found]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return  # nobody has to have extensions
    for entry in entries:
        if not entry.name.startswith((".", "_")) and entry.is_dir():
            yield read_folder(Path(entry.path))


def read_folder(path: Path) -> Found:
    """The extension in a folder, whatever is wrong with it."""
    name = path.name if path.name.isprintable() else ascii(path.name)  # it will be shown on a terminal
    if not (path / FILE).is_file():
        if is_for_a1111(path):
            problem = "an extension for A1111, whose code is not run here"
            return Found(name=name, origin=Origin.A1111, path=path, problem=problem)
        return Found(name=name, origin=Origin.FOLDER, path=path, problem=f"it has no {FILE}")
    found = _read(name, Origin.FOLDER, path, f"{PARENT}.{path.name}")
    if found.manifest is not None and found.manifest.name != path.name:
        problem = f"{FILE} says the name {found.manifest.name!r}, the folder another one"
        return Found(name=name, origin=Origin.FOLDER, path=path, problem=problem)
    return found


def is_for_a1111(path: Path) -> bool:
    """Whether a folder has what A1111 looks for in an extension."""
    if any((path / name).is_file() for name in ("install.py", "preload.py", "metadata.ini")):
        return True
    return any((path / part).is_dir() for part in ("scripts", "javascript"))


def _in_packages(path: Iterable[str]) -> Iterator[Found]:
    for name, module in sorted(_entry_points(path)):
        folder = _folder_of(module)
        if folder is None:
            yield Found(name=name, origin=Origin.PACKAGE, path=None, problem=f"there is no package {clip(module)}")
            continue
        found = _read(name, Origin.PACKAGE, folder, module)
        if found.manifest is not None and found.manifest.name != name:
            problem = f"{FILE} says the name {found.manifest.name!r}, the entry point {clip(name)!r}"
            found = Found(name=name, origin=Origin.PACKAGE, path=folder, problem=problem)
        yield found


def _entry_points(path: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Name and package of every entry point of our group.

    Read by hand: `importlib.metadata` alone takes longer to import than all else here takes together.
    """
    for folder in dict.fromkeys(path):
        try:
            entries = [entry.path for entry in os.scandir(folder or ".") if entry.name.endswith(".dist-info")]
        except OSError:
            continue
        for entry in entries:
            yield from read_entry_points(Path(entry, "entry_points.txt"))


def read_entry_points(file: Path) -> Iterator[tuple[str, str]]:
    """Those of our group in an `entry_points.txt`."""
    try:
        with file.open(encoding="utf-8", errors="replace") as opened:
            text = opened.read(MAX_ENTRY_POINTS_BYTES)
    except OSError:
        return
    yield from entry_points_of(text)


def entry_points_of(text: str) -> Iterator[tuple[str, str]]:
    """Name and package of each row of our group."""
    if ENTRY_POINTS not in text:
        return
    is_ours = False
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            is_ours = line == f"[{ENTRY_POINTS}]"
        elif is_ours and "=" in line and not line.startswith(("#", ";")):
            name, _, module = map(str.strip, line.partition("="))
            yield name, module


def _folder_of(module: str) -> Path | None:
    """The folder of a package; its parents alone would be imported, so it has to be one of the topmost."""
    if not _PLACE.fullmatch(module) or "." in module:
        return None
    spec = PathFinder.find_spec(module) or _editable(module)
    places = [] if spec is None else list(spec.submodule_search_locations or ())
    return Path(places[0]) if places else None


def _editable(module: str) -> ModuleSpec | None:
    """A package that an editable installation knows; asking for a topmost one imports nothing."""
    import importlib.util

    try:
        return importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None


def _read(name: str, origin: Origin, path: Path, package: str) -> Found:
    try:
        manifest = read_manifest(path / FILE)
    except UsageError as error:
        return Found(name=name, origin=origin, path=path, problem=str(error))
    problem = ""
    if not is_for(manifest.hayate, __version__):
        problem = f"it is for Hayate {manifest.hayate}, and this is {__version__}"
    return Found(name=name, origin=origin, path=path, package=package, manifest=manifest, problem=problem)
