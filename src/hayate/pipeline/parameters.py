"""What a picture says of how it was made: A1111's parameters, and a record that loses nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hayate import __version__
from hayate.pipeline.chosen import NoiseSource
from hayate.pipeline.guidance import Guidance
from hayate.pipeline.infotext import Infotext, order_parameters
from hayate.pipeline.job import Job
from hayate.pipeline.refine import SWITCH_AT
from hayate.pipeline.start_keys import FIRST_NOISE, RESIZE_TITLES, SIDES
from hayate.prompt.chunks import Emphasis
from hayate.runtime.approximate import Approximate
from hayate.runtime.evidence import Evidence
from hayate.samplers.table import Fresh

AUTOMATIC = "Automatic"


def describe(job: Job, guidance: Guidance, number: int, model: Mapping[str, str]) -> Infotext:
    """The infotext of the job's picture `number`; `model` has the model's own keys (`Model`, `Model hash`, `VAE` …).

    Source: A1111 behaviour, docs/compat.md.
    """
    seed, subseed = job.seeds_of(number)
    is_variation = job.subseed_strength > 0
    resize = job.seed_resize_from_px
    # One pass may need what the other leaves out: whoever reads the keys finds that out again.
    methods = next((each.approximate for each in _passes(job) if each.approximate.limits_guidance()), job.approximate)
    files = {key: value for key, value in model.items() if key not in ("Hires checkpoint", "Refiner")}
    values: dict[str, str | float | None] = {
        "Steps": job.steps,
        "Sampler": job.sampler.name,
        "Schedule type": schedule_label(job),
        "CFG scale": job.cfg,
        "Seed": seed,
        "Size": f"{job.width_px}x{job.height_px}",
        **files,
        "Variation seed": subseed if is_variation else None,
        "Variation seed strength": job.subseed_strength if is_variation else None,
        "Seed resize from": f"{resize[0]}x{resize[1]}" if resize else None,
        **_start(job),
        **_hires(job, model),
        "Clip skip": job.style.clip_skip,
        "ENSD": job.ensd or None if any(Fresh in map(type, each.table.noise) for each in _passes(job)) else None,
        "RNG": None if job.noise_source is NoiseSource.GPU else job.noise_source.value,
        "Emphasis": job.style.emphasis.value if _emphasis_matters(job) else None,
        "NGMS": methods.s_min_uncond or None,
        "Pad conds": "True" if guidance.has_padding else None,
        **_tuning(job),
        **_refiner(job, model),
        **_shortcuts(methods),
        "Version": f"Hayate {__version__}",
    }
    return Infotext(prompt=job.prompt_text, negative_prompt=job.negative_text, parameters=order_parameters(values))


def _hires(job: Job, model: Mapping[str, str]) -> dict[str, str | float | None]:
    """What is said of the second pass. Source: A1111 behaviour, docs/compat.md."""
    second = job.second
    hires = None if second is None else second.hires
    if second is None or hires is None:
        return {}
    is_sized = hires.width_px is not None or hires.height_px is not None
    return {
        "Denoising strength": hires.denoising,
        "Hires checkpoint": model.get("Hires checkpoint"),
        "Hires upscale": None if is_sized else hires.scale,
        "Hires resize": f"{second.width_px}x{second.height_px}" if is_sized else None,
        "Hires steps": hires.steps,
        "Hires upscaler": hires.upscaler,
        "Hires sampler": second.sampler.name if hires.sampler else None,
        "Hires schedule type": _other_schedule(job, second),
        "Hires prompt": hires.prompt,
        "Hires negative prompt": hires.negative_prompt,
    }


def _refiner(job: Job, model: Mapping[str, str]) -> dict[str, str | float | None]:
    """What is said of the model that made the last steps. Source: A1111 behaviour."""
    if (job.second or job).refined is None:
        return {}
    at = job.request.refiner_switch_at
    return {"Refiner": model.get("Refiner"), "Refiner switch at": SWITCH_AT if at is None else at}


def _other_schedule(job: Job, second: Job) -> str | None:
    """The second pass' schedule where it is not the first one's: Automatic is another one for another sampler."""
    label, hires = schedule_label(second), job.request.hires
    is_asked = hires is not None and hires.scheduler is not None
    return label if is_asked or label != schedule_label(job) else None


def _start(job: Job) -> dict[str, str | float | None]:
    """What is said of the picture that the job started from. Source: A1111 behaviour, docs/compat.md."""
    start = job.request.start
    if start is None:
        return {}
    values: dict[str, str | float | None] = {
        "Denoising strength": start.denoising,
        FIRST_NOISE: start.noise_multiplier if start.noise_multiplier != 1 else None,
        "Resize mode": None if start.resize_mode == "just resize" else RESIZE_TITLES[start.resize_mode],
        "Outpaint": outpaint_text(start.extend_px) or None,
        **({} if job.start is None else job.start.hashes),
    }
    if start.mask is None and not any(start.extend_px):
        return values
    is_part = start.padding_px is not None
    return values | {
        "Mask blur": start.mask_blur or None,
        "Inpaint area": "Only masked" if is_part else None,
        "Masked area padding": start.padding_px if is_part else None,
        "Masked content": None if start.fill == "original" else start.fill,
        "Mask mode": "Inpaint not masked" if start.is_mask_inverted else None,
    }


def outpaint_text(extend_px: tuple[int, int, int, int]) -> str:
    """What is added around a picture, as words: `left=128 right=128`."""
    return " ".join(f"{side}={value}" for side, value in zip(SIDES, extend_px, strict=True) if value)


def schedule_label(job: Job) -> str:
    """The schedule's name, or Automatic where that was asked of a sampler without a schedule of its own.

    Source: A1111 behaviour, docs/compat.md.
    """
    is_automatic = job.asked_schedule.casefold() == AUTOMATIC.casefold()
    return AUTOMATIC if is_automatic and job.sampler.default_schedule == "Uniform" else job.table.schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """What the pictures took so far, and what acted."""

    seconds: Mapping[str, float]
    """Per phase: load, encode, sample, decode, save. Saving, in a thread of its own, is that of the pictures before."""
    rows: int
    """U-Net batches that were computed."""
    peak_memory_bytes: int | None
    evidence: tuple[Evidence, ...]

    def as_object(self) -> dict[str, Any]:
        """The record's `speed`, as JSON can hold it."""
        sample_s = self.seconds["sample"]
        attention = next((each for each in self.evidence if each.name == "attention"), None)
        return {
            "seconds": {phase: round(value, 3) for phase, value in self.seconds.items()},
            "it_per_s": round(self.rows / sample_s, 3) if sample_s > 0 else None,
            "peak_memory_bytes": self.peak_memory_bytes,
            "attention": attention.requested if attention and attention.active else None,
            "evidence": [asdict(each) for each in self.evidence],
        }


def record(job: Job, plan: Mapping[str, Any], speed: Speed, notes: Iterable[str]) -> dict[str, Any]:
    """Everything asked and resolved, as JSON can hold it, for the picture's second text chunk."""
    asked = {key: value for key, value in asdict(job.request).items() if value not in (None, (), {})}
    return {
        "version": __version__,
        "asked": asked,
        "plan": dict(plan),
        "notes": list(notes),
        "speed": speed.as_object(),
    }


def _passes(job: Job) -> tuple[Job, ...]:
    return (job,) if job.second is None else (job, job.second)


def _emphasis_matters(job: Job) -> bool:
    """Whether another mode would make another picture: None also reads BREAK and backslashes literally."""
    mode = job.style.emphasis
    marks = ("(", "[", "\\", "BREAK") if mode is Emphasis.NONE else ("(", "[")
    texts = [text for each in _passes(job) for text in (each.prompt_text, each.negative_text)]
    return mode is not Emphasis.ORIGINAL and any(mark in text for text in texts for mark in marks)


def _shortcuts(methods: Approximate) -> dict[str, str | float | None]:
    """The approximate methods, under A1111's keys where it has one."""
    interval = methods.guidance_interval
    return {
        "Token merging ratio": methods.tome or None,
        "Guidance interval": f"{interval[0]:g}-{interval[1]:g}" if interval else None,
        "DeepCache": methods.deepcache if methods.deepcache > 1 else None,
        "VAE Decoder": "TAESD" if methods.tiny_vae else None,
    }


def _tuning(job: Job) -> dict[str, float | None]:
    """What was asked of the samplers beside their defaults, under A1111's keys."""
    request = job.request
    etas = {
        ("Eta DDIM" if each.sampler.default_eta == 0 else "Eta"): each.table.eta
        for each in _passes(job)
        if each.table.eta != each.sampler.default_eta
    }
    return {
        **etas,
        "Schedule min sigma": request.sigma_min,
        "Schedule max sigma": request.sigma_max,
        "Schedule rho": request.rho,
    }
