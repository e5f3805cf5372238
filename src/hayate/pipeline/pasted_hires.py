"""The second pass that a picture's text describes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from hayate.pipeline.infotext import Infotext
from hayate.pipeline.pasted_values import Reading, pixels, read_values
from hayate.request import LATENT_UPSCALERS, PIXEL_UPSCALERS, Hires

_KEYS: Mapping[str, Reading] = MappingProxyType(
    {
        "Hires upscaler": (("upscaler",), str),
        "Hires upscale": (("scale",), float),
        "Hires resize": (("width_px", "height_px"), pixels),
        "Hires steps": (("steps",), int),
        "Hires sampler": (("sampler",), str),
        "Hires schedule type": (("scheduler",), str),
        "Hires prompt": (("prompt",), str),
        "Hires negative prompt": (("negative_prompt",), str),
    }
)
HIRES_KEYS = frozenset({"Denoising strength", "Hires checkpoint", *_KEYS})
"""What says something of the second pass, where there is one."""


def pasted_hires(info: Infotext, faults: list[str], upscalers: Collection[str] = ()) -> Hires | None:
    """The second pass, where there was one and its upscaler is known here."""
    upscaler = info.parameters.get("Hires upscaler")
    if upscaler is None or "Denoising strength" not in info.parameters:
        return None
    if upscaler not in (*LATENT_UPSCALERS, *PIXEL_UPSCALERS, *upscalers):
        return None  # and its keys are told as not honoured
    strength = info.parameters["Denoising strength"]
    values: dict[str, Any] = read_values("Denoising strength", ("denoising",), strength, (float, faults))
    for key, (names, kind) in _KEYS.items():
        if key in info.parameters and not info.parameters[key].startswith("Use same"):
            values |= read_values(key, names, info.parameters[key], (kind, faults))
    given: dict[str, Any] = {name: value for name, value in values.items() if value != 0 or name == "denoising"}
    return Hires(**given)
