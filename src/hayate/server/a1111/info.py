"""The `info` of a reply: A1111's facts about what was made, as a JSON text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from hayate import __version__
from hayate.jobs.records import JobRecord, Picture, Result
from hayate.pipeline.infotext import Infotext, parse_infotext
from hayate.server.a1111.requests import Generation
from hayate.server.a1111.translate import Translated

TIMESTAMP = "%Y%m%d%H%M%S"


def info_text(job: JobRecord, translated: Translated, *, has_grid: bool) -> str:
    """All of A1111's keys, and Hayate's `notes` behind them.

    Source: A1111 v1.10.1.
    """
    result = job.result or Result()
    texts = [parse_infotext(each.infotext) for each in result.pictures]
    facts = {
        **_prompts(translated, texts),
        **_seeds(translated, result.pictures),
        **_asked(translated, texts, result.pictures),
        **_made(texts, result.pictures, has_grid=has_grid),
        "styles": list(translated.request.styles),
        "job_timestamp": timestamp(job),
        "version": f"Hayate {__version__}",
        "notes": [*translated.notes, *result.notes],
    }
    return json.dumps(facts)


def timestamp(job: JobRecord) -> str:
    """When the job began, as A1111 writes it."""
    began_s = job.created_s if job.started_s is None else job.started_s
    return datetime.fromtimestamp(began_s).strftime(TIMESTAMP)


def _prompts(translated: Translated, texts: Sequence[Infotext]) -> dict[str, Any]:
    """The prompts with styles in them, once for the first picture and once for each."""
    asked = translated.request
    prompts = [each.prompt for each in texts] or [asked.prompt]
    negatives = [each.negative_prompt for each in texts] or [asked.negative_prompt]
    return {
        "prompt": prompts[0],
        "all_prompts": prompts,
        "negative_prompt": negatives[0],
        "all_negative_prompts": negatives,
    }


def _seeds(translated: Translated, pictures: Sequence[Picture]) -> dict[str, Any]:
    asked = translated.request
    seeds = [each.seed for each in pictures] or [asked.seed]
    subseeds = [each.subseed for each in pictures] or [asked.subseed]
    return {"seed": seeds[0], "all_seeds": seeds, "subseed": subseeds[0], "all_subseeds": subseeds}


def _asked(translated: Translated, texts: Sequence[Infotext], pictures: Sequence[Picture]) -> dict[str, Any]:
    request, said = translated.request, texts[0].parameters if texts else {}
    first = pictures[0] if pictures else None
    return {
        "subseed_strength": request.subseed_strength or 0,
        "width": first.width_px if first else request.width_px,
        "height": first.height_px if first else request.height_px,
        "sampler_name": said.get("Sampler", request.sampler),
        "cfg_scale": request.cfg,
        "steps": request.steps,
        "batch_size": request.batch_size,
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": said.get("Model"),
        "sd_model_hash": said.get("Model hash"),
        "sd_vae_name": said.get("VAE"),
        "sd_vae_hash": said.get("VAE hash"),
        "seed_resize_from_w": request.seed_resize_from_w_px or -1,
        "seed_resize_from_h": request.seed_resize_from_h_px or -1,
        "denoising_strength": _denoising(translated.asked, request),
        "clip_skip": int(said.get("Clip skip", "1")),
        "is_using_inpainting_conditioning": False,
    }


def _denoising(asked: Generation, request: Any) -> float | None:
    """None where nothing of a picture was made anew."""
    return asked.denoising_strength if request.start is not None or request.hires is not None else None


def _made(texts: Sequence[Infotext], pictures: Sequence[Picture], *, has_grid: bool) -> dict[str, Any]:
    """What is said of each picture; with a grid, the first text is its."""
    infotexts = [each.infotext for each in pictures]
    return {
        "extra_generation_params": dict(_extra(texts[0].parameters)) if texts else {},
        "index_of_first_image": int(has_grid),
        "infotexts": [infotexts[0], *infotexts] if has_grid and infotexts else infotexts,
    }


def _extra(parameters: Mapping[str, str]) -> Mapping[str, str]:
    """The keys beside those that every picture has."""
    common = ("Steps", "Sampler", "Schedule type", "CFG scale", "Seed", "Size", "Model hash", "Model", "VAE hash")
    return {key: value for key, value in parameters.items() if key not in (*common, "VAE", "Version", "Clip skip")}
