"""A "parameters" text becomes a request, as if its user had filled in the fields."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hayate.errors import UsageError, clip
from hayate.pipeline.infotext import EXTENSIONS_KEY, RECIPE_KEY, Infotext, format_infotext, parse_infotext, version_of
from hayate.pipeline.left_out import features_left_out, notes_of
from hayate.pipeline.pasted_extensions import pasted_extensions
from hayate.pipeline.pasted_hires import HIRES_KEYS, pasted_hires
from hayate.pipeline.pasted_start import START_KEYS, pasted_start, start_files
from hayate.pipeline.pasted_values import Reading, pixels, read_values
from hayate.pipeline.picture_info import PictureInfo, harmless, read_picture_info
from hayate.request import StartImage, TextToImage
from hayate.runtime.asked import Asked
from hayate.samplers.catalogue import resolve_sampler
from hayate.samplers.sigmas import AUTOMATIC
from hayate.settings import Settings
from hayate.weights.upscalers import upscaler_names


def _interval(text: str) -> tuple[float, float]:
    number = r"(\d[\d.]*(?:e[+-]?\d+)?|inf)"
    found = re.fullmatch(f"{number}-{number}", text)
    if not found:
        raise ValueError(text)
    return float(found[1]), float(found[2])


_FIELDS: Mapping[str, Reading] = MappingProxyType(
    {
        "Steps": (("steps",), int),
        "Sampler": (("sampler",), str),
        "Schedule type": (("scheduler",), str),
        "CFG scale": (("cfg",), float),
        "Seed": (("seed",), int),
        "Size": (("width_px", "height_px"), pixels),
        "Seed resize from": (("seed_resize_from_w_px", "seed_resize_from_h_px"), pixels),
        "Clip skip": (("clip_skip",), int),
        "ENSD": (("ensd",), int),
        "RNG": (("noise_source",), str),
        "Emphasis": (("emphasis",), str),
        "Eta": (("eta",), float),
        "Eta DDIM": (("eta",), float),
        "Variation seed": (("subseed",), int),
        "Variation seed strength": (("subseed_strength",), float),
        "Schedule min sigma": (("sigma_min",), float),
        "Schedule max sigma": (("sigma_max",), float),
        "Schedule rho": (("rho",), float),
        "Refiner switch at": (("refiner_switch_at",), float),
    }
)
_METHODS: Mapping[str, Reading] = MappingProxyType(
    {
        "NGMS": (("s_min_uncond",), float),
        "Token merging ratio": (("tome",), float),
        "Guidance interval": (("guidance_interval",), _interval),
        "DeepCache": (("deepcache",), int),
    }
)
_MISSING = MappingProxyType({"clip_skip": 1, "noise_source": "GPU", "emphasis": "Original", "ensd": 0, "batch_size": 1})
"""What a picture without the key was made with, whatever the settings say. Source: A1111 behaviour."""
_SCHEDULES_HAVE_NAMES = (1, 9, 0, 0)
"""Before this version a sampler's plain name meant the uniform schedule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pasted:
    """What a picture's text describes: the request, how to compute it, and what is not as it was."""

    request: TextToImage
    asked: Asked
    """The approximate methods that the picture was made with."""
    faults: tuple[str, ...]
    """Values that can't be had, such as an unknown sampler."""
    start: Mapping[str, Any]
    """The fields of the `StartImage` that the picture began with, but for its files."""
    left_out: Mapping[str, tuple[str, ...]]
    """Features that pictures are made without here, and the keys that asked for them."""
    notes: tuple[str, ...]
    """All that is not honoured, for people."""


def paste_picture(path: Path, settings: Settings, given: Collection[str] = ()) -> Pasted:
    """What recreates a picture; its model and VAE are looked for in the user's folders.

    `given` names the fields that the user gives beside it: the picture's own are not looked at.
    Raises: UsageError for a file that is no picture or does not say how it was made.
    """
    # They read models' files, and load torch, which a pasted text does not need.
    from hayate.pipeline.pasted_files import files_named, with_files
    from hayate.pipeline.pasted_networks import renamed_networks

    picture = read_picture_info(path)
    if picture.infotext is None:
        hint = "take a picture that Hayate or A1111 saved"
        raise UsageError(f"{clip(str(path), 200)} does not say how it was made", hint=hint)
    files, notes = files_named(picture.infotext, settings, given)
    rename, said = renamed_networks(picture.infotext, settings)
    notes += said
    began = {} if "start" in given else start_files(picture.infotext, picture.record, path, settings.outputs_dir)
    upscalers = upscaler_names(settings.upscalers_dir)
    pasted = paste(picture.infotext, {*given, "start"} if began else given, upscalers)
    request = with_files(replace(pasted.request, **_as_recorded(picture)), files)
    request = replace(request, prompt=rename(request.prompt), negative_prompt=rename(request.negative_prompt))
    if "extensions" not in given:
        acting, said = pasted_extensions(picture.infotext, picture.record)
        request, notes = replace(request, extensions=acting), [*notes, *said]
    if began:
        pasted = replace(pasted, start={**pasted.start, **began})
        request = replace(request, start=StartImage(**pasted.start))
    return replace(pasted, request=request, notes=(*pasted.notes, *map(_one_line, notes)))


def paste(info: Infotext, given: Collection[str] = (), upscalers: Collection[str] = ()) -> Pasted:
    """The request that a picture's text describes, without its files; what can't be had is left out.

    `upscalers` are the names of those that are here as files.

    Source: A1111 behaviour, docs/compat.md.
    """
    values: dict[str, Any] = {"prompt": info.prompt, "negative_prompt": info.negative_prompt}
    methods: dict[str, Any] = {}
    faults: list[str] = []
    for key, text in info.parameters.items():
        found, (names, kind) = (methods, _METHODS[key]) if key in _METHODS else (values, _FIELDS.get(key, ((), str)))
        if names and not set(names) <= set(given):
            found |= read_values(key, names, text, (kind, faults))
    hires = None if "hires" in given else pasted_hires(info, faults, upscalers)
    values |= {} if hires is None else {"hires": hires}
    others = HIRES_KEYS if hires is not None or "hires" in given else START_KEYS if "start" in given else set()
    files = {"Model", RECIPE_KEY, "VAE", "Refiner", EXTENSIONS_KEY}
    honoured = {*others, *files, *_FIELDS, *_METHODS, *(["VAE Decoder"] if "tiny_vae" in given else [])}
    left_out = features_left_out(info, honoured)
    return Pasted(
        request=TextToImage(**{**_MISSING, "scheduler": _unnamed_schedule(info), **values}),
        asked=Asked(**methods),
        faults=tuple(faults),
        start=pasted_start(info, faults),
        left_out=left_out,
        notes=tuple(map(_one_line, (*faults, *notes_of(info, left_out)))),
    )


def pasted_request(info: Infotext) -> TextToImage:
    """The request that a picture's text describes; its model is left to whoever asks.

    Raises: UsageError for a value that can't be had.
    """
    pasted = paste(info)
    if pasted.faults:
        raise UsageError(pasted.faults[0], hint="correct the text, or leave the key out")
    return pasted.request


def _unnamed_schedule(info: Infotext) -> str:
    """The schedule of a text that names none.

    Before schedules had a field of their own, a sampler's plain name meant uniform steps, and "DPM++ 2M Karras" the
    others; today's Automatic would make another picture.
    """
    version = version_of(info.parameters.get("Version", ""))
    try:
        sampler, _ = resolve_sampler(info.parameters.get("Sampler", ""))
    except UsageError:
        return AUTOMATIC.name
    is_old = (version or _SCHEDULES_HAVE_NAMES) < _SCHEDULES_HAVE_NAMES or "Version" not in info.parameters
    return "Uniform" if is_old and sampler.default_schedule != "Uniform" else AUTOMATIC.name


def _as_recorded(picture: PictureInfo) -> dict[str, Any]:
    """The prompts to the letter, and the type asked for, where Hayate's own record has them.

    A text drops the spaces around its lines. It counts where the two say different things: somebody has edited it.
    """
    asked = (picture.record or {}).get("asked")
    if not isinstance(asked, dict) or picture.infotext is None:
        return {}
    kept = {"dtype": asked["dtype"]} if isinstance(asked.get("dtype"), str) else {}
    prompt, negative = asked.get("prompt", ""), asked.get("negative_prompt", "")
    if asked.get("styles") or not (isinstance(prompt, str) and isinstance(negative, str)):
        return kept
    written = replace(picture.infotext, prompt=prompt, negative_prompt=negative)
    is_same = parse_infotext(format_infotext(written)) == picture.infotext
    return kept | ({"prompt": prompt, "negative_prompt": negative} if is_same else {})


def _one_line(note: str) -> str:
    """A note with words from a picture, as a terminal can show it."""
    return harmless(" ".join(note.split()))
