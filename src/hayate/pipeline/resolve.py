"""What was asked becomes what will be done: one function, nothing left open, a reason for each choice."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from hayate.errors import UsageError
from hayate.extensions.current import current
from hayate.models.config import Family, ModelConfig
from hayate.pipeline.chosen import NoiseSource, choose
from hayate.pipeline.encode import TextStyle
from hayate.pipeline.guidance import GuidanceScale
from hayate.pipeline.inversions import find_inversions
from hayate.pipeline.job import Job
from hayate.pipeline.loras import find_loras
from hayate.pipeline.refine import SWITCH_AT, refine
from hayate.prompt.chunks import Emphasis
from hayate.prompt.extra_networks import split_extra_networks
from hayate.prompt.schedule import Prompt, parse_prompt
from hayate.prompt.styles import apply_styles, choose_styles, read_styles
from hayate.prompt.tokenizer import load_tokenizer
from hayate.request import LATENT_UPSCALERS, PIXEL_UPSCALERS, Hires, TextToImage
from hayate.samplers.catalogue import SamplerInfo, build, resolve_sampler
from hayate.samplers.grid import MOST_STRENGTH, moves_of
from hayate.samplers.sigmas import (
    NoiseSchedule,
    ScheduleOptions,
    resolve_schedule,
    scaled_linear,
    zero_terminal_snr,
)
from hayate.samplers.table import StepTable
from hayate.settings import Settings
from hayate.weights.upscalers import find_upscaler

Value = TypeVar("Value")

SEED_LIMIT = 4294967294
"""Random seeds are below this, as in A1111."""


MAX_HIRES_PX = 8192


def resolve(
    request: TextToImage,
    settings: Settings,
    config: ModelConfig,
    *,
    hires: ModelConfig | None = None,
    refiner: ModelConfig | None = None,
) -> Job:
    """The job that `request` becomes for a model: the request first, then the settings, then the model's own defaults.

    `hires` and `refiner` are the other models that the request names, as far as they are others.
    Raises: UsageError for what this model can't do, UnknownName for an unknown sampler or schedule.
    """
    if config.family is Family.SDXL_REFINER:
        message = "this is SDXL's refiner, which finishes another model's picture"
        raise UsageError(message, hint="choose a base model, and this one with --refiner")
    first = resolve_pass(request, settings, config)
    if request.hires is None:
        return _with_refiner(first, settings, config, refiner)
    second = _with_refiner(second_pass(first, settings, hires or config), settings, hires or config, refiner)
    return replace(first, second=second, notes=tuple(dict.fromkeys((*first.notes, *second.notes))))


def _with_refiner(job: Job, settings: Settings, config: ModelConfig, refiner: ModelConfig | None) -> Job:
    """A pass whose end is made by a refiner, where it has one; else a note says why not."""
    request = job.request
    if refiner is None:
        is_idle = request.refiner is None and request.refiner_switch_at is not None
        note = "refiner switch at acts on nothing: there is no refiner"
        return replace(job, notes=(*job.notes, note)) if is_idle else job
    at = first_given(request.refiner_switch_at, SWITCH_AT)
    refined = refine(job.table, at, noise_schedule(config), noise_schedule(refiner))
    if job.hires is not None and not job.hires_acts:
        refined = None
    if refined is None:
        note = f"the refiner does not act: no step comes so late that it would switch at {at:g}"
        return replace(job, notes=(*job.notes, note))
    notes: list[str] = []
    kind = (job.style.tokenizer, job.style.emphasis)
    inverted = find_inversions(_stages(job.prompt, job.negative), kind, settings.embeddings_dir, refiner, notes)
    told = (f"for the refiner {note}" for note in notes if refiner.text != config.text)
    return replace(job, refined=refined, refiner_inverted=inverted, notes=(*job.notes, *told))


def _stages(*prompts: Prompt) -> list[str]:
    """All texts that prompts become."""
    return [stage.text for each in prompts for part in each.subprompts for stage in part.stages]


def second_pass(first: Job, settings: Settings, config: ModelConfig) -> Job:
    """The pass of hires fix: all of its steps are taken, on the end of a schedule that is as much longer.

    Source: A1111 behaviour, docs/compat.md.
    Raises: UsageError for a size that can't be.
    """
    request, hires = first.request, first.request.hires
    assert hires is not None
    width_px, height_px = hires_size(first.width_px, first.height_px, hires)
    sampler, combined = resolve_sampler(hires.sampler or first.sampler.name)
    steps = hires.steps or first.steps
    again = replace(
        request,
        prompt=request.prompt if hires.prompt is None else hires.prompt,
        negative_prompt=request.negative_prompt if hires.negative_prompt is None else hires.negative_prompt,
        sampler=sampler.name,
        scheduler=hires.scheduler or combined or first.asked_schedule,
        steps=int(steps / min(hires.denoising, MOST_STRENGTH)) if hires.denoising else steps,
        width_px=width_px,
        height_px=height_px,
        seed=first.seed,
        subseed=first.subseed,
        hires=None,
    )
    evaluations = first.table.steps * 2 if first.sampler.is_second_order else first.table.steps
    job = resolve_pass(again, settings, config, moves=steps - 1, first_evaluations=evaluations)
    file = upscaler_file(hires.upscaler, settings)
    hires = hires if file is None else replace(hires, upscaler=file.stem)
    return replace(job, steps=steps, hires=hires, noise_source=first.noise_source)


def upscaler_file(name: str, settings: Settings) -> Path | None:
    """The file of an upscaler that is one; None for the ways that are built in.

    Raises: UnknownName.
    """
    built_in = (*LATENT_UPSCALERS, *PIXEL_UPSCALERS)
    return None if name in built_in else find_upscaler(name, settings.upscalers_dir, built_in)


def hires_size(width_px: int, height_px: int, hires: Hires) -> tuple[int, int]:
    """The size of the second pass, in multiples of 8.

    Raises: UsageError for another shape, or beyond the largest.
    """
    asked = (hires.width_px, hires.height_px)
    scale = hires.scale
    if asked != (None, None):
        scale = max((wanted or 0) / side for wanted, side in zip(asked, (width_px, height_px), strict=True))
    size = (int(width_px * scale) // 8 * 8, int(height_px * scale) // 8 * 8)
    if None not in asked and asked != size:
        message = f"{asked[0]}x{asked[1]} has another shape than {width_px}x{height_px}"
        raise UsageError(message, hint=f"--hires-size {size[0]}x{size[1]}, or --hires-scale")
    if max(size) > MAX_HIRES_PX or min(size) < 64:
        raise UsageError(f"a second pass of {size[0]}x{size[1]} can't be", hint=f"64 to {MAX_HIRES_PX} pixels a side")
    return size


def resolve_pass(
    request: TextToImage,
    settings: Settings,
    config: ModelConfig,
    *,
    moves: int | None = None,
    first_evaluations: int | None = None,
) -> Job:
    """One pass; the second one has `moves`, and the evaluations of the first, from which its prompt goes on counting.

    Raises: UsageError, UnknownName.
    """
    _check_model(config)
    notes: list[str] = []
    sampler, combined_schedule = resolve_sampler(first_given(request.sampler, settings.sampler))
    schedule = first_given(request.scheduler, combined_schedule, settings.scheduler)
    steps = first_given(request.steps, settings.steps)
    cfg = first_given(request.cfg, settings.cfg)
    width_px = first_given(request.width_px, settings.width_px, config.native_size_px)
    height_px = first_given(request.height_px, settings.height_px, config.native_size_px)
    table = build(
        sampler.name,
        schedule,
        steps,
        noise_schedule(config),
        eta=request.eta,
        options=ScheduleOptions(sigma_min=request.sigma_min, sigma_max=request.sigma_max, rho=request.rho),
        moves=moves if request.start is None else moves_of(steps, request.start.denoising),
    )
    notes += table.notes
    texts = _apply_styles(request, settings, notes)
    prompt, negative = _read_prompts(texts, table, sampler, notes, first_evaluations)
    loras = find_loras(split_extra_networks(texts[0])[1], settings.lora_dir, notes)
    tokenizer = load_tokenizer()
    emphasis = choose(Emphasis, "emphasis mode", first_given(request.emphasis, settings.emphasis))
    style = TextStyle(
        tokenizer=tokenizer,
        emphasis=emphasis,
        inverted=find_inversions(
            _stages(prompt, negative), (tokenizer, emphasis), settings.embeddings_dir, config, notes
        ),
        comma_backtrack=settings.comma_backtrack,
        clip_skip=_clip_skip(first_given(request.clip_skip, settings.clip_skip, 1), config, notes),
        width_px=width_px,
        height_px=height_px,
    )
    return Job(
        request=request,
        prompt_text=texts[0],
        negative_text=texts[1],
        asked_schedule=schedule,
        prompt=prompt,
        negative=negative,
        sampler=sampler,
        table=table,
        guidance=GuidanceScale(scale=cfg * table.guidance_factor, needs_negative=table.uses_uncond),
        style=style,
        steps=steps,
        cfg=cfg,
        width_px=width_px,
        height_px=height_px,
        seed=drawn_seed(request.seed),
        subseed=drawn_seed(request.subseed),
        subseed_strength=request.subseed_strength or 0.0,
        seed_resize_from_px=_seed_resize(request),
        noise_source=choose(NoiseSource, "noise source", first_given(request.noise_source, settings.rng)),
        ensd=first_given(request.ensd, settings.ensd),
        batch_size=first_given(request.batch_size, settings.batch_size),
        batch_count=first_given(request.batch_count, 1),
        notes=tuple(notes),
        loras=loras,
    )


def check_names(request: TextToImage, settings: Settings) -> None:
    """Looks up every name that needs no model, so that a slip costs no time.

    Raises: UnknownName, UsageError.
    """
    resolve_sampler(first_given(request.sampler, settings.sampler))
    resolve_schedule(first_given(request.scheduler, settings.scheduler))
    choose(Emphasis, "emphasis mode", first_given(request.emphasis, settings.emphasis))
    choose(NoiseSource, "noise source", first_given(request.noise_source, settings.rng))
    if request.hires is not None:
        upscaler_file(request.hires.upscaler, settings)
    current().asked_of(request.extensions)


def noise_schedule(config: ModelConfig) -> NoiseSchedule:
    """The noise levels that the model was trained on."""
    schedule = scaled_linear()
    return zero_terminal_snr(schedule) if config.is_zero_terminal_snr else schedule


def first_given(*values: Value | None) -> Value:
    """The first of `values` that is not None; the last one never is."""
    return next(value for value in values if value is not None)


def _check_model(config: ModelConfig) -> None:
    if config.unet.in_channels != 4 and not config.is_inpainting:
        raise UsageError("this is a model that edits a picture by instructions", hint="choose a text-to-image model")


def _apply_styles(request: TextToImage, settings: Settings, notes: list[str]) -> tuple[str, str]:
    """Prompt and negative prompt with the request's styles around them."""
    if not request.styles:
        return request.prompt, request.negative_prompt
    sheet = read_styles(settings.styles_file)
    notes += sheet.warnings
    styles = choose_styles(request.styles, sheet.styles)
    negative = apply_styles(request.negative_prompt, styles, is_negative=True)
    return apply_styles(request.prompt, styles), negative


def _read_prompts(
    texts: tuple[str, str], table: StepTable, sampler: SamplerInfo, notes: list[str], before: int | None
) -> tuple[Prompt, Prompt]:
    """Both prompts as schedules; second-order samplers count two evaluations for every step, as A1111 does."""
    text, negative_text = (split_extra_networks(each)[0] for each in texts)
    evaluations = table.steps * 2 if sampler.is_second_order else table.steps
    counts = (evaluations, None) if before is None else (before, evaluations)
    prompt = parse_prompt(text, counts[0], hires_steps=counts[1])
    negative = parse_prompt(negative_text, counts[0], hires_steps=counts[1], is_negative=True)
    notes += [*prompt.warnings, *(f"negative prompt: {warning}" for warning in negative.warnings)]
    return prompt, negative


def _clip_skip(asked: int, config: ModelConfig, notes: list[str]) -> int | None:
    if asked <= 1:
        return None
    depth = config.text[0].depth
    if config.family is not Family.SD1:
        notes.append(f"clip skip {asked} does not act: {config.family.value.upper()} fixes which layer is read")
        return None
    if asked > depth:
        raise UsageError(f"clip skip {asked} is more than the text encoder's {depth} layers", hint=f"1 to {depth}")
    return asked


def styled(request: TextToImage, settings: Settings) -> tuple[TextToImage, list[str]]:
    """The request with its styles put into its prompts, and what is wrong with the file of styles.

    Raises: UsageError, UnknownName.
    """
    notes: list[str] = []
    prompt, negative = _apply_styles(request, settings, notes)
    return replace(request, prompt=prompt, negative_prompt=negative, styles=()), notes


def drawn_seed(asked: int | None) -> int:
    """The seed that was asked for, or one by chance."""
    return random.randrange(SEED_LIMIT) if asked is None or asked == -1 else asked


def _seed_resize(request: TextToImage) -> tuple[int, int] | None:
    size = (request.seed_resize_from_w_px or 0, request.seed_resize_from_h_px or 0)
    return size if min(size) > 0 else None
