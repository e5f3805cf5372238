"""Pictures that a job starts from: read, brought to its size, and masked.

Source: A1111 behaviour, docs/compat.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageChops, ImageFilter, ImageOps
from torch import Tensor

from hayate.errors import UsageError
from hayate.pipeline.canvas import blurred, extended, widened
from hayate.pipeline.opened import opened_picture
from hayate.pipeline.start_keys import IMAGE_HASH, MASK_HASH
from hayate.pipeline.tiles import PX_PER_LAT
from hayate.request import StartImage

FILL_LAYERS = ((256, 1), (64, 1), (16, 2), (4, 4), (2, 2), (0, 1))
"""Radii of the blurs, in pixels, and how often each is laid over those before it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Start:
    """What a job starts from, at its own size."""

    picture: Image.Image
    """RGB, what is encoded: with a mask its hidden part may be filled already."""
    mask: Image.Image | None
    """L, blurred; white where the picture is made anew."""
    whole: Image.Image
    """RGB, what the result is put back into: the picture at the size of the result."""
    whole_mask: Image.Image | None
    """L, the mask at the size of the result."""
    box: tuple[int, int, int, int] | None
    """Where in `whole` the result belongs, if only the masked part is made."""
    is_latent_resize: bool
    """Whether the picture keeps its size until it has been encoded."""
    hashes: Mapping[str, str] = field(default_factory=dict)
    """The infotext's keys that tell the files: `Init image hash` and, with a mask, `Mask hash`."""
    notes: tuple[str, ...] = ()
    """What the user should know of it."""

    def pixels(self) -> Tensor:
        """Shapes: → [1, 3, H, W] float32, −1…1."""
        return to_pixels(self.picture)

    def pixel_mask(self) -> Tensor:
        """Where the picture is made anew; without a mask everywhere. Shapes: → [1, 1, H, W] of 0 and 1."""
        if self.mask is None:
            return torch.ones((1, 1, self.picture.height, self.picture.width))
        return torch.from_numpy(np.round(np.asarray(self.mask, dtype=np.float32) / 255))[None, None]

    def latent_mask(self) -> Tensor | None:
        """How much of each latent is made anew: all or nothing. Shapes: → [1, 1, h, w] of 0 and 1."""
        if self.mask is None:
            return None
        size = (self.mask.width // PX_PER_LAT, self.mask.height // PX_PER_LAT)
        small = np.asarray(self.mask.resize(size, Image.Resampling.LANCZOS), dtype=np.float32) / 255
        return torch.from_numpy(np.round(small))[None, None]

    def finished(self, made: Image.Image) -> Image.Image:
        """The result: outside of the mask bit for bit what was given."""
        if self.whole_mask is None:
            return made
        if self.box is not None:
            left, top, right, bottom = self.box
            part = made.resize((right - left, bottom - top), Image.Resampling.LANCZOS)
            made = self.whole.copy()
            made.paste(part, (left, top))
        return Image.composite(made, self.whole, self.whole_mask)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InMemory:
    """A picture that a job starts from in place of the file that its request names."""

    picture: Image.Image
    """RGB"""
    keys: Mapping[str, str] = field(default_factory=dict)
    """What the infotext says of how it came about."""
    mask: Image.Image | None = None
    """L, in place of the request's."""


def to_pixels(picture: Image.Image) -> Tensor:
    """An RGB picture as a VAE takes it. Shapes: → [1, 3, H, W] float32, −1…1."""
    values = torch.from_numpy(np.asarray(picture, dtype=np.float32).copy())
    return values.permute(2, 0, 1)[None] / 127.5 - 1


def read_start(asked: StartImage, width_px: int, height_px: int, instead: InMemory | None = None) -> Start:
    """The picture of a request, or another one in its stead, and its mask, at the job's size.

    Raises: UsageError for a file that is no picture, or a mask without anything to make.
    """
    picture = read_picture(Path(asked.path)) if instead is None else instead.picture
    hashes = {IMAGE_HASH: pixel_hash(picture), **({} if instead is None else instead.keys)}
    drawn = None if instead is None else instead.mask
    if drawn is None and asked.mask is not None:
        drawn = read_mask(Path(asked.mask))
    notes: list[str] = []
    if drawn is not None:
        hashes[MASK_HASH] = pixel_hash(drawn)
        if drawn.size != picture.size:
            sizes = [f"{each.width}x{each.height}" for each in (drawn, picture)]
            notes.append(f"the mask is {sizes[0]} and was stretched over the picture's {sizes[1]}")
    mask = None if drawn is None else _fitted(drawn, asked, picture.size)
    if any(asked.extend_px):
        picture, mask = extended(picture, mask, asked)
    elif mask is not None:
        mask = blurred(mask, asked.mask_blur)
    if mask is None:
        return replace(_whole(asked, picture, (width_px, height_px)), hashes=hashes)
    make = _all_around if asked.padding_px is None else _only_masked
    return replace(make(asked, picture, mask, (width_px, height_px)), hashes=hashes, notes=tuple(notes))


def pixel_hash(picture: Image.Image) -> str:
    """MD5 of a picture's pixels, which is the same in every lossless file. Source: A1111 behaviour."""
    return hashlib.md5(picture.tobytes(), usedforsecurity=False).hexdigest()


def _whole(asked: StartImage, picture: Image.Image, size: tuple[int, int]) -> Start:
    is_latent = asked.resize_mode == "latent"
    resized = _whole_latents(picture) if is_latent else resize(picture, size, asked.resize_mode)
    return Start(picture=resized, mask=None, whole=resized, whole_mask=None, box=None, is_latent_resize=is_latent)


def _all_around(asked: StartImage, picture: Image.Image, mask: Image.Image, size: tuple[int, int]) -> Start:
    mode = "just resize" if asked.resize_mode == "latent" else asked.resize_mode
    whole, mask = resize(picture, size, mode), resize(mask, size, mode)
    filled = _filled(whole, mask, asked.fill)
    return Start(picture=filled, mask=mask, whole=whole, whole_mask=mask, box=None, is_latent_resize=False)


def read_picture(path: Path) -> Image.Image:
    """A picture as RGB, turned the way its EXIF says, on white where it is transparent.

    Raises: UsageError.
    """
    with opened_picture(path) as file:
        picture = ImageOps.exif_transpose(file)
        if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
            rgba = picture.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
        return picture.convert("RGB")


def resize(picture: Image.Image, size: tuple[int, int], mode: str) -> Image.Image:
    """The picture at another size: stretched, cropped around its middle, or widened by what its edges show."""
    if mode == "just resize" or picture.size == size:
        return picture.resize(size, Image.Resampling.LANCZOS)
    width, height = size
    is_wider = picture.width / picture.height > width / height
    if mode == "crop":
        share = height / picture.height if is_wider else width / picture.width
    else:
        share = width / picture.width if is_wider else height / picture.height
    inner = (max(1, round(picture.width * share)), max(1, round(picture.height * share)))
    inside = picture.resize(inner, Image.Resampling.LANCZOS)
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    if mode == "crop":
        return inside.crop((-left, -top, width - left, height - top))
    return widened(inside, size, (left, top))


def _whole_latents(picture: Image.Image) -> Image.Image:
    """A picture cut down to whole latents."""
    width, height = (max(PX_PER_LAT, side // PX_PER_LAT * PX_PER_LAT) for side in picture.size)
    return picture if picture.size == (width, height) else picture.resize((width, height), Image.Resampling.LANCZOS)


def read_mask(path: Path) -> Image.Image:
    """A mask as L: its alpha where it has one, else its brightness.

    Raises: UsageError.
    """
    with opened_picture(path, "the mask ") as file:
        has_alpha = file.mode in ("RGBA", "LA") and file.getchannel("A").getextrema() != (255, 255)
        return file.getchannel("A") if has_alpha else file.convert("L")


def _fitted(mask: Image.Image, asked: StartImage, size: tuple[int, int]) -> Image.Image:
    """The mask at the picture's size, black and white.

    Raises: UsageError for one that is black everywhere.
    """
    mask = mask.resize(size, Image.Resampling.LANCZOS) if mask.size != size else mask.copy()
    mask = mask.point([0] * 129 + [255] * 127)
    mask = ImageOps.invert(mask) if asked.is_mask_inverted else mask
    if mask.getbbox() is None:
        raise UsageError("the mask leaves nothing to make anew", hint="paint white, or take --invert-mask")
    return mask


def _only_masked(asked: StartImage, picture: Image.Image, mask: Image.Image, size: tuple[int, int]) -> Start:
    """The part of the picture around the mask, as large as the job."""
    assert asked.padding_px is not None
    box = crop_box(mask, asked.padding_px, size)
    part = picture.crop(box).resize(size, Image.Resampling.LANCZOS)
    part_mask = mask.crop(box).resize(size, Image.Resampling.LANCZOS)
    filled = _filled(part, part_mask, asked.fill)
    return Start(picture=filled, mask=part_mask, whole=picture, whole_mask=mask, box=box, is_latent_resize=False)


def crop_box(mask: Image.Image, padding: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The part around the mask, widened to the proportions of `size` as far as the picture goes."""
    left, top, right, bottom = mask.getbbox() or (0, 0, *mask.size)
    left, top = max(0, left - padding), max(0, top - padding)
    right, bottom = min(mask.width, right + padding), min(mask.height, bottom + padding)
    wanted = size[0] / size[1]
    if (right - left) / (bottom - top) > wanted:
        top, bottom = _widened(top, bottom, (right - left) / wanted, mask.height)
    else:
        left, right = _widened(left, right, (bottom - top) * wanted, mask.width)
    return left, top, right, bottom


def _widened(start: int, end: int, length: float, limit: int) -> tuple[int, int]:
    """A stretch of `length` around another one, moved inside 0 … `limit`, or all of that."""
    more = int(length) - (end - start)
    start, end = start - more // 2, end + more - more // 2
    if end > limit:
        start, end = start - (end - limit), limit
    if start < 0:
        start, end = 0, min(limit, end - start)
    return start, end


def _filled(picture: Image.Image, mask: Image.Image, fill: str) -> Image.Image:
    """The picture with its masked part in the colours around, where that is asked for.

    From the widest blur of what is outside to the narrowest, each over the one before.
    """
    if fill != "fill":
        return picture
    outside = picture.convert("RGBA")
    outside.putalpha(ImageChops.invert(mask))
    outside = outside.convert("RGBa")  # premultiplied, so that what is hidden lends no colour to a blur
    canvas = Image.new("RGBA", picture.size)
    for radius, layers in FILL_LAYERS:
        blurred = outside.filter(ImageFilter.GaussianBlur(radius)).convert("RGBA")
        for _ in range(layers):
            canvas.alpha_composite(blurred)
    return canvas.convert("RGB")
