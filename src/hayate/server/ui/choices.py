"""The lists that controls choose from: names of the house, and of the user's files, whose headers are not read."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from hayate.extensions.current import current
from hayate.request import LATENT_UPSCALERS, PIXEL_UPSCALERS
from hayate.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One row of a list."""

    value: str
    """What is sent."""
    label: str = ""
    """What is shown, where that is something else."""


def choices_of(source: str, settings: Settings) -> tuple[Choice, ...]:
    """The list called `source`, as it is now."""
    return tuple(Choice(value=name) for name in SOURCES[source](settings))


def _models(settings: Settings) -> tuple[str, ...]:
    from hayate.weights.folders import BUILT_IN, model_files, recipe_files

    folder = settings.models_dir
    files = (path.relative_to(folder).as_posix() for path in model_files(folder))
    return (BUILT_IN, *files, *recipe_files(folder, follows_links=False))


def _vaes(settings: Settings) -> tuple[str, ...]:
    from hayate.weights.folders import model_files

    return tuple(path.relative_to(settings.vae_dir).as_posix() for path in model_files(settings.vae_dir))


def _loras(settings: Settings) -> tuple[str, ...]:
    from hayate.weights.folders import model_files

    return tuple(path.stem for path in model_files(settings.lora_dir))


def _embeddings(settings: Settings) -> tuple[str, ...]:
    endings = (".safetensors", ".pt", ".bin")
    names = (name for _, _, files in os.walk(settings.embeddings_dir, followlinks=True) for name in files)
    return tuple(sorted({name.rpartition(".")[0] for name in names if name.lower().endswith(endings)}))


def _upscalers(settings: Settings) -> tuple[str, ...]:
    from hayate.weights.upscalers import upscaler_names

    return (*PIXEL_UPSCALERS, *upscaler_names(settings.upscalers_dir))


def _hires_upscalers(settings: Settings) -> tuple[str, ...]:
    return (*LATENT_UPSCALERS, *_upscalers(settings))


def _samplers(settings: Settings) -> tuple[str, ...]:
    from hayate.samplers.catalogue import sampler_names

    del settings
    return sampler_names()


def _schedules(settings: Settings) -> tuple[str, ...]:
    from hayate.samplers.sigmas import schedule_names

    del settings
    return schedule_names()


def _attention(settings: Settings) -> tuple[str, ...]:
    from hayate.runtime.attention.catalogue import BACKENDS

    del settings
    return ("auto", *BACKENDS.places, *current().names("attention"))


def _axes(settings: Settings) -> tuple[str, ...]:
    from hayate.pipeline.axes import AXES

    del settings
    return (*AXES, *current().names("axes"))


def _styles(settings: Settings) -> tuple[str, ...]:
    from hayate.server.ui.style_sheet import styles_of

    return tuple(style.name for style in styles_of(settings))


SOURCES: Mapping[str, Callable[[Settings], tuple[str, ...]]] = MappingProxyType(
    {
        "models": _models,
        "vaes": _vaes,
        "loras": _loras,
        "embeddings": _embeddings,
        "upscalers": _upscalers,
        "hires_upscalers": _hires_upscalers,
        "samplers": _samplers,
        "schedules": _schedules,
        "attention": _attention,
        "axes": _axes,
        "styles": _styles,
    }
)
"""Every list by its name. They are read when they are asked for: a page is up before numpy is imported."""
