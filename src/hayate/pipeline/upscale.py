"""Finished pictures made larger: by an upscaler alone, or redrawn in tiles as well (A1111's extras and SD upscale).

Source: A1111 behaviour, docs/compat.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from hayate import __version__
from hayate.errors import UsageError
from hayate.pipeline.cast import Cast
from hayate.pipeline.decode import decode_latents
from hayate.pipeline.denoise import StepCallback
from hayate.pipeline.enlarge import Enlarger, enlarged_size
from hayate.pipeline.formats import PictureTexts
from hayate.pipeline.guards import Guard
from hayate.pipeline.guidance import Guidance
from hayate.pipeline.infotext import format_infotext, order_parameters, parse_infotext, quote
from hayate.pipeline.job import Job
from hayate.pipeline.parameters import describe
from hayate.pipeline.patches import Canvas, Cut
from hayate.pipeline.picture_info import PictureInfo
from hayate.pipeline.pictures import Start, read_picture
from hayate.pipeline.players import model_paths, read_config
from hayate.pipeline.prepared import prepare_request
from hayate.pipeline.report import plan_of
from hayate.pipeline.retouching import Made
from hayate.pipeline.text2image import encode_start, sample, show_around, tell
from hayate.pipeline.workspace import Workspace
from hayate.request import StartImage, TextToImage
from hayate.runtime.asked import Asked
from hayate.settings import Settings

DENOISING = 0.35
"""A1111's 0.75 makes another picture of each tile."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Larger:
    """How much larger, and by what."""

    enlarger: Enlarger
    scale: float
    overlap_px: int = 64
    """What the tiles have in common, where the picture is redrawn."""

    def size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Of a picture of `size`; the upscaler None leaves it.

        Raises: UsageError.
        """
        return enlarged_size(size, 1 if self.enlarger.name == "None" else self.scale)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Upscaled:
    """A picture, larger, and what is written into its file."""

    pixels: np.ndarray
    """Shapes: [H, W, 3] uint8."""
    texts: PictureTexts
    notes: tuple[str, ...] = ()
    drawn: Redrawn | None = None
    """What made it anew, where it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Redrawn:
    """What is to be said of a picture that was made anew in tiles."""

    seed: int
    model: Mapping[str, str]
    plan: Mapping[str, Any]
    rows: int


def upscale_picture(path: Path, about: PictureInfo, larger: Larger, device: torch.device) -> Upscaled:
    """A file's picture made larger; it keeps its text, to which A1111's keys of this step are added.

    Raises: UsageError, EngineError.
    """
    picture = read_picture(path)
    made = larger.enlarger.enlarge(picture, larger.size(picture.size), device)
    keys = {"Postprocess upscale by": f"{larger.scale:g}", "Postprocess upscaler": larger.enlarger.name}
    parameters = upscaled_text(about.parameters, keys)
    return Upscaled(pixels=np.asarray(made), texts=PictureTexts(parameters=parameters, record=about.record))


def upscaled_text(parameters: str | None, keys: Mapping[str, str]) -> str:
    """A picture's text with the keys of its enlargement at the end of its last line."""
    line = ", ".join(f"{key}: {quote(value)}" for key, value in keys.items())
    if parameters and parse_infotext(parameters).parameters:
        return f"{parameters.rstrip()}, {line}"
    line = f"{line}, Version: {quote(f'Hayate {__version__}')}"  # of fewer than three pairs nobody makes a line
    return f"{parameters.rstrip()}\n{line}" if parameters else line


def redraw_picture(
    path: Path,
    request: TextToImage,
    larger: Larger,
    settings: Settings,
    on_row: StepCallback,
    *,
    asked: Asked | None = None,
    workspace: Workspace,
) -> Upscaled:
    """A file's picture made larger, and then made anew in overlapping tiles, each an img2img of its own (SD upscale).

    The tiles have the request's size, else the model's own; the seed of each is one more than that of the one before.
    Raises: HayateError.
    """
    picture = read_picture(path)
    size = larger.size(picture.size)
    request = tiled_request(path, request, size, read_config(model_paths(request, settings)["base"]).native_size_px)
    prepared = prepare_request(request, settings, asked, workspace)
    job = prepared.job
    if larger.overlap_px >= min(job.width_px, job.height_px):
        hint = f"less than the tile's {min(job.width_px, job.height_px)} pixels"
        raise UsageError(f"tiles can't overlap by {larger.overlap_px} pixels", hint=hint)
    guard = Cast(prepared, settings, workspace).open()
    large = larger.enlarger.enlarge(picture, size, guard.device)
    cut = Cut(size_px=size, part_px=(job.width_px, job.height_px), overlap_px=larger.overlap_px)
    drawing = _Drawing(guard, job, on_row, len(cut.boxes()))
    pixels = by_tiles(large, cut, drawing.tile)
    info = describe(job, drawing.guidance, 0, prepared.files.keys())
    keys = {"SD upscale overlap": larger.overlap_px, "SD upscale upscaler": larger.enlarger.name}
    info = replace(info, parameters=order_parameters({**info.parameters, **keys}))
    info = Made(pixels=pixels, extensions=tuple(job.hooked.changed)).described(info)
    idle = job.hooked.idle("pictures", "a picture that is made in tiles")
    notes = (*prepared.plan.notes, *job.notes, *guard.notes, *job.hooked.told(), *idle)
    drawn = Redrawn(
        seed=job.seed,
        model={**prepared.files.keys(), "family": prepared.config.family.value, "path": str(prepared.files.model)},
        plan=plan_of(job, prepared.plan, guard.precision),
        rows=job.table.rows * len(cut.boxes()),
    )
    return Upscaled(pixels=pixels, texts=PictureTexts(parameters=format_infotext(info)), notes=notes, drawn=drawn)


def tiled_request(path: Path, request: TextToImage, size: tuple[int, int], native_px: int) -> TextToImage:
    """The request for one tile of a picture of `size`, which no tile is larger than."""
    start = request.start or StartImage(path=str(path), denoising=DENOISING)
    return replace(
        request,
        start=StartImage(path=str(path), denoising=start.denoising, noise_multiplier=start.noise_multiplier),
        width_px=min(request.width_px or native_px, size[0]),
        height_px=min(request.height_px or native_px, size[1]),
        hires=None,
        batch_size=1,
        batch_count=1,
    )


def by_tiles(large: Image.Image, cut: Cut, make: Callable[[Image.Image, int], np.ndarray]) -> np.ndarray:
    """What `make` makes of every tile and its number, put together. Shapes: → [H, W, 3] uint8."""
    canvas = Canvas(size_px=cut.size_px)
    for number, box in enumerate(cut.boxes()):
        canvas.put(box, make(large.crop(box), number))
    return canvas.picture()


class _Drawing:
    """Tiles under way; the prompts are encoded once."""

    def __init__(self, guard: Guard, job: Job, on_row: StepCallback, count: int) -> None:
        self._guard, self._job, self._on_row, self._count = guard, job, on_row, count
        self._told = tell(guard, job)

    @property
    def guidance(self) -> Guidance:
        return self._told.guidance

    def tile(self, picture: Image.Image, number: int) -> np.ndarray:
        """Shapes: → [H, W, 3] uint8."""
        rows = self._job.table.rows
        job = tile_job(self._job, picture, number)
        self._told, latents = sample(
            self._guard,
            job,
            self._told,
            next(job.batches()),
            lambda done, _: self._on_row(number * rows + done, self._count * rows),
            image=encode_start(self._guard, job),
            beside=show_around(self._guard, job),
        )
        return decode_latents(self._guard, latents)[0]


def tile_job(job: Job, picture: Image.Image, number: int) -> Job:
    """The job of tile `number`: from that part of the picture, with the next seed for each."""
    hashes = {} if job.start is None else job.start.hashes
    start = Start(
        picture=picture, mask=None, whole=picture, whole_mask=None, box=None, is_latent_resize=False, hashes=hashes
    )
    return replace(job, seed=job.seed + number, start=start)
