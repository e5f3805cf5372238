"""The options that say what to draw; every command that makes pictures has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hayate.cli.extended import parse_extensions
from hayate.cli.options import given_of, parse_size
from hayate.errors import UsageError
from hayate.flags import device_from, given
from hayate.request import Hires, StartImage

if TYPE_CHECKING:
    from hayate.pipeline.previews import Previewer


@dataclass(frozen=True, slots=True)
class Drawn:
    """What to draw, beside the prompt."""

    negative: Annotated[str | None, typer.Option(help="What to keep out of the picture.")] = None
    model: Annotated[
        str | None, typer.Option("--model", "--ckpt", help="A checkpoint's name or path. Default: the built-in model.")
    ] = None
    vae: Annotated[str | None, typer.Option("--vae", "--vae-path", help="A separate VAE's name or path.")] = None
    refiner: Annotated[str | None, typer.Option(help="A checkpoint that makes the last steps.")] = None
    refiner_switch_at: Annotated[
        float | None, typer.Option(help="When it takes over, 0.01 to 1 of the way; 0.8 if left out.")
    ] = None
    steps: Annotated[int | None, typer.Option(help="Sampling steps.")] = None
    sampler: Annotated[str | None, typer.Option(help="The sampler, such as 'DPM++ 2M' or 'Euler a'.")] = None
    scheduler: Annotated[str | None, typer.Option(help="The noise schedule, such as Karras.")] = None
    cfg: Annotated[float | None, typer.Option(help="How strongly the prompt guides; 1 turns guidance off.")] = None
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Size in pixels, multiples of 8.")] = None
    seed: Annotated[int | None, typer.Option(help="The first picture's seed; -1 draws one.")] = None
    batch_size: Annotated[int | None, typer.Option(help="Pictures made at once.")] = None
    batch_count: Annotated[int | None, typer.Option(help="How many batches.")] = None
    clip_skip: Annotated[int | None, typer.Option(help="The text encoder's layer, from the end.")] = None
    style: Annotated[list[str] | None, typer.Option(help="A style of styles.csv; may be repeated.")] = None
    subseed: Annotated[int | None, typer.Option(help="The variation's seed.")] = None
    subseed_strength: Annotated[float | None, typer.Option(help="0: the seed's noise; 1: the variation's.")] = None
    seed_resize_from: Annotated[str | None, typer.Option(metavar="WxH", help="Size the noise is drawn at.")] = None
    rng: Annotated[str | None, typer.Option(help="Where noise is drawn: GPU, CPU or NV.")] = None
    ensd: Annotated[int | None, typer.Option(help="Eta noise seed delta; 31337 for NovelAI.")] = None
    emphasis: Annotated[str | None, typer.Option(help="How (weights) act: Original, No norm, Ignore, None.")] = None
    eta: Annotated[float | None, typer.Option(help="Fresh noise in ancestral and SDE samplers and DDIM.")] = None
    sigma_min: Annotated[float | None, typer.Option(help="The schedule's lowest noise level.")] = None
    sigma_max: Annotated[float | None, typer.Option(help="The schedule's highest noise level.")] = None
    rho: Annotated[float | None, typer.Option(help="The curve of Karras and Polyexponential.")] = None
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = None
    dtype: Annotated[str | None, typer.Option(help="auto, fp32, fp16 or bf16.")] = None
    extension: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[.FIELD=VALUE]", help="Let an extension act, and say something to it; repeatable."),
    ] = None

    def changes(self) -> dict[str, Any]:
        """The fields of a `TextToImage` that are given.

        Raises: UsageError.
        """
        width_px, height_px = parse_size(self.size, "--size")
        resize_w_px, resize_h_px = parse_size(self.seed_resize_from, "--seed-resize-from")
        return given_of(
            negative_prompt=self.negative,
            styles=tuple(self.style) if self.style else None,
            model=self.model,
            vae=self.vae,
            refiner=self.refiner,
            refiner_switch_at=self.refiner_switch_at,
            steps=self.steps,
            sampler=self.sampler,
            scheduler=self.scheduler,
            cfg=self.cfg,
            width_px=width_px,
            height_px=height_px,
            batch_size=self.batch_size,
            batch_count=self.batch_count,
            seed=self.seed,
            subseed=self.subseed,
            subseed_strength=self.subseed_strength,
            seed_resize_from_w_px=resize_w_px,
            seed_resize_from_h_px=resize_h_px,
            noise_source=self.rng,
            ensd=self.ensd,
            clip_skip=self.clip_skip,
            emphasis=self.emphasis,
            eta=self.eta,
            sigma_min=self.sigma_min,
            sigma_max=self.sigma_max,
            rho=self.rho,
            device=device_from(given.get(), self.device),
            dtype=self.dtype,
            extensions=parse_extensions(self.extension) if self.extension else None,
        )


@dataclass(frozen=True, slots=True)
class Started:
    """A picture to start from."""

    image: Annotated[Path | None, typer.Option(help="A picture to start from (img2img), or a folder of them.")] = None
    denoising: Annotated[float | None, typer.Option(help="How much of it is made anew, 0 to 1; else 0.75.")] = None
    resize_mode: Annotated[str | None, typer.Option(help="just resize, crop, fill or latent.")] = None
    noise_multiplier: Annotated[float | None, typer.Option(help="A factor on its first noise.")] = None
    mask: Annotated[Path | None, typer.Option(help="White where it is made anew (inpainting), or a folder.")] = None
    mask_blur: Annotated[int | None, typer.Option(help="How soft the mask's edge is, in pixels; else 4.")] = None
    invert_mask: Annotated[
        bool | None, typer.Option("--invert-mask/--no-invert-mask", help="Make anew what is black.")
    ] = None
    fill: Annotated[
        str | None, typer.Option(help="Under the mask: fill, original, latent noise or nothing; else original.")
    ] = None
    outpaint: Annotated[
        str | None,
        typer.Option(metavar="SIDES", help="Add to the picture's sides, such as left=128,right=128 (outpainting)."),
    ] = None
    only_masked: Annotated[
        int | None, typer.Option(metavar="PX", help="Make the masked part alone, and PX around.")
    ] = None

    def given(self) -> dict[str, Any]:
        """The fields of a `StartImage` that are given.

        Raises: UsageError.
        """
        from hayate.pipeline.start_keys import extended_by

        return given_of(
            path=None if self.image is None else str(self.image),
            denoising=self.denoising,
            resize_mode=self.resize_mode,
            noise_multiplier=self.noise_multiplier,
            mask=None if self.mask is None else str(self.mask),
            mask_blur=self.mask_blur,
            is_mask_inverted=self.invert_mask,
            fill="latent nothing" if self.fill == "nothing" else self.fill,
            extend_px=None if self.outpaint is None else extended_by(self.outpaint),
            padding_px=self.only_masked,
        )

    def start(self, base: Mapping[str, Any] = MappingProxyType({})) -> StartImage | None:
        """The picture to start from, if there is one; what is not given is as in `base`.

        Raises: UsageError for options that need a picture, and none is there.
        """
        values = {**base, **self.given()}
        if "path" in values:
            return StartImage(**values)
        for name in self.given():
            flag = "--" + _FLAGS.get(name, name).replace("_", "-")
            hint = "--hires-denoising is hires fix's" if name == "denoising" else f"--image FILE {flag} …"
            raise UsageError(f"{flag} needs the picture that it is for", hint=hint)
        return None


_FLAGS = MappingProxyType({"is_mask_inverted": "invert_mask", "padding_px": "only_masked", "extend_px": "outpaint"})


@dataclass(frozen=True, slots=True)
class Enlarged:
    """Hires fix."""

    hires: Annotated[
        bool, typer.Option("--hires/--no-hires", help="Make it again, larger, from the first picture (hires fix).")
    ] = False
    hires_scale: Annotated[float, typer.Option(help="How many times as large.")] = 2.0
    hires_size: Annotated[str | None, typer.Option(metavar="WxH", help="The size, instead of the scale.")] = None
    hires_upscaler: Annotated[str, typer.Option(help="Latent, Latent (nearest-exact), Lanczos, a file's name …")] = (
        "Latent"
    )
    hires_denoising: Annotated[float, typer.Option(help="How much of it is made anew, 0 to 1.")] = 0.7
    hires_steps: Annotated[int | None, typer.Option(help="Steps of the second pass.")] = None
    hires_sampler: Annotated[str | None, typer.Option(help="Its sampler.")] = None
    hires_scheduler: Annotated[str | None, typer.Option(help="Its schedule.")] = None
    hires_prompt: Annotated[str | None, typer.Option(help="Its prompt.")] = None
    hires_negative: Annotated[str | None, typer.Option(help="Its negative prompt.")] = None
    hires_model: Annotated[str | None, typer.Option(help="Another checkpoint for it.")] = None

    def changes(self) -> dict[str, Any]:
        """The second pass of a `TextToImage`, if it is asked for.

        Raises: UsageError.
        """
        if not self.hires:
            return {}
        width_px, height_px = parse_size(self.hires_size, "--hires-size")
        second = Hires(
            scale=self.hires_scale,
            width_px=width_px,
            height_px=height_px,
            upscaler=self.hires_upscaler,
            denoising=self.hires_denoising,
            steps=self.hires_steps,
            sampler=self.hires_sampler,
            scheduler=self.hires_scheduler,
            prompt=self.hires_prompt,
            negative_prompt=self.hires_negative,
            model=self.hires_model,
        )
        return {"hires": second}


@dataclass(frozen=True, slots=True)
class Watched:
    """Pictures while they are made."""

    preview: Annotated[Path | None, typer.Option(metavar="FILE", help="Show them here while they are made.")] = None
    preview_every: Annotated[int, typer.Option(metavar="N", help="After every N evaluations.")] = 5
    preview_vae: Annotated[Path | None, typer.Option(help="A TAESD file that makes the previews.")] = None

    def previewer(self) -> Previewer | None:
        """What writes the previews, if they are asked for.

        Raises: UsageError, ModelFileError.
        """
        if self.preview is None:
            if self.preview_vae is not None:
                raise UsageError("--preview-vae needs the file that it is for", hint="--preview FILE.png")
            return None
        from hayate.pipeline.previews import Previewer, file_publisher

        return Previewer(file_publisher(self.preview), every=self.preview_every, tiny_vae=self.preview_vae)


ANY = Drawn()
FROM_NOISE = Started()
AT_ONCE = Enlarged()
UNWATCHED = Watched()
