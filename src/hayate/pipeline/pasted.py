"""A "parameters" text becomes a request, as if its user had filled in the fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from hayate.errors import UsageError, clip
from hayate.pipeline.infotext import Infotext
from hayate.request import TextToImage

_FIELDS: Mapping[str, tuple[str, Callable[[str], Any]]] = MappingProxyType(
    {
        "Steps": ("steps", int),
        "Sampler": ("sampler", str),
        "Schedule type": ("scheduler", str),
        "CFG scale": ("cfg", float),
        "Seed": ("seed", int),
        "Clip skip": ("clip_skip", int),
        "ENSD": ("ensd", int),
        "RNG": ("noise_source", str),
        "Emphasis": ("emphasis", str),
        "Eta": ("eta", float),
        "Eta DDIM": ("eta", float),
        "Variation seed": ("subseed", int),
        "Variation seed strength": ("subseed_strength", float),
        "Schedule min sigma": ("sigma_min", float),
        "Schedule max sigma": ("sigma_max", float),
        "Schedule rho": ("rho", float),
    }
)
_SIZES = MappingProxyType(
    {"Size": ("width_px", "height_px"), "Seed resize from": ("seed_resize_from_w_px", "seed_resize_from_h_px")}
)


def pasted_request(info: Infotext) -> TextToImage:
    """The request that a picture's text describes; its model is left to whoever asks.

    Raises: UsageError for a value that is no number where one is meant.
    """
    values: dict[str, Any] = {"prompt": info.prompt, "negative_prompt": info.negative_prompt}
    for key, text in info.parameters.items():
        if key in _FIELDS:
            name, kind = _FIELDS[key]
            values[name] = _value(key, text, kind)
        elif key in _SIZES:
            width, _, height = text.partition("x")
            values |= zip(_SIZES[key], (_value(key, width, int), _value(key, height, int)), strict=True)
    return TextToImage(**values)


def _value(key: str, text: str, kind: Callable[[str], Any]) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise UsageError(
            f"{key} {clip(text, 40)!r} is no number", hint="correct the text, or leave the key out"
        ) from None
