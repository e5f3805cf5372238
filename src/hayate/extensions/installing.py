"""Installing extensions: once, after what they need was resolved, and never again at a start."""

from __future__ import annotations

import os
import shutil
import time
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

from hayate import __version__
from hayate.errors import OutputError, UsageError, clip
from hayate.extensions.discovery import entry_points_of, find_extensions, is_for_a1111
from hayate.extensions.environment import Environment, Package, canonical
from hayate.extensions.manifest import FILE, MAX_BYTES, Manifest, is_for, parse_raw, read_manifest
from hayate.extensions.removing import wheel_name
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
        return Source(path=path, manifest=_manifest_in(path), is_wheel=True, distribution=wheel_name(path))
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
