"""What an extension may add: every kind of hook, what its object has to be, and what it is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

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


@dataclass(frozen=True, slots=True)
class HookKind:
    """A kind of hook."""

    is_a: str
    """What the object at the hook's place has to be."""
    doc: str
    is_chosen: bool = False
    """Whether a job asks for it by its name. The others act on every job that their extension acts on."""


_HERE = "`hayate.extensions.hooks`"

HOOKS: Mapping[str, HookKind] = MappingProxyType(
    {
        "samplers": HookKind(
            "`SamplerInfo` of `hayate.samplers.catalogue`", "A sampler: rows of coefficients.", is_chosen=True
        ),
        "schedules": HookKind("`ScheduleInfo` of `hayate.samplers.sigmas`", "A noise schedule.", is_chosen=True),
        "attention": HookKind(
            "a class that is a `Backend` of `hayate.runtime.attention.base`",
            "A way to compute attention, for `--attention` and the setting.",
            is_chosen=True,
        ),
        "axes": HookKind("`AxisKind` of `hayate.pipeline.axes`", "An axis of X/Y/Z plots.", is_chosen=True),
        "scripts": HookKind(
            "a dataclass that is a `Script` of `hayate.jobs.scripts`",
            "One request that stands for many.",
            is_chosen=True,
        ),
        "routes": HookKind(
            "an ASGI application, such as a `FastAPI`",
            "Answers under `/extensions/NAME/`, behind all guards of the server; imported with the first call.",
            is_chosen=True,
        ),
        "prompts": HookKind(f"`PromptHook` of {_HERE}", "Rewrites the prompts before they are read."),
        "engines": HookKind(f"`EngineHook` of {_HERE}", "Stands before the networks of a job."),
        "before_sampling": HookKind(f"`LatentHook` of {_HERE}", "Changes the noise that a batch begins with."),
        "after_sampling": HookKind(f"`LatentHook` of {_HERE}", "Changes the latents of a batch before decoding."),
        "pictures": HookKind(
            f"`PictureHook` of {_HERE}",
            "Changes finished pictures before they are saved; may let the pipeline paint in them.",
        ),
    }
)
"""Every kind of hook. Controls are no hook: they are data of the manifest."""
