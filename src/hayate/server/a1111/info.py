"""The `info` of a reply: A1111's facts about what was made, as a JSON text."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from hayate import __version__
from hayate.jobs.records import JobRecord, Result
from hayate.server.a1111.translate import Translated

TIMESTAMP = "%Y%m%d%H%M%S"


def info_text(job: JobRecord, translated: Translated, *, has_grid: bool) -> str:
    """All of A1111's keys, as the job has them, and Hayate's `notes` behind them.

    Source: A1111 v1.10.1.
    """
    result = job.result or Result()
    facts = {**_unmade(translated), **result.facts.get("info", {})}
    texts = list(facts["infotexts"])
    facts["infotexts"] = [*texts[:1], *texts] if has_grid else texts  # the grid's is that of the first picture
    facts["index_of_first_image"] = int(has_grid)
    facts["job_timestamp"] = timestamp(job)
    facts["notes"] = [*translated.notes, *result.notes]
    return json.dumps(facts)


def timestamp(job: JobRecord) -> str:
    """When the job began, as A1111 writes it."""
    began_s = job.created_s if job.started_s is None else job.started_s
    return datetime.fromtimestamp(began_s).strftime(TIMESTAMP)


def _unmade(translated: Translated) -> dict[str, Any]:
    """What can be said of a job that was ended before anything of it was made."""
    asked = translated.request
    nothing = ("face_restoration_model", "sd_model_name", "sd_model_hash", "sd_vae_name", "sd_vae_hash")
    is_anew = asked.start is not None or asked.hires is not None
    return {
        **dict.fromkeys(nothing),
        "prompt": asked.prompt,
        "all_prompts": [],
        "negative_prompt": asked.negative_prompt,
        "all_negative_prompts": [],
        "seed": asked.seed,
        "all_seeds": [],
        "subseed": asked.subseed,
        "all_subseeds": [],
        "subseed_strength": asked.subseed_strength or 0,
        "width": asked.width_px,
        "height": asked.height_px,
        "sampler_name": asked.sampler,
        "cfg_scale": asked.cfg,
        "steps": asked.steps,
        "batch_size": asked.batch_size,
        "restore_faces": False,
        "seed_resize_from_w": asked.seed_resize_from_w_px or -1,
        "seed_resize_from_h": asked.seed_resize_from_h_px or -1,
        "denoising_strength": translated.asked.denoising_strength if is_anew else None,
        "extra_generation_params": {},
        "infotexts": [],
        "styles": list(asked.styles),
        "clip_skip": 1,
        "is_using_inpainting_conditioning": False,
        "version": f"Hayate {__version__}",
    }
