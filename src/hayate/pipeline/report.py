"""What became of a request: its pictures on the disk, and all that is to be said of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hayate.pipeline.job import Job
from hayate.pipeline.parameters import schedule_label
from hayate.runtime.plan import Plan
from hayate.runtime.precision import Precision, dtype_name


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedPicture:
    """A picture on the disk."""

    path: Path
    seed: int
    subseed: int
    infotext: str
    width_px: int
    height_px: int
    is_spare: bool = False
    """Whether it could not be written where it was wanted, and is in the spare place."""
    is_half_made: bool = False
    """Whether its batch was stopped before its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What became of a request."""

    pictures: tuple[SavedPicture, ...]
    model: Mapping[str, str]
    plan: Mapping[str, Any]
    notes: tuple[str, ...]
    seconds: Mapping[str, float]
    """Per phase: load, encode, sample, decode, save; saving goes on beside the others."""
    rows: int
    """U-Net batches that were computed."""
    speed: Mapping[str, Any]
    """What the pictures' records call `speed`, with all pictures saved."""
    grid: Path | None = None
    """All pictures in one, if that was asked for and there are several."""
    pixels: tuple[np.ndarray, ...] = ()
    """The pictures themselves, each [H, W, 3] uint8, if they were to be kept."""
    is_stopped: bool = False
    """Whether somebody cancelled it, so that pictures are missing."""


def plan_of(job: Job, plan: Plan, precision: Precision) -> dict[str, Any]:
    """What will be done, and why, as JSON can hold it."""
    return {
        "device": plan.device.title,
        "device_reason": plan.device.reason,
        "dtype": {part: dtype_name(getattr(precision, part)) for part in ("unet", "text", "vae")},
        "dtype_reason": plan.precision.reason,
        "choices": plan.as_object(),
        "sampler": job.sampler.name,
        "schedule": schedule_label(job),
        "steps": job.steps,
        "cfg": job.cfg,
        "size_px": [job.width_px, job.height_px],
        "batch_size": job.batch_size,
        "batch_count": job.batch_count,
        "seed": job.seed,
        "noise_source": job.noise_source.value,
        "clip_skip": job.style.clip_skip,
        "emphasis": job.style.emphasis.value,
    }
