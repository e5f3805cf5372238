"""Loopback: what one img2img makes is what the next one starts from.

Source: A1111 behaviour, docs/compat.md.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from PIL import Image

from hayate.errors import UnknownName, UsageError
from hayate.pipeline.pictures import InMemory, read_picture
from hayate.pipeline.session import Report, make_pictures
from hayate.pipeline.workspace import Workspace
from hayate.request import StartImage, TextToImage, validate
from hayate.settings import Settings

if TYPE_CHECKING:
    from hayate.pipeline.denoise import StepCallback
    from hayate.runtime.asked import Asked

MAX_LOOPS = 1000
CURVES: Mapping[str, Callable[[float], float]] = MappingProxyType(
    {
        "linear": lambda progress: progress,
        "aggressive": lambda progress: math.sin(progress * math.pi / 2),
        "lazy": lambda progress: 1 - math.cos(progress * math.pi / 2),
    }
)
"""How much of the way to the final denoising is gone at each part of the loops, both from 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loops:
    """How often, and how the denoising changes on the way."""

    count: int = 4
    final_denoising: float = 0.5
    curve: str = "linear"

    def check(self) -> None:
        """Raises: UsageError, UnknownName."""
        if not 1 <= self.count <= MAX_LOOPS:
            raise UsageError(f"{self.count} loops can't be", hint=f"--loops takes 1 to {MAX_LOOPS}")
        if not 0 <= self.final_denoising <= 1:
            message = f"final denoising strength {self.final_denoising} is out of range"
            raise UsageError(message, hint="--final-denoising takes 0 to 1")
        if self.curve not in CURVES:
            raise UnknownName("denoising curve", self.curve, CURVES)

    def denoising_at(self, loop: int, first: float) -> float:
        """The denoising strength of a loop, counted from 0; that of a single loop is the first."""
        if self.count == 1:
            return first
        return first + (self.final_denoising - first) * CURVES[self.curve](loop / (self.count - 1))

    def keys(self) -> dict[str, str]:
        """What the infotext says of them."""
        return {"Final denoising strength": f"{self.final_denoising:g}", "Denoising curve": self.curve.capitalize()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Looped:
    """One picture of a loopback."""

    batch: int
    loop: int
    report: Report


def loopback(
    request: TextToImage,
    settings: Settings,
    output: Path | None,
    on_row: StepCallback,
    asked: Asked | None = None,
    *,
    loops: Loops,
    workspace: Workspace,
) -> Iterator[Looped]:
    """The pictures as they are made; the batch count says how often all loops are gone through, from the start again.

    Each picture has the next seed, over the batches too. From the second loop on, what is under a mask is the picture
    itself. The pictures go from loop to loop in memory.
    Raises: HayateError; the pictures before it are saved.
    """
    start = check_loopback(request, loops)
    first = read_picture(Path(start.path))
    seed = secrets.randbelow(2**32) if request.seed in (None, -1) else request.seed or 0
    one = replace(request, batch_size=1, batch_count=1)
    for batch in range(request.batch_count or 1):
        before: Report | None = None
        for loop in range(loops.count):
            asked_start = replace(start, denoising=loops.denoising_at(loop, start.denoising))
            picture = first if before is None else Image.fromarray(before.pixels[0])
            if before is not None:  # the file is named for the record alone
                asked_start = replace(asked_start, path=str(before.pictures[0].path), fill="original")
            before = make_pictures(
                replace(one, start=asked_start, seed=seed),
                settings,
                output,
                on_row,
                asked,
                workspace=workspace,
                instead=InMemory(picture=picture, keys=loops.keys()),
                keeps_pixels=True,
            )
            width_px, height_px = before.plan["size_px"]
            one = replace(one, width_px=width_px, height_px=height_px)
            yield Looped(batch=batch, loop=loop, report=before)
            seed += 1


def check_loopback(request: TextToImage, loops: Loops) -> StartImage:
    """The picture that all begins with.

    Raises: UsageError, UnknownName.
    """
    validate(request)
    loops.check()
    if request.start is None:
        raise UsageError("a loopback needs a picture to start from", hint="--image FILE")
    if any(request.start.extend_px):
        raise UsageError("a loopback has no larger canvas", hint="make that first, and begin with what comes of it")
    if request.batch_size not in (None, 1):
        raise UsageError("a loopback makes one picture at a time", hint="--batch-count repeats it")
    return request.start
