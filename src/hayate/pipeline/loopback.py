"""Loopback: what one img2img makes is what the next one starts from.

Source: A1111 behaviour, docs/compat.md.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from hayate.pipeline.loops import Loops, check_loops
from hayate.pipeline.pictures import InMemory, read_picture
from hayate.pipeline.report import Report
from hayate.pipeline.session import Maker
from hayate.request import TextToImage

if TYPE_CHECKING:
    from hayate.runtime.asked import Asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Looped:
    """One picture of a loopback."""

    batch: int
    loop: int
    report: Report


def loopback(request: TextToImage, maker: Maker, asked: Asked | None = None, *, loops: Loops) -> Iterator[Looped]:
    """The pictures as they are made; the batch count says how often all loops are gone through, from the start again.

    Each picture has the next seed, over the batches too. From the second loop on, what is under a mask is the picture
    itself. The pictures go from loop to loop in memory. One that is skipped ends its batch.
    Raises: HayateError; the pictures before it are saved.
    """
    start = check_loops(request, loops)
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
            instead = InMemory(picture=picture, keys=loops.keys())
            before = maker.make(replace(one, start=asked_start, seed=seed), asked, instead=instead, keeps_pixels=True)
            width_px, height_px = before.plan["size_px"]
            one = replace(one, width_px=width_px, height_px=height_px)
            yield Looped(batch=batch, loop=loop, report=before)
            seed += 1
            if before.is_stopped:
                return
            if not before.pixels:
                break
