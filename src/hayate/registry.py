"""Lazy registries: the open or heavy choices (engines, attention kernels), loaded when they are first used."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hayate.errors import MissingDependency, UnknownName


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """Names of one kind of thing, each with the place "module:attribute" where it lives."""

    kind: str
    """What an entry is, as messages call it: "engine"."""
    places: Mapping[str, str]
    packages: Mapping[str, str] = field(default_factory=dict)
    """For an entry that needs an optional package: how to install it."""

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __contains__(self, name: str) -> bool:
        return name in self.places

    def load(self, name: str) -> Any:
        """The object that `name` stands for; its module is imported now, if it wasn't before.

        Raises: UnknownName; MissingDependency when the entry's module needs a package that is not installed.
        """
        if name not in self.places:
            raise UnknownName(self.kind, name, self.places)
        module_name, _, attribute = self.places[name].partition(":")
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            missing = error.name or ""
            if missing == module_name or module_name.startswith(f"{missing}."):
                raise  # the place itself is wrong: our mistake, not a package that the user lacks
            hint = self.packages.get(name, f"pip install {missing.partition('.')[0]}")
            message = f"{self.kind} {name!r} needs the package {missing!r}, which is not installed"
            raise MissingDependency(message, hint=hint) from error
        return getattr(module, attribute)
