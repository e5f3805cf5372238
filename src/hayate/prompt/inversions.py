"""Textual inversions in a prompt: names whose tokens stand for vectors that no vocabulary has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

FIRST_VECTOR = 1 << 20
"""Ids from here on are places in a table of vectors, not tokens."""

Unit = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inversions:
    """Which tokens are whose name, and the ids that stand for them."""

    by_first: Mapping[int, tuple[tuple[Unit, Unit], ...]] = field(default_factory=dict)
    """For a name's first token: the names that begin with it, the longest first, each with its ids."""

    def units(self, tokens: Sequence[int]) -> Iterator[Unit]:
        """The tokens in units that a chunk's end may not part: single tokens, and all the ids of a name.

        Where several names fit, the longest is taken. Source: A1111 behaviour.
        """
        place = 0
        while place < len(tokens):
            candidates = self.by_first.get(tokens[place], ())
            name, ids = next(
                ((name, ids) for name, ids in candidates if tuple(tokens[place : place + len(name)]) == name),
                ((tokens[place],), (tokens[place],)),
            )
            yield ids
            place += len(name)


NONE = Inversions()


def inversions(names: Iterable[tuple[Unit, int]]) -> Inversions:
    """Names by their tokens, each with its number of vectors, which are numbered in this order."""
    found: dict[int, list[tuple[Unit, Unit]]] = {}
    first = FIRST_VECTOR
    for tokens, count in names:
        if tokens:
            found.setdefault(tokens[0], []).append((tokens, tuple(range(first, first + count))))
        first += count
    return Inversions(by_first={start: tuple(sorted(each, key=_longest)) for start, each in found.items()})


def _longest(each: tuple[Unit, Unit]) -> int:
    return -len(each[0])
