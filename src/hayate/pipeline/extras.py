"""A1111's extras: pictures made larger by two upscalers at once, by a factor or to a size.

Source: A1111 behaviour, docs/compat.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hayate.errors import UsageError
from hayate.pipeline.enlarge import Enlarger, enlarged_size
from hayate.pipeline.formats import MAX_PIXELS, Format, PictureTexts, is_too_large
from hayate.pipeline.picture_info import read_picture_info
from hayate.pipeline.pictures import read_picture
from hayate.pipeline.upscale import Upscaled, upscaled_text


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Extras:
    """What is done to a finished picture."""

    first: Enlarger
    second: Enlarger
    visibility: float = 0.0
    """How much of the second one's picture is laid over the first one's."""
    scale: float = 2.0
    size_px: tuple[int, int] | None = None
    """Width and height, instead of the scale."""
    is_cropped: bool = True
    """Whether what is too much of a picture of other proportions is cut off."""

    @property
    def has_second(self) -> bool:
        return self.second.name != "None" and self.visibility > 0

    def scale_for(self, size: tuple[int, int]) -> float:
        """How many times as large the longer way is."""
        if self.size_px is None:
            return self.scale
        return max(wanted / side for wanted, side in zip(self.size_px, size, strict=True))

    def size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Of a picture of `size`, before anything is cut off. Raises: UsageError."""
        return enlarged_size(size, self.scale_for(size))

    def keys(self) -> dict[str, str]:
        """What the infotext says of it."""
        if self.size_px is None:
            keys = {"Postprocess upscale by": f"{self.scale:g}"}
        else:
            size = f"{self.size_px[0]}x{self.size_px[1]}"
            keys = {"Postprocess upscale to": size, **({"Postprocess crop to": size} if self.is_cropped else {})}
        keys["Postprocess upscaler"] = self.first.name
        return {**keys, **({"Postprocess upscaler 2": self.second.name} if self.has_second else {})}


def apply_extras(path: Path, extras: Extras, device: torch.device) -> Upscaled:
    """A file's picture, larger; it keeps its text, to which A1111's keys are added. With the upscaler None it stays.

    Raises: UsageError, EngineError.
    """
    about, picture = read_picture_info(path), read_picture(path)
    if extras.first.name == "None":
        texts = PictureTexts(parameters=about.parameters or "", record=about.record)
        return Upscaled(pixels=np.asarray(picture), texts=texts)
    size = extras.size(picture.size)
    if is_too_large(Format(), *size):
        raise UsageError(f"{size[0]}x{size[1]} is too large", hint=f"at most {MAX_PIXELS} pixels")
    made = extras.first.enlarge(picture, size, device)
    if extras.has_second:
        made = Image.blend(made, extras.second.enlarge(picture, size, device), extras.visibility)
    if extras.size_px is not None and extras.is_cropped:
        made = _cropped(made, extras.size_px)
    parameters = upscaled_text(about.parameters, extras.keys())
    return Upscaled(pixels=np.asarray(made), texts=PictureTexts(parameters=parameters, record=about.record))


def _cropped(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The middle of a picture; where it is smaller, black around it."""
    left, top = (picture.width - size[0]) // 2, (picture.height - size[1]) // 2
    return picture.crop((left, top, left + size[0], top + size[1]))
