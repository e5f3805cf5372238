"""What an extension may add: every kind of hook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


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
