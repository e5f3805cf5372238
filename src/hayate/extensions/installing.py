"""Installing extensions: once, after what they need was resolved, and never again at a start."""

from __future__ import annotations

import os
import shutil
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from hayate import __version__
from hayate.errors import OutputError, UnknownName, UsageError, clip
from hayate.extensions.discovery import Found, Origin, entry_points_of, find_extensions, is_for_a1111
from hayate.extensions.environment import Environment, Package, canonical
from hayate.extensions.manifest import FILE, MAX_BYTES, Manifest, is_for, parse_raw, read_manifest
from hayate.extensions.state import Installed, StateFile

NOT_COPIED = (".git", "__pycache__", "*.pyc", ".venv")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What is to be installed."""

    path: Path
    manifest: Manifest
    is_wheel: bool
    distribution: str = ""
    """Of a wheel: what pip calls it."""

    @property
    def requirements(self) -> tuple[str, ...]:
        return (str(self.path),) if self.is_wheel else self.manifest.requires


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """Everything that an installation changes."""

    source: Source
    packages: tuple[Package, ...]
    """What comes with it."""


class Installer:
    """Puts extensions into a folder, and what they need into an environment."""

    def __init__(self, folder: Path, state: StateFile, environment: Environment | None = None) -> None:
        self._folder = folder
        self._state = state
        self._environment = environment or Environment()

    def plan(self, path: Path) -> Installation:
        """What installing a folder or a wheel would change; nothing is touched.

        Raises: UsageError for what is no extension, is not for this version, is here already, or would change a
        package that is here.
        """
        source = read_source(path)
        name = source.manifest.name
        if not is_for(source.manifest.hayate, __version__):
            message = f"{name} is for Hayate {source.manifest.hayate}, and this is {__version__}"
            raise UsageError(message, hint="take another version of it")
        here = {each.name: each for each in find_extensions(self._folder)}
        if name in here:
            hint = (
                f"hayate extensions remove {name}" if name in self._state.read().installed else "choose which to keep"
            )
            raise UsageError(f"there is an extension {name} already ({here[name].origin})", hint=hint)
        return Installation(source=source, packages=self._environment.added_by(source.requirements))

    def install(self, installation: Installation) -> Installed:
        """Does what was planned, and remembers it.

        Raises: UsageError, OutputError; then nothing of it is there.
        """
        source = installation.source
        name = source.manifest.name
        others = [package for package in installation.packages if canonical(package.name) != source.distribution]
        self._environment.install(others, [source.path] if source.is_wheel else [])
        if not source.is_wheel:
            self._copy(source.path, name)
        row = Installed(
            source=str(source.path.resolve()),
            version=source.manifest.version,
            at_s=time.time(),
            packages=tuple(package.pin for package in installation.packages),
        )
        state = self._state.read()
        self._state.write(replace(state, installed={**state.installed, name: row}).switched(name, True))
        return row

    def remove(self, name: str) -> tuple[str, ...]:
        """Removes what `install` has put there; the packages that came with it stay, and are returned.

        Raises: UnknownName; UsageError for an extension that somebody else has put there.
        """
        state = self._state.read()
        found = next((each for each in find_extensions(self._folder) if each.name == name), None)
        if name not in state.installed:
            if found is None:
                raise UnknownName("installed extension", name, state.installed)
            hint = f"hayate extensions disable {name}"
            if found.origin is not Origin.BUILT_IN:
                hint += f", or remove {found.path} yourself"
            raise UsageError(f"the extension {name} was not put there by `install`", hint=hint)
        row = state.installed[name]
        own = self._take_away(found, row)
        self._state.write(replace(state, installed=_without(state.installed, name)).switched(name, True))
        return tuple(pin for pin in row.packages if canonical(pin.partition("==")[0]) != own)

    def _take_away(self, found: Found | None, row: Installed) -> str:
        """Its files; of a package what pip calls it."""
        if Path(row.source).suffix == ".whl":
            distribution = _distribution(Path(row.source))
            self._environment.remove(distribution)
            return distribution
        if found is not None and found.path is not None:
            try:
                found.path.unlink() if found.path.is_symlink() else shutil.rmtree(found.path)
            except OSError as error:
                raise OutputError(
                    f"can't remove {found.path}: {error.strerror}", hint="check its permissions"
                ) from error
        return ""

    def _copy(self, path: Path, name: str) -> None:
        """Whole under its name, or not there at all. Raises: OutputError."""
        partial = self._folder / f".{name}.partial"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(path, partial, symlinks=True, ignore=shutil.ignore_patterns(*NOT_COPIED))
            os.rename(partial, self._folder / name)  # noqa: PTH104 - unlike `replace` never over another folder
        except (OSError, shutil.Error) as error:
            shutil.rmtree(partial, ignore_errors=True)
            reason = getattr(error, "strerror", None) or "its files can't be copied"
            raise OutputError(f"can't write {self._folder / name}: {reason}", hint="check the folder") from error


def read_source(path: Path) -> Source:
    """What a folder or a wheel is.

    Raises: UsageError for what is no extension.
    """
    shown = clip(str(path), 200)
    if path.suffix == ".whl" and path.is_file():
        return Source(path=path, manifest=_manifest_in(path), is_wheel=True, distribution=_distribution(path))
    if not path.is_dir():
        hint = "give a folder or a wheel; load one from elsewhere with git clone or pip download first"
        raise UsageError(f"{shown} is no folder and no wheel", hint=hint)
    if not (path / FILE).is_file():
        if is_for_a1111(path):
            raise UsageError(
                f"{shown} is an extension for A1111, whose code is not run here", hint="docs/extensions.md"
            )
        raise UsageError(f"{shown} has no {FILE}", hint="docs/extensions.md says what an extension has")
    return Source(path=path, manifest=read_manifest(path / FILE), is_wheel=False)


def _manifest_in(wheel: Path) -> Manifest:
    """The manifest in a wheel; nothing is unpacked."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            texts = [_member(archive, name) for name in archive.namelist() if name.endswith("/entry_points.txt")]
            rows = [row for text in texts for row in entry_points_of(text.decode("utf-8", errors="replace"))]
            if len(rows) != 1:
                raise UsageError(f"{wheel.name} has {len(rows)} extensions", hint="a wheel has one, as an entry point")
            name, package = rows[0]
            manifest = parse_raw(_member(archive, f"{package}/{FILE}"))
    except (zipfile.BadZipFile, KeyError, OSError, RuntimeError, NotImplementedError) as error:
        message = f"{wheel.name} can't be read as an extension's wheel: {clip(str(error), 120)}"
        raise UsageError(message, hint=f"it needs an entry point, and {FILE} in its package") from error
    if manifest.name != name:
        raise UsageError(f"{FILE} says the name {manifest.name!r}, the entry point {clip(name)!r}", hint="one of both")
    return manifest


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """A file's content, as far as it may be long."""
    with archive.open(name) as file:
        return file.read(MAX_BYTES + 1)


def _distribution(wheel: Path) -> str:
    """What pip calls the content of a wheel's file. Source: PEP 427."""
    return canonical(wheel.name.partition("-")[0])


def _without(rows: Mapping[str, Installed], name: str) -> dict[str, Installed]:
    return {key: row for key, row in rows.items() if key != name}
