"""Detect, mask, inpaint: each thing that is found is painted anew by the pipeline's own img2img."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import numpy as np

from hayate.errors import UnknownName
from hayate.extensions.hooks import PictureCall, Retouched

from .region import Detector, Region


def detail(picture: np.ndarray, call: PictureCall) -> Retouched:
    """The picture with each thing in it made anew, the largest first; each has the next seed.

    Raises: UnknownName.
    """
    values = call.values
    name = str(values["detector"])
    regions = largest(find_detector(name)(picture), int(values["most"]))
    if not regions:
        call.note(f"the detector {name} finds nothing in picture {call.number + 1}")
        return Retouched(picture=picture)
    for number, region in enumerate(regions):
        picture = call.paint(
            picture,
            region.mask,
            prompt=str(values["prompt"]),
            negative_prompt=str(values["negative_prompt"]) or None,
            denoising=float(values["denoising"]),
            padding_px=int(values["padding_px"]),
            mask_blur=int(values["mask_blur"]),
            seed=call.seed + number,
        )
    keys = {"Detailer detector": name, "Detailer regions": len(regions), "Detailer denoising": values["denoising"]}
    if values["prompt"]:
        keys["Detailer prompt"] = values["prompt"]
    return Retouched(picture=picture, keys=keys)


def find_detector(name: str) -> Detector:
    """The detector in a file of the folder `detectors`: only such a file is ever imported.

    Raises: UnknownName.
    """
    known = [each.name for each in pkgutil.iter_modules([str(Path(__file__).parent / "detectors")])]
    if name not in known:
        raise UnknownName("detector", name, known)
    return importlib.import_module(f"{__package__}.detectors.{name}").detect


def largest(regions: list[Region], most: int) -> list[Region]:
    """At most so many of the regions that have an area."""
    found = [region for region in regions if region.area_px]
    return sorted(found, key=lambda region: -region.area_px)[:most]
