"""Samplers and schedules of extensions, under the names of their manifests."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, TypeVar

from hayate.extensions.chosen import chosen, held

Info = TypeVar("Info")


def lent(kind: str, name: str, wanted: type[Info]) -> Info | None:
    """An extension's sampler or schedule whose functions refuse in words where they fail; None where there is none.

    Raises: UsageError.
    """
    found = chosen(kind, name, wanted)
    if found is None:
        return None
    hook, info = found
    functions: dict[str, Any] = {
        each.name: held(hook, value)
        for each in fields(info)  # pyright: ignore[reportArgumentType]
        if callable(value := getattr(info, each.name)) and not value.__module__.startswith("hayate.")
    }
    return replace(info, name=hook.name, **functions)  # pyright: ignore[reportArgumentType, reportCallIssue]
