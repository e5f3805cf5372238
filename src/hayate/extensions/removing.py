"""Removing extensions: what `install` has put there, and of the packages that came with it those that nothing needs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from hayate.errors import OutputError, UnknownName, UsageError
from hayate.extensions.discovery import Found, Origin, find_extensions
from hayate.extensions.environment import Environment, canonical
from hayate.extensions.needs import needed_by, pinned
from hayate.extensions.state import Installed, StateFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """Everything that a removal changes."""

    name: str
    found: Found | None
    distribution: str = ""
    """Of a wheel: what pip calls it."""
    packages: tuple[str, ...] = ()
    """What goes with it, as name==version."""
    kept: Mapping[str, str] = field(default_factory=dict)
    """What came with it and stays, each with why."""


class Remover:
    """Takes extensions out of a folder, and what only they needed out of an environment."""

    def __init__(self, folder: Path, state: StateFile, environment: Environment | None = None) -> None:
        self._folder = folder
        self._state = state
        self._environment = environment or Environment()

    def plan(self, name: str, *, keeps_packages: bool = False) -> Removal:
        """What removing an extension would change; nothing is touched.

        Raises: UnknownName; UsageError for an extension that somebody else has put there.
        """
        rows = self._state.read().installed
        others = find_extensions(self._folder)
        found = next((each for each in others if each.name == name), None)
        if name not in rows:
            raise _not_ours(name, found, rows)
        row = rows[name]
        own = wheel_name(Path(row.source)) if row.source.endswith(".whl") else ""
        brought = {canonical(pin.partition("==")[0]): pin for pin in row.packages}
        brought.pop(own, None)
        if keeps_packages:
            kept = dict.fromkeys(brought.values(), "asked for")
            return Removal(name=name, found=found, distribution=own, kept=kept)
        kept = self._kept(brought, own, {each.name: each for each in others if each.name != name})
        going = tuple(pin for pin in brought.values() if pin not in kept)
        return Removal(name=name, found=found, distribution=own, packages=going, kept=kept)

    def remove(self, removal: Removal) -> None:
        """Does what was planned; packages that stay since another extension needs them are from now on that one's.

        Raises: UsageError, OutputError; where pip can't remove packages, the extension itself is gone.
        """
        if removal.distribution:
            self._environment.remove(removal.distribution)
        elif removal.found is not None and removal.found.path is not None:
            _delete(removal.found.path)
        state = self._state.read()
        rows = {name: row for name, row in state.installed.items() if name != removal.name}
        self._state.write(replace(state, installed=self._handed_on(rows, removal)).switched(removal.name, True))
        here = self._environment.packages()
        names = [name for pin in removal.packages if (name := canonical(pin.partition("==")[0])) in here]
        if names:
            self._environment.remove(*names)

    def _kept(self, brought: Mapping[str, str], own: str, others: Mapping[str, Found]) -> dict[str, str]:
        """Which of the packages stay, and why; those that are gone already are no matter."""
        here, fixed, kept = self._environment.packages(), pinned(), dict[str, str]()
        for name, pin in brought.items():
            if name in here and here[name].pin != pin:
                kept[pin] = f"it is {here[name].version} by now"
            elif name in fixed:
                kept[pin] = "Hayate pins it"
        open_ = {name for name, pin in brought.items() if pin not in kept}
        requires = self._environment.requirements()
        roots = {name: texts for name, texts in requires.items() if name not in open_ and name != own}
        roots |= {f"the extension {name}": _requires(each) for name, each in others.items()}
        needs = needed_by(roots, requires)
        return kept | {brought[name]: f"{needs[name]} needs it" for name in open_ if name in needs}

    def _handed_on(self, rows: Mapping[str, Installed], removal: Removal) -> dict[str, Installed]:
        """The installed extensions, each with those of the packages that it needs: with the last of them they go."""
        requires, found = self._environment.requirements(), {each.name: each for each in find_extensions(self._folder)}
        handed: dict[str, Installed] = {}
        for name, row in rows.items():
            is_wheel = row.source.endswith(".whl")
            own = [wheel_name(Path(row.source))] if is_wheel else _requires(found.get(name))
            needs = needed_by({name: own}, requires)
            more = [pin for pin in removal.kept if canonical(pin.partition("==")[0]) in needs]
            handed[name] = replace(row, packages=tuple(dict.fromkeys((*row.packages, *more))))
        return handed


def wheel_name(wheel: Path) -> str:
    """What pip calls the content of a wheel's file. Source: PEP 427."""
    return canonical(wheel.name.partition("-")[0])


def _requires(found: Found | None) -> tuple[str, ...]:
    return () if found is None or found.manifest is None else found.manifest.requires


def _delete(path: Path) -> None:
    """Raises: OutputError."""
    try:
        path.unlink() if path.is_symlink() else shutil.rmtree(path)
    except OSError as error:
        raise OutputError(f"can't remove {path}: {error.strerror}", hint="check its permissions") from error


def _not_ours(name: str, found: Found | None, rows: Mapping[str, Installed]) -> UsageError:
    if found is None:
        return UnknownName("installed extension", name, rows)
    hint = f"hayate extensions disable {name}"
    if found.origin is not Origin.BUILT_IN:
        hint += f", or remove {found.path} yourself"
    return UsageError(f"the extension {name} was not put there by `install`", hint=hint)
