"""What A1111's `info` says of pictures, from their own texts. Source: A1111 behaviour, docs/compat.md."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

from hayate import __version__
from hayate.pipeline.infotext import Infotext, parse_infotext
from hayate.pipeline.report import Report, SavedPicture
from hayate.request import TextToImage

_OWN_KEYS = frozenset(
    {
        "Steps",
        "Sampler",
        "Schedule type",
        "CFG scale",
        "Seed",
        "Size",
        "Model hash",
        "Model",
        "VAE hash",
        "VAE",
        "Variation seed",
        "Variation seed strength",
        "Seed resize from",
        "Denoising strength",
        "Clip skip",
        "ENSD",
        "RNG",
        "Version",
    }
)
"""Keys of the infotext that are no `extra_generation_params`."""
_NOTHING = MappingProxyType({"face_restoration_model": None, "restore_faces": False})


def info_of(reports: Sequence[Report], request: TextToImage) -> dict[str, Any]:
    """The facts under A1111's names; without a picture those that need none."""
    first = reports[0]
    pictures = [picture for report in reports for picture in report.pictures]
    texts = [parse_infotext(picture.infotext) for picture in pictures]
    start = request.start
    return {
        **_NOTHING,
        **_prompts(texts, request),
        **_seeds(pictures, first, request),
        **_made_how(first, request),
        "extra_generation_params": _others(texts),
        "index_of_first_image": 0,
        "infotexts": [picture.infotext for picture in pictures],
        "styles": list(request.styles),
        "job_timestamp": datetime.now().strftime("%Y%m%d%H%M%S"),
        "is_using_inpainting_conditioning": start is not None and start.mask is not None,
        "version": f"Hayate {__version__}",
    }


def _seeds(pictures: Sequence[SavedPicture], first: Report, request: TextToImage) -> dict[str, Any]:
    return {
        "seed": pictures[0].seed if pictures else first.plan["seed"],
        "all_seeds": [picture.seed for picture in pictures],
        "subseed": pictures[0].subseed if pictures else -1,
        "all_subseeds": [picture.subseed for picture in pictures],
        "subseed_strength": request.subseed_strength or 0,
        "seed_resize_from_w": request.seed_resize_from_w_px or -1,
        "seed_resize_from_h": request.seed_resize_from_h_px or -1,
    }


def _made_how(first: Report, request: TextToImage) -> dict[str, Any]:
    """What was decided, and by which model."""
    plan, start, hires = first.plan, request.start, request.hires
    width_px, height_px = plan["size_px"]
    return {
        "width": width_px,
        "height": height_px,
        "sampler_name": plan["sampler"],
        "cfg_scale": plan["cfg"],
        "steps": plan["steps"],
        "batch_size": plan["batch_size"],
        "clip_skip": plan["clip_skip"],
        "sd_model_name": first.model["Model"],
        "sd_model_hash": first.model["Model hash"],
        "sd_vae_name": first.model.get("VAE"),
        "sd_vae_hash": first.model.get("VAE hash"),
        "denoising_strength": start.denoising if start is not None else None if hires is None else hires.denoising,
    }


def _prompts(texts: Sequence[Infotext], request: TextToImage) -> dict[str, Any]:
    """With the styles, as the pictures have them."""
    return {
        "prompt": texts[0].prompt if texts else request.prompt,
        "all_prompts": [text.prompt for text in texts],
        "negative_prompt": texts[0].negative_prompt if texts else request.negative_prompt,
        "all_negative_prompts": [text.negative_prompt for text in texts],
    }


def _others(texts: Sequence[Infotext]) -> dict[str, str]:
    if not texts:
        return {}
    return {key: str(value) for key, value in texts[0].parameters.items() if key not in _OWN_KEYS}
