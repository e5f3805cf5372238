"""What installed packages ask of each other. Markers of the system are settled in the facts; only extras are left."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from hayate.doctor.facts import Package, Python

TOOLS = ("pip", "setuptools", "wheel")
ALONE = ("open-clip-torch", "spandrel")
"""Installed without what they ask for, on purpose: docs/decisions/dependencies.md."""
_ANY = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmet:
    """A requirement that what is installed does not meet."""

    package: str
    wants: str
    has: str | None
    """The version that is there; None for none."""


def unmet(python: Python) -> tuple[Unmet, ...]:
    """Requirements that nothing installed meets, without those of extras."""
    there = {package.name: package.version for package in python.packages}
    found: list[Unmet] = []
    for package in python.packages:
        for requirement in _requirements(package, frozenset()):
            name = canonicalize_name(requirement.name)
            has = there.get(name)
            if has is None and package.name in ALONE:
                continue
            if has is None or not _fits(requirement, has):
                found.append(Unmet(package=package.name, wants=f"{name}{requirement.specifier}", has=has))
    return tuple(found)


def unmet_pins(python: Python) -> tuple[Unmet, ...]:
    """Installed packages whose version is not the pinned one; local parts such as +cpu don't count."""
    found = []
    for package in python.packages:
        pin = python.pins.get(package.name)
        if pin is not None and _public(package.version) != _public(pin):
            found.append(Unmet(package=package.name, wants=pin, has=package.version))
    return tuple(found)


def unneeded(python: Python, wanted: Iterable[str] = ()) -> tuple[Package, ...]:
    """Packages that neither Hayate with all its extras, nor an extension, nor a tool of installation needs.

    `wanted` are the requirements of extensions that are folders.
    """
    there = {package.name: package for package in python.packages}
    roots = {"hayate": frozenset({_ANY}), **{name: frozenset[str]() for name in (*TOOLS, *python.pins)}}
    roots |= {package.name: frozenset[str]() for package in python.packages if package.is_plugin}
    roots |= {name: frozenset[str]() for name in _names(wanted)}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = list(roots.items())
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen or name not in there:
            continue
        seen.add((name, extras))
        waiting += [
            (canonicalize_name(each.name), frozenset(each.extras)) for each in _requirements(there[name], extras)
        ]
    needed = {name for name, _ in seen}
    return tuple(package for package in python.packages if package.name not in needed)


def _requirements(package: Package, extras: frozenset[str]) -> Iterator[Requirement]:
    """What a package asks for, with some of its extras; with all of them for `_ANY`. What makes no sense is passed."""
    for text in package.requires:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        marker = requirement.marker
        if marker is None or _ANY in extras or any(marker.evaluate({"extra": extra}) for extra in extras):
            yield requirement


def _names(requirements: Iterable[str]) -> Iterator[str]:
    for text in requirements:
        with suppress(InvalidRequirement):
            yield canonicalize_name(Requirement(text).name)


def _fits(requirement: Requirement, version: str) -> bool:
    try:
        return requirement.specifier.contains(version, prereleases=True)
    except InvalidVersion:
        return False


def _public(version: str) -> str:
    try:
        return Version(version).public
    except InvalidVersion:
        return version
