"""A call of txt2img or img2img as the body of a job, and the notes on what is not as it was asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hayate.errors import UsageError
from hayate.prompt.extra_networks import split_extra_networks
from hayate.request import FILLS, RESIZE_MODES, Hires, StartImage, TextToImage, validate
from hayate.samplers.catalogue import resolve_sampler
from hayate.server.a1111.always_on import asked_extensions, with_always_on
from hayate.server.a1111.chosen import Options, options_for
from hayate.server.a1111.fill import filled
from hayate.server.a1111.names import Names, is_nothing
from hayate.server.a1111.requests import Generation, ImageToImageRequest, TextToImageRequest
from hayate.server.a1111.script_arguments import Planned
from hayate.server.a1111.scripts import plan_script
from hayate.server.preferences import Chosen

PIXEL_STEP = 8
"""A1111 takes any size and makes whole latents of it: 500 pixels are 496."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The pictures of a call, as files that a job can name."""

    start: Path | None = None
    mask: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Translated:
    """A call, ready to be queued."""

    body: Mapping[str, Any]
    request: TextToImage
    asked: Generation
    """The call with its infotext filled in."""
    notes: tuple[str, ...]
    has_grid: bool
    """Whether all pictures in one come first."""
    shows_pictures: bool
    """Whether the pictures come with it."""


def translate(asked: Generation, files: Files, chosen: Chosen, names: Names) -> Translated:
    """The job that a call means.

    Raises: UsageError, UnknownName.
    """
    asked, notes = filled(with_always_on(asked), names)
    options = options_for(chosen, asked.override_settings)
    said = [*notes, *options.notes, *_unsupported(asked)]
    request = _request(asked, files, options, names, said)
    script = plan_script(asked.script_name, asked.script_args, request, names)
    request = request if script is None else script.request
    validate(request)
    body = _body(asked, request, options, script)
    return Translated(
        body=body,
        has_grid=body["wants_grid"] or (script is not None and script.has_sheet),
        shows_pictures=script is None or script.shows_pictures,
        request=request,
        asked=asked,
        notes=(*said, *names.notes, *(() if script is None else script.notes)),
    )


def _body(asked: Generation, request: TextToImage, options: Options, script: Planned | None) -> dict[str, Any]:
    saves = asked.save_images and not asked.do_not_save_samples and options.value("samples_save")
    return {
        "request": said(request),
        "asked": _methods(asked, options),
        "settings": dict(options.settings),
        "saves_pictures": saves,
        "saves_grid": asked.save_images and not asked.do_not_save_grid and options.value("grid_save"),
        "wants_grid": asked.save_images and not asked.do_not_save_grid and options.value("return_grid"),
        "half_made": "saved" if options.value("save_incomplete_images") else "shown",
        "preview_every": _preview_every(options),
        "script": None if script is None or script.body is None else dict(script.body),
    }


def said(request: TextToImage) -> dict[str, Any]:
    """A request as JSON can hold it, without what it leaves open."""
    values = {key: value for key, value in asdict(request).items() if value not in (None, (), {})}
    for part in ("start", "hires"):
        if part in values:
            values[part] = {key: value for key, value in values[part].items() if value is not None}
    if "start" in values:
        values["start"]["extend_px"] = list(values["start"]["extend_px"])
    if "styles" in values:
        values["styles"] = list(values["styles"])
    return values


def _request(asked: Generation, files: Files, options: Options, names: Names, notes: list[str]) -> TextToImage:
    sampler, scheduler = names.sampler(asked.sampler_name or asked.sampler_index, asked.scheduler)
    width_px, height_px = _first_size(asked)
    size = tuple(each // PIXEL_STEP * PIXEL_STEP for each in (width_px, height_px))
    if size != (width_px, height_px):
        notes.append(f"{width_px}x{height_px} became {size[0]}x{size[1]}: latents are whole")
    resize = (asked.seed_resize_from_w, asked.seed_resize_from_h)
    resize = tuple(each // PIXEL_STEP * PIXEL_STEP for each in resize) if min(resize) > 0 else (None, None)
    has_refiner = not is_nothing(asked.refiner_checkpoint)
    return TextToImage(
        prompt=_without_networks(asked, asked.prompt),
        negative_prompt=asked.negative_prompt,
        styles=names.styles(asked.styles),
        model=names.overriding_model(options.model, options.standing_model),
        vae=names.vae(options.vae),
        steps=asked.steps,
        sampler=sampler,
        scheduler=scheduler,
        cfg=asked.cfg_scale,
        width_px=size[0],
        height_px=size[1],
        batch_size=asked.batch_size,
        batch_count=asked.n_iter,
        seed=asked.seed,
        subseed=asked.subseed,
        subseed_strength=asked.subseed_strength or None,
        seed_resize_from_w_px=resize[0],
        seed_resize_from_h_px=resize[1],
        eta=_eta(asked, sampler, options),
        sigma_min=options.changed("sigma_min"),
        sigma_max=options.changed("sigma_max"),
        rho=options.changed("rho"),
        start=_start(asked, files, options) if isinstance(asked, ImageToImageRequest) else None,
        hires=_hires(asked, names) if isinstance(asked, TextToImageRequest) and asked.enable_hr else None,
        refiner=names.model(asked.refiner_checkpoint) if has_refiner else None,
        refiner_switch_at=asked.refiner_switch_at if has_refiner else None,
        extensions=asked_extensions(asked),
    )


def _first_size(asked: Generation) -> tuple[int, int]:
    """Of the first pass; old callers give it apart, and the whole size is then the second one's."""
    if isinstance(asked, TextToImageRequest) and _has_first_phase(asked):
        return asked.firstphase_width or asked.width, asked.firstphase_height or asked.height
    return asked.width, asked.height


def _has_first_phase(asked: TextToImageRequest) -> bool:
    return asked.enable_hr and (asked.firstphase_width > 0 or asked.firstphase_height > 0)


def _eta(asked: Generation, sampler: str, options: Options) -> float | None:
    """Callers send it with every sampler; it is left out where it has no meaning."""
    default = resolve_sampler(sampler)[0].default_eta
    if default is None:
        return None
    return options.changed("eta_ddim" if default == 0 else "eta_ancestral") if asked.eta is None else asked.eta


def _hires(asked: TextToImageRequest, names: Names) -> Hires:
    width, height = asked.hr_resize_x, asked.hr_resize_y
    if _has_first_phase(asked):
        width, height = asked.width, asked.height
    sampler, joined = names.other_sampler(asked.hr_sampler_name)
    return Hires(
        scale=asked.hr_scale,
        width_px=width // PIXEL_STEP * PIXEL_STEP or None,
        height_px=height // PIXEL_STEP * PIXEL_STEP or None,
        upscaler=names.hires_upscaler(asked.hr_upscaler),
        denoising=0.75 if asked.denoising_strength is None else asked.denoising_strength,
        steps=asked.hr_second_pass_steps or None,
        sampler=sampler,
        scheduler=joined or names.other_schedule(asked.hr_scheduler),
        prompt=asked.hr_prompt or None,
        negative_prompt=asked.hr_negative_prompt or None,
        model=names.model(asked.hr_checkpoint_name),
    )


def _start(asked: ImageToImageRequest, files: Files, options: Options) -> StartImage:
    if files.start is None:
        raise UsageError("there is no picture to start from", hint="init_images")
    noise = options.value("initial_noise_multiplier")
    has_mask = files.mask is not None
    return StartImage(
        path=str(files.start),
        denoising=0.75 if asked.denoising_strength is None else asked.denoising_strength,
        resize_mode=_chosen(RESIZE_MODES, asked.resize_mode, "resize_mode"),
        noise_multiplier=noise if asked.initial_noise_multiplier is None else asked.initial_noise_multiplier,
        mask=str(files.mask) if has_mask else None,
        mask_blur=max(asked.mask_blur_x, asked.mask_blur_y) if asked.mask_blur is None else asked.mask_blur,
        is_mask_inverted=bool(asked.inpainting_mask_invert),
        fill=_chosen(FILLS, asked.inpainting_fill, "inpainting_fill"),
        padding_px=asked.inpaint_full_res_padding if has_mask and asked.inpaint_full_res else None,
    )


def _chosen(names: tuple[str, ...], index: int, field: str) -> str:
    if not 0 <= index < len(names):
        hint = ", ".join(f"{number} {name}" for number, name in enumerate(names))
        raise UsageError(f"{field} {index} is not there", hint=hint)
    return names[index]


def _methods(asked: Generation, options: Options) -> dict[str, Any]:
    """The approximate methods that a call asks for, as `Asked` has them."""
    ngms = options.value("s_min_uncond") if asked.s_min_uncond is None else asked.s_min_uncond
    merging = options.value("token_merging_ratio")
    methods: dict[str, Any] = {}
    if ngms > 0:
        methods["s_min_uncond"] = ngms
    if merging > 0:
        methods["tome"] = merging
    return methods


def _preview_every(options: Options) -> int | None:
    every = options.value("show_progress_every_n_steps")
    return every if options.value("live_previews_enable") and every > 0 else None


def _without_networks(asked: Generation, prompt: str) -> str:
    return split_extra_networks(prompt)[0] if asked.disable_extra_networks else prompt


def _unsupported(asked: Generation) -> list[str]:
    """A note for each field that asks for something that is not there."""
    found = {
        "restore_faces": bool(asked.restore_faces),
        "tiling": bool(asked.tiling),
        "s_churn": bool(asked.s_churn),
        "s_noise": asked.s_noise not in (None, 1),
        "firstpass_image": bool(asked.firstpass_image),
    }
    if isinstance(asked, ImageToImageRequest):
        found["latent_mask"] = bool(asked.latent_mask)
        found["mask_round"] = not asked.mask_round
        found["mask_blur_x"] = asked.mask_blur is None and asked.mask_blur_x != asked.mask_blur_y
    return [f"{name} has no effect here" for name, is_asked in found.items() if is_asked]
