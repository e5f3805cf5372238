"""The field `infotext` of a call: a picture's parameters fill in what the call itself does not set.

Source: A1111 v1.10.1's API, docs/compat.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from hayate.errors import UsageError, clip
from hayate.pipeline.infotext import parse_infotext, pasted_parameters
from hayate.request import FILLS
from hayate.server.a1111.names import Names
from hayate.server.a1111.option_keys import MODEL, VAE
from hayate.server.a1111.requests import Generation

RESIZE_MODES = ("Just resize", "Crop and resize", "Resize and fill", "Just resize (latent upscale)")


def _index_in(names: tuple[str, ...]) -> Callable[[str], int]:
    def index(name: str) -> int:
        if name not in names:
            raise ValueError(name)
        return names.index(name)

    return index


def _is_only_masked(text: str) -> bool:
    return text == "Only masked"


FIELDS: Mapping[str, tuple[str, Callable[[str], Any]]] = MappingProxyType(
    {
        "Steps": ("steps", int),
        "Sampler": ("sampler_name", str),
        "Schedule type": ("scheduler", str),
        "CFG scale": ("cfg_scale", float),
        "Image CFG scale": ("image_cfg_scale", float),
        "Seed": ("seed", int),
        "Size-1": ("width", int),
        "Size-2": ("height", int),
        "Variation seed": ("subseed", int),
        "Variation seed strength": ("subseed_strength", float),
        "Seed resize from-1": ("seed_resize_from_w", int),
        "Seed resize from-2": ("seed_resize_from_h", int),
        "Denoising strength": ("denoising_strength", float),
        "Hires upscale": ("hr_scale", float),
        "Hires upscaler": ("hr_upscaler", str),
        "Hires steps": ("hr_second_pass_steps", int),
        "Hires resize-1": ("hr_resize_x", int),
        "Hires resize-2": ("hr_resize_y", int),
        "Hires checkpoint": ("hr_checkpoint_name", str),
        "Hires sampler": ("hr_sampler_name", str),
        "Hires schedule type": ("hr_scheduler", str),
        "Hires prompt": ("hr_prompt", str),
        "Hires negative prompt": ("hr_negative_prompt", str),
        "Refiner": ("refiner_checkpoint", str),
        "Refiner switch at": ("refiner_switch_at", float),
        "Eta": ("eta", float),
        "Eta DDIM": ("eta", float),
        "NGMS": ("s_min_uncond", float),
        "Mask blur": ("mask_blur", int),
        "Masked content": ("inpainting_fill", _index_in(FILLS)),
        "Masked area padding": ("inpaint_full_res_padding", int),
        "Inpaint area": ("inpaint_full_res", _is_only_masked),
        "Mask mode": ("inpainting_mask_invert", lambda text: int(text == "Inpaint not masked")),
        "Noise multiplier": ("initial_noise_multiplier", float),
        "Resize mode": ("resize_mode", _index_in(RESIZE_MODES)),
    }
)
"""What each key of a text is in a call."""
OPTIONS: Mapping[str, tuple[str, Callable[[str], Any]]] = MappingProxyType(
    {
        "Clip skip": ("CLIP_stop_at_last_layers", int),
        "ENSD": ("eta_noise_seed_delta", int),
        "RNG": ("randn_source", str),
        "Emphasis": ("emphasis", str),
        "Token merging ratio": ("token_merging_ratio", float),
        "Schedule min sigma": ("sigma_min", float),
        "Schedule max sigma": ("sigma_max", float),
        "Schedule rho": ("rho", float),
    }
)
"""What each key is among the options."""

_Asked = TypeVar("_Asked", bound=Generation)


def filled(asked: _Asked, names: Names) -> tuple[_Asked, tuple[str, ...]]:
    """The call with what its `infotext` says, and a note for each value that can't be had.

    Raises: UsageError for a text that is too long.
    """
    if not asked.infotext:
        return asked, ()
    info = parse_infotext(asked.infotext)
    values = pasted_parameters(info)
    notes: list[str] = []
    found = {"prompt": info.prompt, "negative_prompt": info.negative_prompt, **_read(values, FIELDS, notes)}
    known = type(asked).model_fields
    own = asked.model_fields_set
    if "sampler_index" in own:
        found.pop("sampler_name", None)
    changes = {name: value for name, value in found.items() if name in known and name not in own}
    if "enable_hr" in known and "enable_hr" not in own and _has_hires(values):
        changes["enable_hr"] = True
    options = _read(values, OPTIONS, notes) | _files(values, names, notes)
    changes["override_settings"] = {**options, **asked.override_settings}
    return asked.model_copy(update=changes), tuple(notes)


def _has_hires(values: Mapping[str, str]) -> bool:
    return "Hires upscale" in values or "Hires upscaler" in values or values.get("Hires resize-1", "0") != "0"


def _files(values: Mapping[str, str], names: Names, notes: list[str]) -> dict[str, str]:
    """The checkpoint and the VAE, where they are here: by hash, which is known for some files, or by name."""
    found: dict[str, str] = {}
    for option, keys, find in ((MODEL, ("Model hash", "Model"), names.model), (VAE, ("VAE",), names.vae)):
        wanted = [values[key] for key in keys if key in values]
        own = next((name for each in wanted if (name := _found(find, each)) is not None), None)
        if own is not None:
            found[option] = own
        elif wanted:
            notes.append(f"infotext: {keys[-1]} {clip(wanted[-1], 60)!r} is not here")
    return found


def _found(find: Callable[[str], str | None], name: str) -> str | None:
    try:
        return find(name)
    except UsageError:
        return None


def _read(
    values: Mapping[str, str], table: Mapping[str, tuple[str, Callable[[str], Any]]], notes: list[str]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, (name, read) in table.items():
        if key not in values:
            continue
        try:
            found[name] = read(values[key])
        except (ValueError, UsageError):
            notes.append(f"infotext: {key} {clip(values[key], 40)!r} can't be had")
    return found
