"""What a picture's text says of the one that it began with: the keys, and the words for its fields."""

from __future__ import annotations

from types import MappingProxyType

from hayate.errors import UnknownName, UsageError, clip

FIRST_NOISE = "Noise multiplier"
IMAGE_HASH, MASK_HASH = "Init image hash", "Mask hash"
RESIZE_TITLES = MappingProxyType(
    {
        "just resize": "Just resize",
        "crop": "Crop and resize",
        "fill": "Resize and fill",
        "latent": "Just resize (latent upscale)",
    }
)
"""A1111's names of the resize modes."""
SIDES = ("left", "top", "right", "bottom")


def extended_by(text: str) -> tuple[int, int, int, int]:
    """What `left=128,right=128` means: so many pixels more on those sides.

    Raises: UsageError, UnknownName.
    """
    found: dict[str, int] = {}
    for part in text.replace(",", " ").split():
        side, _, number = part.partition("=")
        if side not in SIDES:
            raise UnknownName("side", side, SIDES)
        if not (number.isascii() and number.isdigit() and len(number) < 6):
            raise UsageError(f"outpaint {clip(part, 30)!r} is no number of pixels", hint="left=128,right=128")
        found[side] = int(number)
    if not any(found.values()):
        raise UsageError("outpaint adds nothing", hint="left=128,right=128")
    left, top, right, bottom = (found.get(side, 0) for side in SIDES)
    return left, top, right, bottom
