"""Pictures while they are made: from the denoised latents, in another thread, and only when somebody asked.

Nothing waits for a preview: one that is due while another is being made is left out. On a GPU the loop only queues a
copy of a few kilobytes. What is previewed is the same picture, bit for bit, as without.
"""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hayate.engines.tiny import TinyVAE, check_tiny, load_tiny
from hayate.errors import UsageError, clip
from hayate.models.config import Family
from hayate.pipeline.grid import make_grid
from hayate.pipeline.png import TEMPORARY
from hayate.pipeline.tiles import PX_PER_LAT
from hayate.runtime.evidence import Evidence
from hayate.weights.builtin import builtin_model

if TYPE_CHECKING:
    from hayate.pipeline.guards import Guard
    from hayate.pipeline.prepared import Prepared

ENDINGS: Mapping[str, str] = MappingProxyType({".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"})
Factors = tuple[tuple[float, float, float], ...]
"""Red, green and blue of each of the four latents, and last of nothing; −1…1."""

SD1: Factors = (
    (0.298, 0.207, 0.208),
    (0.187, 0.286, 0.173),
    (-0.158, 0.189, 0.264),
    (-0.184, -0.271, -0.473),
    (0.0, 0.0, 0.0),
)
"""SD2's latents mean the same.

Source: discuss.huggingface.co/t/decoding-latents-to-rgb-without-upscaling/23204, for SD 1.4.
"""
SDXL: Factors = (
    (60 / 127.5, 60 / 127.5, 60 / 127.5),
    (-60 / 127.5, -5 / 127.5, 10 / 127.5),
    (25 / 127.5, 15 / 127.5, -5 / 127.5),
    (-70 / 127.5, -50 / 127.5, -35 / 127.5),
    (150 / 127.5 - 1, 140 / 127.5 - 1, 130 / 127.5 - 1),
)
"""Source: huggingface.co/blog/TimothyAlexisVass/explaining-the-sdxl-latent-space, given for 0…255 there."""
BUILT_IN: Factors = (
    (0.0636, -0.2274, -0.2744),
    (0.2276, -0.0107, 0.0381),
    (-0.0028, 0.1961, 0.2870),
    (0.3673, 0.2026, -0.0614),
    (-0.0904, -0.0654, 0.0444),
)
"""R² is 0.849, and as much on pictures that it was not fitted to.

Source: scripts/fit_previews.py, against the model's own VAE.
"""
OF_FAMILY: Mapping[Family, Factors] = MappingProxyType(
    {Family.SD1: SD1, Family.SD2: SD1, Family.SDXL: SDXL, Family.SDXL_REFINER: SDXL}
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Preview:
    """What a picture, or all pictures of a batch in one, would be by now."""

    row: int
    rows: int
    picture: np.ndarray
    """[H, W, 3] uint8"""


class Previewer:
    """Turns every so many evaluations' denoised latents into a picture, and gives it to `publish` in its own thread.

    `publish` may raise OSError: the job goes on, and its notes say so. One job at a time.
    """

    def __init__(
        self,
        publish: Callable[[Preview], None],
        *,
        every: int = 5,
        tiny_vae: Path | None = None,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        """With `tiny_vae`, the file of a tiny decoder, that decodes; else a linear approximation does.

        None is made while `is_wanted` says no.

        Raises: UsageError, ModelFileError for a file that is none.
        """
        if every < 1:
            raise UsageError(f"a preview every {every} evaluations can't be", hint="--preview-every takes 1 or more")
        if tiny_vae is not None:
            check_tiny(tiny_vae)
        self._publish, self._every, self._path, self._is_wanted = publish, every, tiny_vae, is_wanted
        self._tiny: TinyVAE | None = None
        self._factors = SD1
        self._thread: ThreadPoolExecutor | None = None
        self._pending: Future[None] | None = None
        self._skipped = self._made = 0
        self._problem = ""

    @contextmanager
    def watching(self, prepared: Prepared, guard: Guard) -> Iterator[None]:
        """Inside it a job's loop is watched.

        Raises: ModelFileError.
        """
        plan, model = prepared.plan, prepared.files.model
        self._factors = BUILT_IN if model == builtin_model() else OF_FAMILY[guard.config.family]
        if self._path is not None:
            self._tiny = load_tiny(self._path, guard.device, guard.precision.vae, plan.preparation)
        self._skipped, self._made, self._problem = 0, 0, ""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="preview")
        guard.on_denoised = self.show
        try:
            yield
        finally:
            guard.on_denoised = None
            self.end()

    def show(self, row: int, rows: int, denoised: Tensor) -> None:
        """The loop's call after each row. Cost: nothing but a comparison unless a preview is due."""
        if row % self._every or self._thread is None or not self._is_wanted():
            return
        if self._pending is not None and not self._pending.done():
            self._skipped += 1
            return
        taken = Taken.of(denoised, is_for_host=self._tiny is None)
        self._pending = self._thread.submit(self._make, row, rows, taken)

    def end(self) -> tuple[str, ...]:
        """Waits for the preview that is being made, and says what went wrong."""
        if self._thread is not None:
            self._thread.shutdown(wait=True)
            self._thread = None
        if self._pending is not None:
            self._pending.result()
            self._pending = None
        return (f"a preview could not be made: {self._problem}",) if self._problem else ()

    def evidence(self) -> Evidence:
        """How many were made, and by what."""
        by = "linear" if self._path is None else self._path.name
        detail = f"{self._made} made, {self._skipped} left out"
        return Evidence(name="previews", requested=f"{by}, every {self._every}", active=self._made > 0, detail=detail)

    @torch.inference_mode()
    def _make(self, row: int, rows: int, taken: Taken) -> None:
        try:
            latents = taken.ready()
            pictures = linear_pictures(latents, self._factors) if self._tiny is None else _decoded(self._tiny, latents)
            self._publish(Preview(row=row, rows=rows, picture=make_grid(list(pictures))))
        except OSError as error:
            self._problem = error.strerror or str(error)
        except RuntimeError as error:  # a GPU's memory that the job itself needs
            self._problem = clip(str(error).partition("\n")[0])
        else:
            self._made += 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Taken:
    """Latents that were taken out of the loop, and may still be on their way."""

    latents: Tensor
    arrival: torch.cuda.Event | None

    @staticmethod
    def of(denoised: Tensor, *, is_for_host: bool) -> Taken:
        """No synchronisation: a GPU's copy is queued behind what made the latents."""
        if denoised.device.type != "cuda":
            return Taken(latents=denoised, arrival=None)
        latents = denoised
        if is_for_host:
            latents = torch.empty(denoised.shape, dtype=denoised.dtype, pin_memory=True)
            latents.copy_(denoised, non_blocking=True)
        arrival = torch.cuda.Event()
        arrival.record()
        return Taken(latents=latents, arrival=arrival)

    def ready(self) -> Tensor:
        """The latents, when they are there; the thread that asks waits, not the loop."""
        if self.arrival is not None:
            self.arrival.synchronize()
        return self.latents


def linear_pictures(latents: Tensor, factors: Factors) -> np.ndarray:
    """Pictures as a linear map of each latent says, enlarged. Shapes: [B, 4, h, w] → [B, 8h, 8w, 3] uint8."""
    table = np.asarray(factors, dtype=np.float32)
    planes = np.moveaxis(latents.float().cpu().numpy(), 1, -1)
    small = _levels(planes @ table[:-1] + table[-1])
    size = (small.shape[2] * PX_PER_LAT, small.shape[1] * PX_PER_LAT)
    return np.stack([np.asarray(Image.fromarray(each).resize(size, Image.Resampling.BILINEAR)) for each in small])


def file_publisher(path: Path) -> Callable[[Preview], None]:
    """Writes each preview to `path`, over the one before, so that a viewer never sees half of one.

    Raises: UsageError for an ending that is neither PNG's nor JPEG's, or a folder that is not there.
    """
    kind = ENDINGS.get(path.suffix.lower())
    if kind is None:
        raise UsageError(f"a preview can't be {clip(path.name, 80)}", hint=f"end it in {', '.join(ENDINGS)}")
    if not path.parent.is_dir() or path.is_dir():
        raise UsageError(f"{clip(str(path), 200)} can't be written", hint="name a file in a folder that is there")

    def publish(preview: Preview) -> None:
        buffer = io.BytesIO()
        options = {"compress_level": 1} if kind == "PNG" else {"quality": 80}
        Image.fromarray(preview.picture).save(buffer, format=kind, **options)
        write_over(path, buffer.getvalue())

    return publish


def write_over(path: Path, data: bytes) -> None:
    """Puts a whole file in the place of another at once.

    Raises: OSError; nothing is left behind then.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}{TEMPORARY}")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)  # noqa: PTH105
    finally:
        temporary.unlink(missing_ok=True)


def _decoded(tiny: TinyVAE, latents: Tensor) -> np.ndarray:
    """What a tiny decoder makes of latents: on a GPU beside the loop's own stream."""
    if latents.device.type != "cuda":
        return _levels(np.moveaxis(tiny.decode(latents).cpu().numpy(), 1, -1))
    side = torch.cuda.Stream(latents.device)
    with torch.cuda.stream(side):
        pixels = tiny.decode(latents).cpu().numpy()
    latents.record_stream(side)
    return _levels(np.moveaxis(pixels, 1, -1))


def _levels(pixels: np.ndarray) -> np.ndarray:
    """8 bits of −1…1; what is not a number is black."""
    return ((np.nan_to_num(pixels, nan=-1.0) + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
