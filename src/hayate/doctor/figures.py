"""How the doctor reads versions and writes sizes and lists."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_NUMBER = re.compile(r"\d+")
SHOWN = 3
"""How many names a sentence lists before it counts the rest."""


def numbers(version: str) -> tuple[int, ...]:
    """The numbers of a version, for comparing: "9.10.2+cu128" is (9, 10, 2)."""
    return tuple(int(each) for each in _NUMBER.findall(version.partition("+")[0]))


def older(version: str, than: str) -> bool:
    """Whether `version` comes before `than`, as far as `than` says: 13.0.1 is not older than 13.0."""
    wanted = numbers(than)
    return numbers(version)[: len(wanted)] < wanted


def size(size_bytes: float) -> str:
    """In GB or MB of a thousand, as disks and shops count."""
    if size_bytes >= 1e9:
        return f"{size_bytes / 1e9:.1f} GB"
    return f"{size_bytes / 1e6:.0f} MB"


def listed(names: Sequence[str], between: str = ", ") -> str:
    """The first few of `names`, and how many more there are."""
    shown = between.join(names[:SHOWN])
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown


def counted(count: int, noun: str) -> str:
    """ "1 file" or "2 files"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def agreed(things: Sequence[object], one: str, many: str) -> str:
    """The word for one thing or for several."""
    return one if len(things) == 1 else many


def quoted(path: str) -> str:
    """A path as a shell of any system takes it: between double quotes where it has spaces."""
    return f'"{path}"' if " " in path else path


def seconds(duration_s: float) -> str:
    """With two digits that matter."""
    return f"{duration_s:.0f} s" if duration_s >= 10 else f"{duration_s:.1f} s"


def total(sizes_bytes: Iterable[int]) -> str:
    """The sum of sizes."""
    return size(sum(sizes_bytes))
