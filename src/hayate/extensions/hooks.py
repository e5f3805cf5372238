"""What the objects of an extension's hooks have to be, and what they are told; `kinds.py` has the list of all hooks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from hayate.extensions.inside import inside

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from hayate.engines.base import Engine
    from hayate.extensions.control import Value
    from hayate.pipeline.job import Job
    from hayate.runtime.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What every hook is told beside the thing that it may change."""

    values: Mapping[str, Value]
    """Of the extension's controls: what the job says, else their defaults."""
    seed: int
    """The seed of the first picture that this call is about: whoever draws numbers draws them from it."""
    note: Callable[[str], None]
    """Says something to the user, once."""
    check: Callable[[], None] = inside.check
    """Raises where the job was cancelled: a hook that takes its time calls it between its steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTexts:
    """Both prompts, with styles applied, before anything in them is read."""

    prompt: str
    negative_prompt: str


class PromptHook(Protocol):
    """Rewrites the prompts; the infotext says what comes out."""

    def __call__(self, texts: PromptTexts, call: Call, /) -> PromptTexts: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCall(Call):
    """What a hook on engines is told."""

    plan: Plan


class EngineHook(Protocol):
    """Gives an engine that stands before the given one; a method of it that raises is the given one's from then on.

    It is called once for each model, each time that model comes in place.
    """

    def __call__(self, engine: Engine, call: EngineCall, /) -> Engine: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingCall(Call):
    """What a hook on latents is told."""

    job: Job
    seeds: tuple[int, ...]
    """Of the batch's pictures."""


class LatentHook(Protocol):
    """Gives latents in the place of others, in their shape.

    Before sampling they are the unit noise of a batch, after it what will be decoded. Each pass of hires fix is a
    sampling of its own. The given tensor is not to be changed in place.
    Shapes: [B, 4, h, w] float32 → the same.
    """

    def __call__(self, latents: Tensor, call: SamplingCall, /) -> Tensor: ...


class Painter(Protocol):
    """Paints in a picture as img2img with a mask does: by the job's own model, sampler and, unless told, prompts."""

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
        """The picture with what is white in the mask made anew, alone and at the job's size ("only masked").

        An empty prompt is the job's own.
        Shapes: picture [H, W, 3] uint8, mask [H, W] uint8 → [H, W, 3] uint8; outside of the mask bit for bit the same.
        Raises: HayateError.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureCall(Call):
    """What a hook on pictures is told."""

    job: Job
    number: int
    """Of the picture in the job, from 0."""
    paint: Painter


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Retouched:
    """A picture, and what its infotext says of the change."""

    picture: np.ndarray
    """[H, W, 3] uint8; of any size."""
    keys: Mapping[str, str | float] = field(default_factory=dict)


class PictureHook(Protocol):
    """Changes a finished picture before it is saved. Shapes: [H, W, 3] uint8."""

    def __call__(self, picture: np.ndarray, call: PictureCall, /) -> Retouched: ...
