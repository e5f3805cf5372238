"""Pictures from the VAE in overlapping tiles, for memory that a whole picture doesn't fit.

Tier *fast*: a VAE's group norms and its attention take in the whole picture, and those of a tile take in the tile, so
that it comes out with slightly other colours. Feathering hides the seams, not that difference: measured on the built-in
model's pictures, 36 to 38 dB of PSNR against the whole picture at 256×256 px in tiles of 128 px, the size that it was
trained on, 28 to 31 dB in less fortunate sizes, and 27 to 29 dB in tiles of 64 px (docs/LOG.md).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hayate.errors import UsageError

PX_PER_LAT = 8
MIN_TILE_PX = 64
OVERLAP = 0.25
"""Share of a tile that it has in common with the next, at least."""


def decode_tiled(decode: Callable[[Tensor], Tensor], latents: Tensor, tile_px: int) -> Tensor:
    """The picture of `latents`, decoded in squares of `tile_px` that fade into each other where they overlap.

    Shapes: [B, 4, h, w] → [B, 3, 8h, 8w].
    Raises: UsageError for a tile size that can't be.
    Cost: the memory of one tile and of two pictures; with overlaps of a quarter 1.8 times the work.
    """
    check_tile(tile_px)
    tile_lat = tile_px // PX_PER_LAT
    height, width = latents.shape[2:]
    tops, lefts = tile_starts(height, tile_lat), tile_starts(width, tile_lat)
    if len(tops) == len(lefts) == 1:
        return decode(latents)
    picture = torch.zeros((len(latents), 3, height * PX_PER_LAT, width * PX_PER_LAT), device=latents.device)
    total = torch.zeros(picture.shape[2:], device=latents.device)
    for top in tops:
        y, fade_y = _span(top, height, tile_lat, latents.device)
        for left in lefts:
            x, fade_x = _span(left, width, tile_lat, latents.device)
            pixels = decode(latents[:, :, top : top + tile_lat, left : left + tile_lat].contiguous())
            weight = fade_y[:, None] * fade_x
            picture[:, :, y, x] += pixels * weight
            total[y, x] += weight
    return picture.div_(total)


def encode_tiled(encode: Callable[[Tensor], Tensor], pixels: Tensor, tile_px: int) -> Tensor:
    """The latents of a picture, encoded in the same squares that fade into each other.

    Shapes: [B, 3, 8h, 8w] → [B, 4, h, w].
    Raises: UsageError for a tile size that can't be.
    """
    check_tile(tile_px)
    tile_lat = tile_px // PX_PER_LAT
    height, width = pixels.shape[2] // PX_PER_LAT, pixels.shape[3] // PX_PER_LAT
    tops, lefts = tile_starts(height, tile_lat), tile_starts(width, tile_lat)
    if len(tops) == len(lefts) == 1:
        return encode(pixels)
    latents: Tensor | None = None
    total = torch.zeros((height, width), device=pixels.device)
    for top in tops:
        y, fade_y = _span_lat(top, height, tile_lat, pixels.device)
        for left in lefts:
            x, fade_x = _span_lat(left, width, tile_lat, pixels.device)
            rows, columns = (slice(PX_PER_LAT * each.start, PX_PER_LAT * each.stop) for each in (y, x))
            part = encode(pixels[:, :, rows, columns].contiguous())
            if latents is None:
                latents = part.new_zeros((*part.shape[:2], height, width))
            weight = fade_y[:, None] * fade_x
            latents[:, :, y, x] += part * weight
            total[y, x] += weight
    assert latents is not None
    return latents.div_(total)


def check_tile(tile_px: int) -> None:
    """Refuses a tile size that latents can't be cut into.

    Raises: UsageError.
    """
    if tile_px < MIN_TILE_PX or tile_px % PX_PER_LAT:
        raise UsageError(
            f"tiles of {tile_px} px can't be", hint=f"a multiple of {PX_PER_LAT}, {MIN_TILE_PX} or more; 512 is usual"
        )


def smaller_tile(height_px: int, width_px: int, tile_px: int | None) -> int | None:
    """The next smaller tile for a picture: half of what didn't fit; None below `MIN_TILE_PX`."""
    before = max(height_px, width_px) if tile_px is None else min(tile_px, max(height_px, width_px))
    half = before // 2 // PX_PER_LAT * PX_PER_LAT
    return half if half >= MIN_TILE_PX else None


def tile_starts(size: int, tile: int) -> list[int]:
    """Where tiles begin along one side: evenly, so that all are of one size and none is without its overlap."""
    if size <= tile:
        return [0]
    overlap = int(tile * OVERLAP)
    count = -(-(size - overlap) // (tile - overlap))
    return [round(index * (size - tile) / (count - 1)) for index in range(count)]


def _span_lat(start: int, size: int, tile: int, device: torch.device) -> tuple[slice, Tensor]:
    """`_span` for latents: one weight for each of them, the mean over its pixels."""
    pixels, fade = _span(start, size, tile, device)
    places = slice(pixels.start // PX_PER_LAT, pixels.stop // PX_PER_LAT)
    return places, fade.view(-1, PX_PER_LAT).mean(dim=1)


def _span(start: int, size: int, tile: int, device: torch.device) -> tuple[slice, Tensor]:
    """Where a tile lies along one side, and its weight there: the distance to its nearest end inside the picture.

    Where two tiles overlap, the weighted mean then goes from one to the other in a straight line.
    Units: `start`, `size`, `tile` in latents, what is returned in pixels.
    """
    end = min(start + tile, size)
    distance = torch.arange(1, (end - start) * PX_PER_LAT + 1, device=device, dtype=torch.float32)
    inside = [each for each, is_inside in ((distance, start > 0), (distance.flip(0), end < size)) if is_inside]
    fade = torch.stack(inside).amin(dim=0) if inside else torch.ones_like(distance)
    return slice(start * PX_PER_LAT, end * PX_PER_LAT), fade
