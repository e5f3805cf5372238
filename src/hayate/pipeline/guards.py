"""What stands between an engine and its faults: values that are not finite, and memory that does not suffice."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from hayate.engines.base import Engine, Part
from hayate.engines.reuse import DeepFeatures
from hayate.errors import EngineError, clip
from hayate.models.clip import Inserted, TextEncoding
from hayate.models.config import ModelConfig
from hayate.pipeline.acted import Acted
from hayate.pipeline.denoise import DenoisedCallback
from hayate.pipeline.refine import Role
from hayate.pipeline.tiles import PX_PER_LAT, decode_tiled, encode_tiled, smaller_tile
from hayate.runtime.evidence import Evidence
from hayate.runtime.precision import Precision, dtype_name
from hayate.runtime.probe import overflows

Result = TypeVar("Result")

TITLES: dict[Part, str] = {"unet": "U-Net", "text": "text encoder", "vae": "VAE"}
OnWidened = Callable[[Part, torch.dtype], bool]
"""Told which part was widened to what; whether that will be remembered."""


@dataclass(slots=True, kw_only=True, eq=False)
class Guard:
    """An engine that mends itself: `engines.base.Engine`, and what the pipeline asks when a result is not finite.

    What it changed stays changed for the rest of its life, and is in `notes`, one line each.
    """

    engine: Engine
    checks_nan: bool = True
    tile_px: int | None = None
    """The size of the VAE's tiles; None decodes pictures whole."""
    inputs_at_once: int | None = None
    """How many inputs the U-Net takes at most; None for all of a batch."""
    is_overlapping: bool = False
    """Whether pictures are decoded beside the sampling of the next ones, which takes the memory of both."""
    on_widened: OnWidened = lambda part, dtype: False
    offload: Callable[[Precision], Engine | None] = lambda precision: None
    """The same engine with its weights waiting on the host, for when memory does not suffice; None if they do."""
    enter: Callable[[Role], None] = lambda role: None
    """Puts the model of a role in the engine's place; where there is one model alone, it plays all of them."""
    notes: list[str] = field(default_factory=list)
    checks: int = 0
    """Results that were looked at."""
    failures: int = 0
    """Results that were not finite."""
    overlapped: int = 0
    """Batches that were decoded beside the sampling of another."""
    parts: int = 0
    """Calls of the U-Net for a part of a batch."""
    tiles: int = 0
    """Tiles that the VAE decoded."""
    acted: Acted = field(default_factory=Acted)
    """What the loop left out; the loop's to count."""
    on_denoised: DenoisedCallback | None = None
    """Whom the loop shows the picture before it is done."""

    @property
    def config(self) -> ModelConfig:
        return self.engine.config

    @property
    def device(self) -> torch.device:
        return self.engine.device

    @property
    def precision(self) -> Precision:
        return self.engine.precision

    def encode_text(
        self, encoder: int, ids: Tensor, skip: int | None, inserted: Inserted | None = None
    ) -> TextEncoding:
        return self._whole("text encoder", lambda: self.engine.encode_text(encoder, ids, skip, inserted))

    def project_times(self, timesteps: Tensor, vector: Tensor | None) -> Tensor:
        return self._whole("U-Net's projections", lambda: self.engine.project_times(timesteps, vector))

    def project_context(self, context: Tensor) -> Sequence[Tensor]:
        return self._whole("U-Net's projections", lambda: self.engine.project_context(context))

    def predict(
        self, x: Tensor, times: Tensor, contexts: Sequence[Tensor], features: DeepFeatures | None = None
    ) -> Tensor:
        """The U-Net's output, if need be for fewer inputs at once: prompt and negative prompt apart, then half of each.

        Raises: EngineError when memory does not suffice for a single one.
        """
        while True:
            output = attempt(lambda: self._predict(x, times, contexts, features))
            if isinstance(output, Tensor):
                return output
            self._take_less(x, output)

    def encode(self, pixels: Tensor) -> Tensor:
        """Latents of pixels, if need be from tiles, or in a wider type.

        Raises: EngineError when memory does not suffice for the smallest, or they are not finite in any type.
        """
        while True:
            latents = attempt(lambda: self._encode(pixels))
            if isinstance(latents, Shortage):
                self._tile_smaller(pixels[:, :, ::PX_PER_LAT, ::PX_PER_LAT], latents)
            elif self.is_good(latents):
                return latents
            else:
                self.mend("vae")

    def decode(self, latents: Tensor) -> Tensor:
        """Pixels of latents, if need be in tiles.

        Raises: EngineError when memory does not suffice for the smallest.
        """
        while True:
            pixels = attempt(lambda: self._decode(latents))
            if isinstance(pixels, Tensor):
                return pixels
            self._tile_smaller(latents, pixels)

    def widen(self, part: Part, dtype: torch.dtype) -> Guard:
        self.engine = self.engine.widen(part, dtype)
        return self

    def evidence(self) -> Sequence[Evidence]:
        """The engine's evidence, and what the guard saw."""
        rows = [
            (
                "NaN guard",
                "on" if self.checks_nan else "off",
                self.checks,
                f"results looked at, {self.failures} not finite",
            ),
            ("overlapped decode", "on" if self.is_overlapping else "off", self.overlapped, "batches"),
            (
                "inputs at once",
                str(self.inputs_at_once or "all"),
                self.parts,
                "calls of the U-Net for parts of a batch",
            ),
            ("VAE tiles", f"{self.tile_px} px" if self.tile_px else "none", self.tiles, "tiles"),
        ]
        return (
            *self.engine.evidence(),
            *(
                Evidence(name=name, requested=asked, active=count > 0, detail=f"{count} {what}")
                for name, asked, count, what in rows
            ),
        )

    def is_good(self, *results: Tensor) -> bool:
        """Whether all of `results` are finite, or nobody wants to know. Cost: one synchronisation."""
        if not self.checks_nan:
            return True
        is_finite = bool(torch.stack([torch.isfinite(result).all() for result in results]).all())
        self.checks += 1
        self.failures += not is_finite
        return is_finite

    def mend(self, part: Part) -> None:
        """Lets `part`, whose result was not finite, compute in the next wider type.

        Raises: EngineError when it computes in the widest already.
        """
        before = getattr(self.precision, part)
        wide = wider(before, self.device)
        if wide is None:
            raise EngineError(
                f"the {TITLES[part]} produced values that are not finite, in {dtype_name(before)} too",
                hint="the file may be damaged; try another model or --vae, or a lower --cfg",
            )
        self._replace(part, wide)
        self._note_widened(part, f"made values that are not finite in {dtype_name(before)}")

    def probe_vae(self) -> None:
        """Lets a VAE that overflows in fp16 compute in a wider type, before a picture is spent on it.

        bf16 and fp32 reach equally far, so that an overflow there is no matter of the type.
        """
        if not self.checks_nan:
            return
        while (before := self.precision.vae) is torch.float16:
            if not overflows(self.engine.decode, self.config.vae.latent_channels, self.device):
                return
            wide = wider(before, self.device)
            assert wide is not None
            self._replace("vae", wide)
            self._note_widened("vae", f"overflows in {dtype_name(before)}")

    def _replace(self, part: Part, dtype: torch.dtype) -> None:
        widened = attempt(lambda: self.engine.widen(part, dtype))
        if isinstance(widened, Shortage):
            message = f"out of memory for the {TITLES[part]} in {dtype_name(dtype)}: {widened.reason}"
            raise EngineError(message, hint="close what else uses memory, or use --device cpu")
        self.engine = widened

    def _note_widened(self, part: Part, what: str) -> None:
        now = getattr(self.precision, part)
        until = ", now and in future" if self.on_widened(part, now) else ""
        self.notes.append(f"the {TITLES[part]} {what}; it computes in {dtype_name(now)}{until}")

    def _predict(self, x: Tensor, times: Tensor, contexts: Sequence[Tensor], features: DeepFeatures | None) -> Tensor:
        most = self.inputs_at_once
        if most is None or len(x) <= most:
            return self._call(x, times, contexts, features)
        parts = [slice(start, start + most) for start in range(0, len(x), most)]
        self.parts += len(parts)
        left = [None if features is None else features.of(part) for part in parts]
        outputs = [
            self._call(x[part], times[part], [context[part] for context in contexts], kept)
            for part, kept in zip(parts, left, strict=True)
        ]
        if features is not None and features.deep is None:
            features.join([kept for kept in left if kept is not None])
        return torch.cat(outputs)

    def _call(self, x: Tensor, times: Tensor, contexts: Sequence[Tensor], features: DeepFeatures | None) -> Tensor:
        if features is None:
            return self.engine.predict(x, times, contexts)
        return self.engine.predict(x, times, contexts, features)

    def _take_less(self, x: Tensor, shortage: Shortage) -> None:
        """A smaller plan for the U-Net: half the inputs; prompt and negative prompt are the halves of a batch."""
        free_memory(self.device)
        now = min(len(x), self.inputs_at_once or len(x))
        if self._stops_overlapping("U-Net"):
            return
        if now == 1:
            if self._offloads("U-Net"):
                return
            raise _too_large("U-Net", x, shortage)
        self.inputs_at_once = -(-now // 2)
        self.notes.append(f"out of memory in the U-Net: it takes {self.inputs_at_once} of {len(x)} inputs at once")

    def _decode(self, latents: Tensor) -> Tensor:
        if self.tile_px is None:
            return self.engine.decode(latents)
        return decode_tiled(self._decode_tile, latents, self.tile_px)

    def _encode(self, pixels: Tensor) -> Tensor:
        if self.tile_px is None:
            return self.engine.encode(pixels)
        return encode_tiled(self._encode_tile, pixels, self.tile_px)

    def _encode_tile(self, pixels: Tensor) -> Tensor:
        self.tiles += 1
        return self.engine.encode(pixels)

    def _decode_tile(self, latents: Tensor) -> Tensor:
        self.tiles += 1
        return self.engine.decode(latents)

    def _tile_smaller(self, latents: Tensor, shortage: Shortage) -> None:
        """A smaller plan for the VAE: tiles, then smaller ones."""
        free_memory(self.device)
        if self._stops_overlapping("VAE") or self._offloads("VAE"):
            return
        height, width = latents.shape[2:]
        smaller = smaller_tile(height * PX_PER_LAT, width * PX_PER_LAT, self.tile_px)
        if smaller is None:
            raise _too_large("VAE", latents, shortage)
        self.tile_px = smaller
        self.notes.append(f"out of memory in the VAE: it decodes in tiles of {smaller} px, a little less exactly")

    def _stops_overlapping(self, title: str) -> bool:
        """The first thing to give up: it costs time and changes no picture. Whether there was something to give up."""
        was_overlapping, self.is_overlapping = self.is_overlapping, False
        if was_overlapping:
            self.notes.append(f"out of memory in the {title}: pictures are no longer decoded beside the sampling")
        return was_overlapping

    def _whole(self, title: str, work: Callable[[], Result]) -> Result:
        """What can't be done in parts, if need be with the weights waiting on the host.

        Raises: EngineError when memory does not suffice.
        """
        while isinstance(result := attempt(work), Shortage):
            free_memory(self.device)
            if not self._offloads(title):
                message = f"out of memory in the {title}: {result.reason}"
                raise EngineError(message, hint="--medvram or --lowvram, or --device cpu; close what else uses memory")
        return result

    def _offloads(self, title: str) -> bool:
        """The next thing to give up: it costs time and changes no picture. Whether there was something to give up."""
        engine = self.offload(self.precision)
        if engine is None:
            return False
        self.engine = engine
        free_memory(self.device)
        self.notes.append(f"out of memory in the {title}: weights wait in the host's memory from now on")
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """Memory did not suffice."""

    reason: str


def guarded(engine: Engine) -> Guard:
    """The guard of an engine: itself if it is one, else a new one."""
    return engine if isinstance(engine, Guard) else Guard(engine=engine)


def wider(dtype: torch.dtype, device: torch.device) -> torch.dtype | None:
    """The next type that reaches further or is finer: fp16, bf16 where the device computes in it, fp32, none."""
    if dtype is torch.float32:
        return None
    has_bf16 = device.type == "cpu" or (
        device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    )
    return torch.bfloat16 if dtype is torch.float16 and has_bf16 else torch.float32


def attempt(work: Callable[[], Result]) -> Result | Shortage:
    """What `work` gives, or that memory did not suffice for it.

    The caller handles a shortage after this function has returned: only then is the failed attempt's memory free, for
    inside the except block the error's traceback holds every tensor of it.
    """
    try:
        return work()
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if not is_out_of_memory(error):
            raise
        reason = str(error).split("\n", 1)[0].rpartition("DefaultCPUAllocator: ")[2]  # without the place in its source
        return Shortage(reason=clip(reason or type(error).__name__, 160))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory did not suffice; on CPUs, Macs and in libraries only its words say so."""
    words = ("out of memory", "not enough memory", "can't allocate memory", "_ALLOC_FAILED")
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(word in str(error) for word in words)


def free_memory(device: torch.device) -> None:
    """Gives back what the failed attempt left, also beside the stream that failed."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def _too_large(title: str, latents: Tensor, shortage: Shortage) -> EngineError:
    height, width = latents.shape[2:]
    size = f"{width * PX_PER_LAT}x{height * PX_PER_LAT}"
    return EngineError(
        f"out of memory in the {title} at {size}, also in the smallest parts: {shortage.reason}",
        hint="a smaller --size, --medvram or --lowvram, or --device cpu; close what else uses memory",
    )
