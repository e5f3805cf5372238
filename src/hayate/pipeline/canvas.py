"""Pictures on a larger canvas: outpainting, and what is around a picture that does not fill its size.

Source: A1111 behaviour, docs/compat.md.
"""

from __future__ import annotations

from PIL import Image, ImageChops, ImageFilter

from hayate.errors import UsageError
from hayate.pipeline.start_keys import SIDES
from hayate.pipeline.tiles import PX_PER_LAT
from hayate.request import StartImage

INTO_PICTURE = 2
"""How far the mask goes into the picture, in radii of its blur: so all that is new is made anew."""


def extended(picture: Image.Image, mask: Image.Image | None, asked: StartImage) -> tuple[Image.Image, Image.Image]:
    """The picture with what is added around it, in the colours of its edges, and the mask of that and of `mask`.

    What is new is white in it; a soft edge lies within the picture, up to five times as deep as the blur.
    Raises: UsageError for a canvas that is no multiple of 8.
    """
    size = canvas_size(picture.size, asked.extend_px)
    left, top, right, bottom = asked.extend_px
    canvas = widened(picture, size, (left, top))
    inwards = INTO_PICTURE * asked.mask_blur
    kept = (
        left + (inwards if left else 0),
        top + (inwards if top else 0),
        size[0] - right - (inwards if right else 0),
        size[1] - bottom - (inwards if bottom else 0),
    )
    whole = Image.new("L", size, 255)
    if kept[0] < kept[2] and kept[1] < kept[3]:
        whole.paste(0, kept)
    if mask is not None:
        drawn = Image.new("L", size, 0)
        drawn.paste(mask, (left, top))
        whole = ImageChops.lighter(whole, drawn)
    whole = blurred(whole, asked.mask_blur)
    inside = whole.crop((left, top, left + picture.width, top + picture.height))
    whole.paste(255, (0, 0, *size))
    whole.paste(inside, (left, top))
    return canvas, whole


def canvas_size(size: tuple[int, int], extend_px: tuple[int, int, int, int]) -> tuple[int, int]:
    """Width and height of a picture with what is added around it.

    Raises: UsageError where one is no multiple of 8; the hint names the nearest.
    """
    sides = (size[0] + extend_px[0] + extend_px[2], size[1] + extend_px[1] + extend_px[3])
    for place, (title, side) in enumerate(zip(("width", "height"), sides, strict=True)):
        if rest := side % PX_PER_LAT:
            index = place + 2 if extend_px[place + 2] or not extend_px[place] else place
            lower, upper = extend_px[index] - rest, extend_px[index] + PX_PER_LAT - rest
            near = lower if rest <= PX_PER_LAT // 2 and lower >= 0 else upper
            hint = f"nearest: {SIDES[index]}={near}"
            raise UsageError(f"the canvas has a {title} of {side}, no multiple of {PX_PER_LAT}", hint=hint)
    return sides


def blurred(mask: Image.Image, radius: int) -> Image.Image:
    """A mask with soft edges."""
    return mask.filter(ImageFilter.GaussianBlur(radius)) if radius else mask


def widened(inside: Image.Image, size: tuple[int, int], place: tuple[int, int]) -> Image.Image:
    """A picture at `place` on a canvas, around it what its edges show; corners have the corners' colours."""
    (width, height), (left, top) = size, place
    columns = _stretched(inside, width, left, is_across=True)
    return _stretched(columns, height, top, is_across=False)


def _stretched(inside: Image.Image, length: int, start: int, *, is_across: bool) -> Image.Image:
    """A picture with its first and its last column, or row, stretched over what is left on either side."""
    if not is_across:
        turned = inside.transpose(Image.Transpose.TRANSPOSE)
        return _stretched(turned, length, start, is_across=True).transpose(Image.Transpose.TRANSPOSE)
    width, height = inside.size
    canvas = Image.new(inside.mode, (length, height))
    for column, room, place in ((0, start, 0), (width - 1, length - start - width, start + width)):
        if room > 0:
            canvas.paste(
                inside.resize((room, height), Image.Resampling.NEAREST, box=(column, 0, column + 1, height)), (place, 0)
            )
    canvas.paste(inside, (start, 0))
    return canvas
