"""What a "parameters" text asks for that pictures are made without, in the words of A1111's users."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from types import MappingProxyType

from hayate.errors import clip
from hayate.pipeline.infotext import DEFAULTS, Infotext, pasted_parameters

FEATURES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "hires fix": ("Hires ", "First pass size"),
        "ControlNet": ("ControlNet",),
        "ADetailer": ("ADetailer",),
        "refiner": ("Refiner", "Hires refiner"),
        "SD upscale": ("SD upscale",),
        "upscaling": ("Postprocess ",),
        "face restoration": ("Face restoration",),
        "hypernetwork": ("Hypernet",),
        "img2img": (
            "Denoising strength",
            "Init image hash",
            "Mask ",
            "Masked ",
            "Inpaint area",
            "Noise multiplier",
            "Conditional mask weight",
            "Image CFG scale",
            "Resize mode",
            "Outpaint",
            "Soft inpainting",
        ),
    }
)
"""A feature and how its keys begin; a key that begins like none of them is a feature of its own."""

HARMLESS = frozenset(
    {
        "Version",
        "User",
        "Model hash",
        "VAE hash",
        "VAE Encoder",
        "Lora hashes",
        "TI hashes",
        "Hashes",
        "Cache FP16 weight for LoRA",
        "Pad conds",
        "Batch size",
        "Batch pos",
        "Time taken",
        "Civitai resources",
        "Civitai metadata",
        "Created Date",
        "Template",
        "Negative Template",
        "Wildcard prompt",
        "Final denoising strength",
        "Denoising curve",
    }
)
"""Keys that say where a picture comes from, or what is always so here."""

_OLD = (
    ("Downcast alphas_cumprod", "noise levels were rounded to fp16"),
    ("Pad conds v0", "unequal prompts of DDIM and PLMS were padded in another way"),
    ("Refiner switch by sampling steps", "the refiner's switch counted steps, not noise levels"),
    ("Old prompt editing timelines", "a number of 1 or more with a point was a step"),
)
_OLD_TIMELINE = re.compile(r":\s*0*[1-9]\d*\.\d*\s*\]")
_NOTHING = frozenset({"False", "None", "Disable", "Disabled", "0x0"})


def features_left_out(info: Infotext, honoured: Collection[str]) -> dict[str, tuple[str, ...]]:
    """The features that `info` has keys of, with those keys; `honoured` are the keys that a request can have."""
    found: dict[str, list[str]] = {}
    for key, value in info.parameters.items():
        if key in HARMLESS or key in honoured or value in _NOTHING or DEFAULTS.get(key) == value:
            continue
        found.setdefault(_feature_of(key), []).append(key)
    if "hires fix" in found and found.get("img2img") == ["Denoising strength"]:
        found["hires fix"] += found.pop("img2img")  # the second pass has a strength too
    return {feature: tuple(keys) for feature, keys in found.items()}


def notes_of(info: Infotext, features: Mapping[str, Collection[str]]) -> list[str]:
    """One note for each feature that is left out, and one for what an old version did otherwise."""
    notes: list[str] = []
    for feature, keys in features.items():
        shown = clip(", ".join(_pair(key, info.parameters[key]) for key in keys), 200)
        what = f"{feature} ({shown})" if feature in FEATURES else shown
        source = "; the picture it began with is not here: --image" if feature == "img2img" else ""
        notes.append(f"not honoured: {what}{source}")
    old = old_behaviour(info)
    if old:
        notes.append(f"not honoured: {clip(info.parameters['Version'], 40)}, in which {' and '.join(old)}")
    return notes


def old_behaviour(info: Infotext) -> list[str]:
    """What the A1111 version that made the picture did otherwise, where that shows in this picture."""
    values = pasted_parameters(info)
    has_old_timeline = _OLD_TIMELINE.search(info.prompt + info.negative_prompt) is not None
    return [
        said
        for key, said in _OLD
        if key in values and key not in info.parameters and (has_old_timeline or not key.startswith("Old prompt"))
    ]


def _feature_of(key: str) -> str:
    starts = ((feature, start) for feature, starts in FEATURES.items() for start in starts)
    return next((feature for feature, start in starts if key.startswith(start)), clip(key, 40))


def _pair(key: str, value: str) -> str:
    return key if key == value else f"{key}: {clip(value, 60)}"
