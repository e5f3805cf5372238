"""A request with nothing left open: what a job makes, from which seeds, and with what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from hayate.engines.loras import LoraUse
from hayate.pipeline.chosen import NoiseSource
from hayate.pipeline.encode import TextStyle
from hayate.pipeline.enlarge import Enlarger
from hayate.pipeline.guidance import GuidanceScale
from hayate.pipeline.hooked import NOBODY, Hooked
from hayate.pipeline.inversions import NOTHING, Inverted
from hayate.pipeline.noise import NoiseRequest
from hayate.pipeline.pictures import Start
from hayate.pipeline.refine import Refined, Role
from hayate.prompt.schedule import Prompt
from hayate.request import Hires, TextToImage
from hayate.runtime.approximate import EXACT, Approximate
from hayate.samplers.catalogue import SamplerInfo
from hayate.samplers.table import StepTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Seeds:
    """The seeds of one batch."""

    index: int
    """Number of the batch's first image in the job."""
    seeds: tuple[int, ...]
    subseeds: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A request with nothing left open."""

    request: TextToImage
    prompt_text: str
    """As asked, with styles applied: what the infotext says."""
    negative_text: str
    asked_schedule: str
    prompt: Prompt
    negative: Prompt
    sampler: SamplerInfo
    table: StepTable
    guidance: GuidanceScale
    style: TextStyle
    steps: int
    cfg: float
    width_px: int
    height_px: int
    seed: int
    subseed: int
    subseed_strength: float
    seed_resize_from_px: tuple[int, int] | None
    """Width and height at which the noise is drawn, or None."""
    noise_source: NoiseSource
    ensd: int
    batch_size: int
    batch_count: int
    hires: Hires | None = None
    """What was asked of this pass, if it is the second."""
    enlarger: Enlarger | None = None
    """What makes the first pass' picture larger, where that is an upscaler's file."""
    second: Job | None = None
    """Hires fix: the pass over the enlarged picture."""
    start: Start | None = None
    """The picture that the job starts from, instead of noise alone."""
    notes: tuple[str, ...]
    """What the user should know: choices made for them, and what was asked for but does not act."""
    approximate: Approximate = EXACT
    """What is left out of the work."""
    loras: tuple[LoraUse, ...] = ()
    """What the prompt adds to the weights."""
    refined: Refined | None = None
    """The end of this pass that another model makes."""
    refiner_inverted: Inverted = NOTHING
    """The textual inversions that fit that model."""
    hooked: Hooked = NOBODY
    """What extensions do in it."""

    @property
    def role(self) -> Role:
        """Whose pass this is."""
        return "base" if self.hires is None else "hires"

    @property
    def changes_models(self) -> bool:
        """Whether a batch needs more than one model, or other LoRAs in the same one."""
        second = self.second
        is_other = second is not None and (second.loras != self.loras or self._hires_model is not None)
        return is_other or any(each is not None and each.refined is not None for each in (self, second))

    @property
    def _hires_model(self) -> str | None:
        return None if self.request.hires is None else self.request.hires.model

    @property
    def hires_acts(self) -> bool:
        """Whether this is a second pass that makes something anew, and does not only enlarge."""
        return self.hires is not None and self.hires.denoising > 0

    @property
    def rows(self) -> int:
        """The U-Net batches of all passes over one batch."""
        second = self.second
        return self.table.rows + (second.table.rows if second is not None and second.hires_acts else 0)

    def seeds_of(self, number: int) -> tuple[int, int]:
        """Seed and variation seed of picture `number`: each has the next seed, or with variations the next subseed.

        Source: A1111 behaviour, docs/compat.md.
        """
        return self.seed if self.subseed_strength > 0 else self.seed + number, self.subseed + number

    def batches(self) -> Iterator[Seeds]:
        """The seeds of every batch."""
        for first in range(0, self.batch_size * self.batch_count, self.batch_size):
            pairs = [self.seeds_of(number) for number in range(first, first + self.batch_size)]
            seeds, subseeds = zip(*pairs, strict=True)
            yield Seeds(index=first, seeds=seeds, subseeds=subseeds)

    def with_noise_source(self, source: NoiseSource, note: str) -> Job:
        """This job drawing its noise from `source`, with a note why if that needs saying."""
        second = None if self.second is None else self.second.with_noise_source(source, "")
        notes = (*self.notes, note) if note else self.notes
        return replace(self, noise_source=source, notes=notes, second=second)

    def with_start(self, start: Start) -> Job:
        """This job starting from a picture."""
        return replace(self, start=start, notes=(*self.notes, *start.notes))

    def with_hooked(self, hooked: Hooked) -> Job:
        """This job with extensions acting on it."""
        second = None if self.second is None else replace(self.second, hooked=hooked)
        return replace(self, hooked=hooked, second=second)

    def with_enlarger(self, enlarger: Enlarger) -> Job:
        """This job enlarging its picture before the second pass by an upscaler's file."""
        assert self.second is not None
        return replace(self, second=replace(self.second, enlarger=enlarger))

    def with_approximate(self, methods: Approximate) -> Job:
        """This job leaving out what `methods` say, as far as the sampler does not need it."""
        if self.second is not None:
            return replace(self, second=self.second.with_approximate(methods))._approximated(methods)
        return self._approximated(methods)

    def _approximated(self, methods: Approximate) -> Job:
        if not methods.limits_guidance():
            return replace(self, approximate=methods)
        obstacle = None
        if self.guidance.needs_negative:
            obstacle = f"{self.sampler.name} needs the negative prompt at every step"
        elif self.guidance.scale == 1 and [prompt.weight for prompt in self.prompt.subprompts] == [1]:
            obstacle = "at this CFG scale there is no guidance to leave out"
        if obstacle is None:
            return replace(self, approximate=methods)
        fewer = replace(methods, guidance_interval=None, s_min_uncond=0.0)
        return replace(self, approximate=fewer, notes=(*self.notes, f"guidance is not limited: {obstacle}"))

    def noise_request(self, seeds: Seeds, device: torch.device) -> NoiseRequest:
        """What decides the random numbers of one batch."""
        resize = self.seed_resize_from_px
        return NoiseRequest(
            seeds=seeds.seeds,
            shape=(4, self.height_px // 8, self.width_px // 8),
            source=self.noise_source,
            device=device,
            subseeds=seeds.subseeds,
            subseed_strength=self.subseed_strength,
            resize_from_lat=(resize[1] // 8, resize[0] // 8) if resize else None,
            ensd=self.ensd,
        )
