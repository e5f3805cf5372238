"""Names in a request that stand for a member of a closed list."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

from hayate.errors import UnknownName
from hayate.prompt.chunks import Emphasis


class NoiseSource(StrEnum):
    """Which random numbers a seed stands for."""

    CPU = "CPU"
    """torch's CPU generator: the same on every machine."""
    NV = "NV"
    """CUDA's numbers, computed on the CPU: the same on every machine."""
    GPU = "GPU"
    """The device's own generator: A1111's default; on CUDA it equals NV but for large pictures on small cards."""


Choice = TypeVar("Choice", Emphasis, NoiseSource)


def choose(kind: type[Choice], title: str, name: str) -> Choice:
    """The member of `kind` called `name`, in any case.

    Raises: UnknownName.
    """
    by_name = {member.value.casefold(): member for member in kind}
    if name.casefold() not in by_name:
        raise UnknownName(title, name, [member.value for member in kind])
    return by_name[name.casefold()]
