"""Which packages something needs: requirements of extensions and of what is installed, followed to their end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import hayate
from hayate.extensions.environment import canonical

if TYPE_CHECKING:
    from packaging.requirements import Requirement

OURS = "hayate"
NEVER = ("torch", "torchvision", "torchaudio", "triton", "numpy", "pip", "setuptools", "wheel", OURS)
"""What is never removed, whoever brought it."""


def needed_by(roots: Mapping[str, Sequence[str]], installed: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Every package that the roots need, by way of others too, and who asks for it.

    Both say requirements as pip reads them: those of the roots, and by their names those of all that is installed. Of
    Hayate's own extras all count, of others those that somebody asks for.
    """
    found: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [(title, each) for title, texts in roots.items() for each in _asked(texts, _extras_of(title))]
    while waiting:
        title, requirement = waiting.pop()
        name, extras = canonical(requirement.name), frozenset(requirement.extras)
        found.setdefault(name, title)
        if (name, extras) not in seen:
            seen.add((name, extras))
            waiting += [(name, each) for each in _asked(installed.get(name, ()), extras)]
    return found


def pinned(file: Path | None = None) -> frozenset[str]:
    """The packages that Hayate is tested with, and those that are never removed."""
    path = Path(hayate.__file__).parents[2] / "constraints.txt" if file is None else file
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:  # an installed Hayate has no such file; what it needs is in its requirements
        lines = []
    return frozenset({*NEVER, *(canonical(each.name) for each in _read(line.partition("#")[0] for line in lines))})


def _extras_of(title: str) -> frozenset[str] | None:
    return None if title == OURS else frozenset()


def _asked(texts: Iterable[str], extras: frozenset[str] | None) -> Iterator[Requirement]:
    """The requirements that hold here with some extras; with all of them for None."""
    for each in _read(texts):
        marker = each.marker
        if marker is None or extras is None or any(marker.evaluate({"extra": extra}) for extra in extras or {""}):
            yield each


def _read(texts: Iterable[str]) -> Iterator[Requirement]:
    """What can be understood; pip has said its word on the rest."""
    from packaging.requirements import InvalidRequirement, Requirement  # only now: a list of extensions needs it not

    for text in texts:
        with suppress(InvalidRequirement):
            yield Requirement(text.strip())
