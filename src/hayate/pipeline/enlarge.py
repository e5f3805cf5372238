"""Pictures made larger: by a filter, or by an upscaler's network in overlapping parts.

Source: A1111 behaviour, docs/compat.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from hayate.errors import EngineError, UsageError
from hayate.pipeline.guards import Shortage, attempt
from hayate.pipeline.patches import Canvas, Cut
from hayate.request import PIXEL_UPSCALERS
from hayate.settings import Settings
from hayate.weights.upscalers import Upscaler, find_upscaler, load_upscaler

MIN_PART_PX = 32
MOST_ROUNDS = 3
"""A network of factor 2 that is asked for 8 is used so often."""
MAX_SIDE_PX = 16384


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Enlarger:
    """A way to make pictures larger."""

    name: str
    network: Upscaler | None = None
    """None for the filters."""
    part_px: int = 192
    """The side of the parts that the network is given; 0 gives it the whole."""
    overlap_px: int = 8

    @torch.inference_mode()
    def enlarge(self, picture: Image.Image, size: tuple[int, int], device: torch.device) -> Image.Image:
        """An RGB picture at another size; what the network makes too large or too small is resized.

        Raises: EngineError when memory does not suffice for the smallest parts, or the values are no numbers.
        """
        if self.network is not None:
            self.network.to(device)
            for _ in range(MOST_ROUNDS):
                if picture.width >= size[0] and picture.height >= size[1]:
                    break
                before, picture = picture.size, self._once(self.network, picture, device)
                if picture.size == before:
                    break
        if picture.size == size:
            return picture
        return picture.resize(size, Image.Resampling.NEAREST if self.name == "Nearest" else Image.Resampling.LANCZOS)

    def _once(self, network: Upscaler, picture: Image.Image, device: torch.device) -> Image.Image:
        part_px = self.part_px if self.part_px and network.is_tileable else max(picture.size)
        while True:
            large = attempt(lambda part_px=part_px: self._by_parts(network, picture, device, part_px))
            if not isinstance(large, Shortage):
                return large
            part_px = min(part_px, *picture.size) // 2
            if part_px < MIN_PART_PX or not network.is_tileable:
                hint = "take a smaller picture, or --device cpu"
                raise EngineError(f"out of memory in the upscaler {self.name}: {large.reason}", hint=hint)

    def _by_parts(self, network: Upscaler, picture: Image.Image, device: torch.device, part_px: int) -> Image.Image:
        values = np.asarray(picture, dtype=np.float32) / 255
        canvas = Canvas(size_px=picture.size, scale=network.scale, margin_px=self.overlap_px // 4)
        for box in Cut(size_px=picture.size, part_px=(part_px, part_px), overlap_px=self.overlap_px).boxes():
            left, top, right, bottom = box
            part = torch.from_numpy(values[top:bottom, left:right].copy()).permute(2, 0, 1)[None]
            large = network(part.to(device))[0].permute(1, 2, 0).float().cpu().numpy()
            if not np.isfinite(large).all():
                raise EngineError(f"the upscaler {self.name} gave values that are no numbers", hint="choose another")
            canvas.put(box, large * 255)
        return Image.fromarray(canvas.picture())


def open_enlarger(name: str, settings: Settings) -> Enlarger:
    """The way to make pictures larger that `name` means: a filter, or an upscaler's file.

    Raises: UnknownName; ModelFileError, MissingDependency.
    """
    if name in PIXEL_UPSCALERS:
        return Enlarger(name=name)
    network = load_upscaler(find_upscaler(name, settings.upscalers_dir, PIXEL_UPSCALERS))
    return enlarger_of(network, settings)


def enlarger_of(network: Upscaler, settings: Settings) -> Enlarger:
    """An upscaler with the sizes of parts that the settings say."""
    part_px, overlap_px = settings.upscaler_tile_px, settings.upscaler_overlap_px
    return Enlarger(name=network.name, network=network, part_px=part_px, overlap_px=overlap_px)


def enlarged_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """`scale` times a size, in multiples of 8.

    Raises: UsageError beyond the largest.
    """
    width, height = (max(8, int(side * scale) // 8 * 8) for side in size)
    if max(width, height) > MAX_SIDE_PX:
        hint = f"at most {MAX_SIDE_PX} pixels a side: --scale {MAX_SIDE_PX / max(size):.3g} or less"
        raise UsageError(f"{width}x{height} is too large", hint=hint)
    return width, height
