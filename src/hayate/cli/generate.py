"""`hayate generate`: a text becomes pictures on the disk."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hayate.cli.computing import DEFAULTS, Own, takes_own
from hayate.errors import UsageError, clip
from hayate.flags import device_from, given
from hayate.request import Hires, StartImage, TextToImage, validate
from hayate.settings import Settings, load_settings

if TYPE_CHECKING:
    from hayate.pipeline.denoise import StepCallback
    from hayate.pipeline.session import Report
    from hayate.runtime.asked import Asked

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
@takes_own
def generate(  # noqa: PLR0917 - Typer makes a flag of each
    prompt: Annotated[
        str | None, typer.Argument(help="What to draw, in A1111's grammar; - reads it from standard input.")
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="Make the picture of this file again; options beside it win."),
    ] = None,
    prompts_from_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="One job for each line: a prompt, or options such as --prompt x --steps 20."),
    ] = None,
    negative: Annotated[str | None, typer.Option(help="What to keep out of the picture.")] = None,
    model: Annotated[str | None, typer.Option(help="A checkpoint's name or path. Default: the built-in model.")] = None,
    vae: Annotated[str | None, typer.Option(help="A separate VAE's name or path.")] = None,
    steps: Annotated[int | None, typer.Option(help="Sampling steps.")] = None,
    sampler: Annotated[str | None, typer.Option(help="The sampler, such as 'DPM++ 2M' or 'Euler a'.")] = None,
    scheduler: Annotated[str | None, typer.Option(help="The noise schedule, such as Karras.")] = None,
    cfg: Annotated[float | None, typer.Option(help="How strongly the prompt guides; 1 turns guidance off.")] = None,
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Size in pixels, multiples of 8.")] = None,
    seed: Annotated[int | None, typer.Option(help="The first picture's seed; -1 draws one.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Pictures made at once.")] = None,
    batch_count: Annotated[int | None, typer.Option(help="How many batches.")] = None,
    clip_skip: Annotated[int | None, typer.Option(help="The text encoder's layer, from the end.")] = None,
    style: Annotated[list[str] | None, typer.Option(help="A style of styles.csv; may be repeated.")] = None,
    subseed: Annotated[int | None, typer.Option(help="The variation's seed.")] = None,
    subseed_strength: Annotated[float | None, typer.Option(help="0: the seed's noise; 1: the variation's.")] = None,
    seed_resize_from: Annotated[str | None, typer.Option(metavar="WxH", help="Size the noise is drawn at.")] = None,
    rng: Annotated[str | None, typer.Option(help="Where noise is drawn: GPU, CPU or NV.")] = None,
    ensd: Annotated[int | None, typer.Option(help="Eta noise seed delta; 31337 for NovelAI.")] = None,
    emphasis: Annotated[str | None, typer.Option(help="How (weights) act: Original, No norm, Ignore, None.")] = None,
    eta: Annotated[float | None, typer.Option(help="Fresh noise in ancestral and SDE samplers and DDIM.")] = None,
    sigma_min: Annotated[float | None, typer.Option(help="The schedule's lowest noise level.")] = None,
    sigma_max: Annotated[float | None, typer.Option(help="The schedule's highest noise level.")] = None,
    rho: Annotated[float | None, typer.Option(help="The curve of Karras and Polyexponential.")] = None,
    image: Annotated[Path | None, typer.Option(help="A picture to start from (img2img).")] = None,
    denoising: Annotated[float, typer.Option(help="How much of it is made anew, 0 to 1.")] = 0.75,
    resize_mode: Annotated[str, typer.Option(help="just resize, crop, fill or latent.")] = "just resize",
    noise_multiplier: Annotated[float, typer.Option(help="A factor on its first noise.")] = 1.0,
    mask: Annotated[Path | None, typer.Option(help="White where it is made anew (inpainting).")] = None,
    mask_blur: Annotated[int, typer.Option(help="How soft the mask's edge is, in pixels.")] = 4,
    invert_mask: Annotated[bool, typer.Option("--invert-mask", help="Make anew what is black.")] = False,
    fill: Annotated[str, typer.Option(help="Under the mask: fill, original, latent noise or nothing.")] = "original",
    only_masked: Annotated[
        int | None, typer.Option(metavar="PX", help="Make the masked part alone, and PX around.")
    ] = None,
    hires: Annotated[
        bool, typer.Option("--hires/--no-hires", help="Make it again, larger, from the first picture (hires fix).")
    ] = False,
    hires_scale: Annotated[float, typer.Option(help="How many times as large.")] = 2.0,
    hires_size: Annotated[str | None, typer.Option(metavar="WxH", help="The size, instead of the scale.")] = None,
    hires_upscaler: Annotated[str, typer.Option(help="Latent, Latent (nearest-exact), Lanczos …")] = "Latent",
    hires_denoising: Annotated[float, typer.Option(help="How much of it is made anew, 0 to 1.")] = 0.7,
    hires_steps: Annotated[int | None, typer.Option(help="Steps of the second pass.")] = None,
    hires_sampler: Annotated[str | None, typer.Option(help="Its sampler.")] = None,
    hires_scheduler: Annotated[str | None, typer.Option(help="Its schedule.")] = None,
    hires_prompt: Annotated[str | None, typer.Option(help="Its prompt.")] = None,
    hires_negative: Annotated[str | None, typer.Option(help="Its negative prompt.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A folder, or a file with a picture's ending.")
    ] = None,
    picture_format: Annotated[
        str | None, typer.Option("--format", help="png, jpeg, webp or avif; by default -o's ending, else png.")
    ] = None,
    quality: Annotated[int | None, typer.Option(help="Of JPEG, WebP and AVIF, 1 to 100.")] = None,
    grid: Annotated[bool, typer.Option("--grid", help="Save all pictures in one as well.")] = False,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, fp32, fp16 or bf16.")] = None,
    own: Own = DEFAULTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Make pictures from a text, or those of a file again.

    A1111's flags (--xformers, --medvram, --no-half …) are understood too.
    """
    width_px, height_px = parse_size(size, "--size")
    given_start: dict[str, Any] = {
        "denoising": denoising,
        "resize_mode": resize_mode,
        "noise_multiplier": noise_multiplier,
        "mask_blur": mask_blur,
        "is_mask_inverted": invert_mask,
        "fill": "latent nothing" if fill == "nothing" else fill,
        "padding_px": only_masked,
    }
    hires_w_px, hires_h_px = parse_size(hires_size, "--hires-size")
    second_pass = Hires(
        scale=hires_scale,
        width_px=hires_w_px,
        height_px=hires_h_px,
        upscaler=hires_upscaler,
        denoising=hires_denoising,
        steps=hires_steps,
        sampler=hires_sampler,
        scheduler=hires_scheduler,
        prompt=hires_prompt,
        negative_prompt=hires_negative,
    )
    resize_w_px, resize_h_px = parse_size(seed_resize_from, "--seed-resize-from")
    if prompt is None and source is None and prompts_from_file is None:
        raise UsageError("missing argument: nothing says what to draw", hint="give a prompt, or see --help")
    changes = given_of(
        prompt=sys.stdin.read() if prompt == "-" else prompt,
        negative_prompt=negative,
        styles=tuple(style) if style else None,
        model=model,
        vae=vae,
        steps=steps,
        sampler=sampler,
        scheduler=scheduler,
        cfg=cfg,
        width_px=width_px,
        height_px=height_px,
        batch_size=batch_size,
        batch_count=batch_count,
        seed=seed,
        subseed=subseed,
        subseed_strength=subseed_strength,
        seed_resize_from_w_px=resize_w_px,
        seed_resize_from_h_px=resize_h_px,
        noise_source=rng,
        ensd=ensd,
        clip_skip=clip_skip,
        emphasis=emphasis,
        eta=eta,
        sigma_min=sigma_min,
        sigma_max=sigma_max,
        rho=rho,
        start=start_image(image, mask, given_start),
        hires=second_pass if hires else None,
        device=device_from(given.get(), device),
        dtype=dtype,
    )
    settings = load_settings({"format": format_of(picture_format, output), "quality": quality})
    wanted = Wanted(output=output, has_grid=grid, as_json=as_json)
    base, asked = begin_with(source, settings, changes, own.asked())
    request = replace(base, **changes)
    if prompts_from_file is None:
        run(request, asked, settings, wanted)
    elif prompt is None:
        run_file(prompts_from_file, request, asked, settings, wanted)
    else:
        raise UsageError("a prompt and --prompts-from-file are given", hint="leave one of them out")


def start_image(image: Path | None, mask: Path | None, others: dict[str, Any]) -> StartImage | None:
    """What the options say of a picture to start from.

    Raises: UsageError for a mask without a picture.
    """
    if image is None:
        if mask is not None:
            raise UsageError("--mask needs the picture that it is for", hint="--image FILE --mask FILE")
        return None
    return StartImage(path=str(image), mask=None if mask is None else str(mask), **others)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be written, and where."""

    output: Path | None
    has_grid: bool
    as_json: bool


def run(request: TextToImage, asked: Asked, settings: Settings, wanted: Wanted) -> None:
    """Checks what needs no model, then makes and saves the pictures and says where they are."""
    started = time.perf_counter()
    validate(request)
    from hayate.pipeline.session import make_pictures

    with progress(wanted.as_json) as on_row:
        report = make_pictures(request, settings, wanted.output, on_row, asked, has_grid=wanted.has_grid)
    seconds = time.perf_counter() - started
    if wanted.as_json:
        typer.echo(json.dumps(as_object(report, seconds), ensure_ascii=True))
    else:
        show(report, seconds)


def run_file(path: Path, base: TextToImage, asked: Asked, settings: Settings, wanted: Wanted) -> None:
    """Checks every line of a file of prompts, then makes one job after the other with the same models in memory."""
    from hayate.pipeline.prepared import check_request
    from hayate.pipeline.prompts_file import numbered, read_prompts_file
    from hayate.pipeline.session import make_pictures
    from hayate.pipeline.workspace import Workspace

    jobs = read_prompts_file(path, base)
    for number, request in jobs:
        with numbered(path, number):
            check_request(request, settings, asked)
    objects: list[dict[str, Any]] = []
    with Workspace(settings) as workspace:
        for number, request in jobs:
            started = time.perf_counter()
            with numbered(path, number), progress(wanted.as_json) as on_row:
                report = make_pictures(
                    request, settings, wanted.output, on_row, asked, workspace=workspace, has_grid=wanted.has_grid
                )
            seconds = time.perf_counter() - started
            if not wanted.as_json:
                show(report, seconds)
            objects.append({"line": number, **as_object(report, seconds)})
    if wanted.as_json:
        typer.echo(json.dumps({"jobs": objects}, ensure_ascii=True))


def begin_with(
    source: Path | None, settings: Settings, changes: Mapping[str, Any], asked: Asked
) -> tuple[TextToImage, Asked]:
    """The request that `changes` are made to, and what is asked of the machine: the picture's own, or nothing."""
    if source is None:
        return TextToImage(prompt=""), asked
    from hayate.pipeline.pasted import paste_picture

    own = {each.name: getattr(asked, each.name) for each in fields(asked)}
    pasted = paste_picture(source, settings, {*changes, *(name for name, value in own.items() if value is not None)})
    methods = {each.name: getattr(pasted.asked, each.name) for each in fields(asked)}
    added = {name: value for name, value in methods.items() if own[name] is None and value is not None}
    return pasted.request, replace(asked, notes=(*asked.notes, *pasted.notes), **added)


def given_of(**values: Any) -> dict[str, Any]:
    """Those of `values` that are given."""
    return {name: value for name, value in values.items() if value is not None}


def format_of(name: str | None, output: Path | None) -> str | None:
    """The format that --format names, unless the file's ending says another one.

    Raises: UsageError.
    """
    from hayate.pipeline.formats import ENDINGS

    wanted = None if name is None else ENDINGS.get(f".{name.lower()}", name.lower())
    ending = "" if output is None or output.is_dir() else output.suffix.lower()
    if wanted and ENDINGS.get(ending, wanted) != wanted:
        raise UsageError(f"--format {clip(wanted)} and a file that ends in {ending}", hint="leave one of them out")
    return wanted


def show(report: Report, seconds: float) -> None:
    """Says where the pictures are, and beside it what there is to say."""
    for note in report.notes:
        typer.echo(f"note: {note}", err=True)
    for picture in report.pictures:
        typer.echo(f"{picture.path}")
    if report.grid is not None:
        typer.echo(f"{report.grid}")
    typer.echo(summary(report, seconds), err=True)  # apart from the paths, so that a script can read those


def parse_size(text: str | None, flag: str) -> tuple[int | None, int | None]:
    """Width and height of "512x768", or two Nones.

    Raises: UsageError.
    """
    if text is None:
        return None, None
    width, _, height = text.lower().replace("×", "x").partition("x")
    if not (width.isascii() and height.isascii() and width.isdigit() and height.isdigit() and len(text) < 20):
        raise UsageError(f"{flag} {clip(text, 30)!r} is not a size", hint="write WIDTHxHEIGHT, such as 512x768")
    return int(width), int(height)


def as_object(report: Report, seconds: float) -> dict[str, Any]:
    """The JSON object that `--json` prints."""
    return {
        "images": [
            {"path": str(picture.path), "seed": picture.seed, "infotext": picture.infotext}
            for picture in report.pictures
        ],
        "grid": None if report.grid is None else str(report.grid),
        "model": report.model,
        "plan": report.plan,
        "notes": list(report.notes),
        "seconds": {**report.seconds, "total": round(seconds, 3)},
        "speed": report.speed,
    }


def summary(report: Report, seconds: float) -> str:
    """The last line: how many pictures, in what time."""
    count = len(report.pictures)
    speed = report.rows / report.seconds["sample"] if report.seconds["sample"] > 0 else 0.0
    noun = "picture" if count == 1 else "pictures"
    return f"{count} {noun} in {seconds:.1f} s ({speed:.2f} it/s, sampling {report.seconds['sample']:.1f} s)"


@contextmanager
def progress(is_silent: bool) -> Iterator[StepCallback]:
    """A bar with it/s on standard error; silent for `--json` and where nobody watches."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if is_silent or not console.is_terminal:
        yield lambda done, rows: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("loading", total=None, speed="")

        def on_row(done: int, rows: int) -> None:
            if done == 1:
                bar.reset(task, total=rows, description="sampling", completed=1)
            speed = bar.tasks[task].speed
            bar.update(task, completed=done, total=rows, speed=f"{speed:.2f} it/s" if speed else "")

        yield on_row
