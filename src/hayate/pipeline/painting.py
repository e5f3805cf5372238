"""Painting in finished pictures, for extensions: img2img of what is under a mask, with the job's own models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from hayate.extensions.inside import inside
from hayate.pipeline.cast import Cast
from hayate.pipeline.denoise import StepCallback
from hayate.pipeline.hooked import NOBODY
from hayate.pipeline.job import Job
from hayate.pipeline.pictures import InMemory
from hayate.pipeline.prepared import prepare_request
from hayate.pipeline.stops import Skipped
from hayate.pipeline.text2image import text2image
from hayate.pipeline.workspace import Workspace
from hayate.request import StartImage, TextToImage
from hayate.runtime.asked import Asked
from hayate.settings import Settings

IN_MEMORY = "(a picture in memory)"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Brush:
    """Paints for one job; `extensions.hooks.Painter` says what it promises."""

    job: Job
    settings: Settings
    asked: Asked | None
    workspace: Workspace
    on_row: StepCallback
    resume: Callable[[], None]
    """Puts the job's own models back in place."""

    def __call__(
        self,
        picture: np.ndarray,
        mask: np.ndarray,
        *,
        prompt: str = "",
        negative_prompt: str | None = None,
        denoising: float = 0.4,
        padding_px: int = 32,
        mask_blur: int = 4,
        seed: int | None = None,
    ) -> np.ndarray:
        _check(picture, mask)
        start = StartImage(
            path=IN_MEMORY, denoising=denoising, mask=IN_MEMORY, mask_blur=mask_blur, padding_px=padding_px
        )
        request = replace(
            self._request(),
            prompt=prompt or self.job.prompt_text,
            negative_prompt=self.job.negative_text if negative_prompt is None else negative_prompt,
            seed=self.job.seed if seed is None else seed,
            start=start,
        )
        given = InMemory(picture=Image.fromarray(picture), mask=Image.fromarray(mask))
        try:
            return inside.ours(self._painted, request, given)
        finally:
            inside.ours(self.resume)

    def _painted(self, request: TextToImage, given: InMemory) -> np.ndarray:
        prepared = prepare_request(request, self.settings, self.asked, self.workspace, instead=given, hooked=NOBODY)
        guard = Cast(prepared, self.settings, self.workspace).open()
        for batch in text2image(guard, prepared.job, self.on_row):
            return batch.pictures[0]
        raise Skipped  # the loop takes it for the end of a batch; here it is that of the picture

    def _request(self) -> TextToImage:
        """The job's own request, for a single picture in its first pass' size."""
        return replace(
            self.job.request,
            styles=(),
            batch_size=1,
            batch_count=1,
            width_px=self.job.width_px,
            height_px=self.job.height_px,
            subseed_strength=None,
            seed_resize_from_w_px=None,
            seed_resize_from_h_px=None,
            hires=None,
            refiner=None,
            refiner_switch_at=None,
            extensions={},
        )


def _check(picture: np.ndarray, mask: np.ndarray) -> None:
    """Raises: TypeError, ValueError: mistakes of the extension's author."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise TypeError(f"the picture to paint in is {picture.dtype} {list(picture.shape)}, not uint8 [H, W, 3]")
    if mask.dtype != np.uint8 or mask.shape != picture.shape[:2]:
        raise TypeError(f"the mask is {mask.dtype} {list(mask.shape)}, not uint8 {list(picture.shape[:2])}")
    if not mask.any():
        raise ValueError("the mask leaves nothing to paint")
