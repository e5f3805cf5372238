"""Values of a "parameters" text as a request's fields have them, with a fault for what can't be had."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from hayate.errors import UsageError, clip
from hayate.pipeline.chosen import NoiseSource, choose
from hayate.prompt.chunks import Emphasis
from hayate.samplers.catalogue import resolve_sampler
from hayate.samplers.sigmas import resolve_schedule

Reading = tuple[tuple[str, ...], Callable[[str], Any]]
"""The fields that a key says, and how each is read."""

_CHECKS: Mapping[str, Callable[[str], object]] = MappingProxyType(
    {
        "sampler": resolve_sampler,
        "scheduler": resolve_schedule,
        "noise_source": lambda name: choose(NoiseSource, "noise source", name),
        "emphasis": lambda name: choose(Emphasis, "emphasis mode", name),
    }
)


def pixels(text: str) -> int:
    """A1111 takes any size and makes whole latents of it: 500 pixels are 496."""
    return max(0, int(text)) // 8 * 8


def read_values(
    key: str, names: tuple[str, ...], text: str, reading: tuple[Callable[[str], Any], list[str]]
) -> dict[str, Any]:
    """The fields called `names` from their text; none, and a fault more, if it can't be had."""
    kind, faults = reading
    texts = text.split("x") if len(names) > 1 else [text]
    try:
        values = {name: kind(each) for name, each in zip(names, texts, strict=True)}
        for name in names:
            if name in _CHECKS:
                _CHECKS[name](values[name])
    except ValueError:
        faults.append(f"not honoured: {key} {clip(text, 40)!r} is no number")
    except UsageError as error:
        faults.append(f"not honoured: {error}")
    else:
        return values
    return {}
