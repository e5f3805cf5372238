"""What a file declares of itself where shapes can't tell: the JSON object under `hayate.config` in its header.

Keys, all optional: `prediction` ("epsilon" or "v"), `is_zero_terminal_snr`, `native_size_px`, `unet.norm_groups`,
`unet.heads` or `unet.head_width`, `vae.norm_groups`, `vae.scale`, and for text encoder N `text.N.heads`,
`text.N.is_quick_gelu`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hayate.errors import BrokenFile, clip, nearest
from hayate.models.config import Prediction

KEY = "hayate.config"

_WHOLE = "a whole number from 1 to 65536"
_POSITIVE = "a number above 0"
_CLAIM = "true or false"
_PREDICTION = " or ".join(Prediction)
_KINDS: Mapping[str, str] = {
    "prediction": _PREDICTION,
    "is_zero_terminal_snr": _CLAIM,
    "native_size_px": _WHOLE,
    "unet.norm_groups": _WHOLE,
    "unet.heads": _WHOLE,
    "unet.head_width": _WHOLE,
    "vae.norm_groups": _WHOLE,
    "vae.scale": _POSITIVE,
    "text.0.heads": _WHOLE,
    "text.0.is_quick_gelu": _CLAIM,
    "text.1.heads": _WHOLE,
    "text.1.is_quick_gelu": _CLAIM,
}


def read_declared(metadata: Mapping[str, str], source: str) -> Mapping[str, Any]:
    """The declarations of a file, each checked; empty when it makes none.

    Raises: BrokenFile for an unknown key or a value of the wrong kind.
    """
    if KEY not in metadata:
        return {}
    try:
        declared = json.loads(metadata[KEY])
    except (ValueError, RecursionError) as error:
        raise BrokenFile(f"{source}: {KEY} in the header is not valid JSON", hint=clip(str(error))) from error
    if not isinstance(declared, dict):
        raise BrokenFile(f"{source}: {KEY} in the header is no JSON object")
    for name, value in declared.items():
        _check(name, value, source)
    if {"unet.heads", "unet.head_width"} <= declared.keys():
        raise BrokenFile(f"{source}: {KEY} declares both unet.heads and unet.head_width", hint="one follows the other")
    return declared


def under(declared: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The declarations about one network, by field name."""
    return {name.removeprefix(prefix): value for name, value in declared.items() if name.startswith(prefix)}


def _check(name: str, value: Any, source: str) -> None:
    if name not in _KINDS:
        near = ", ".join(nearest(name, _KINDS))
        raise BrokenFile(f"{source}: {KEY} has the unknown key {clip(name)!r}", hint=f"nearest: {near}")
    kind = _KINDS[name]
    is_number = type(value) in {int, float}
    is_valid = {
        _WHOLE: type(value) is int and 1 <= value <= 65536,
        _POSITIVE: is_number and 0 < value < float("inf"),
        _CLAIM: type(value) is bool,
        _PREDICTION: value in list(Prediction),
    }[kind]
    if not is_valid:
        raise BrokenFile(f"{source}: {name} in {KEY} is {clip(str(value))!r}", hint=f"it must be {kind}")
