"""What each kind of job is told: read from JSON strictly, and checked before it is queued."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

from hayate.errors import UnknownName, UsageError
from hayate.jobs.generate import Generate
from hayate.jobs.names import (
    check_file_name,
    check_input,
    check_model,
    check_recipe,
    check_upscaler,
    find_registered,
    find_vae,
)
from hayate.jobs.wire import as_object, read_object
from hayate.settings import Settings, changed_settings

DTYPES = ("keep", "fp32", "fp16", "bf16")
SIDE_PX = (8, 16384)
MOST_PICTURES = 1000


class Body(Protocol):
    """What a job of one kind is told."""

    kind: ClassVar[str]

    def check(self, settings: Settings, inputs_dir: Path) -> None:
        """Finds what is wrong with it, as far as that needs no torch. Raises: UsageError, UnknownName."""
        ...

    def inputs(self) -> tuple[str, ...]:
        """The paths of the pictures that it starts from."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Upscale:
    """Finished pictures made larger: A1111's extras."""

    kind: ClassVar[str] = "upscale"
    images: tuple[str, ...]
    upscaler_1: str = "Lanczos"
    upscaler_2: str = "None"
    visibility_2: float = 0.0
    """How much of the second upscaler's picture is laid over the first one's, 0 to 1."""
    scale: float = 2.0
    width_px: int | None = None
    height_px: int | None = None
    """With both, that instead of the scale."""
    is_cropped: bool = True
    """Whether a picture of other proportions is cut to that size."""
    saves_pictures: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)

    def check(self, settings: Settings, inputs_dir: Path) -> None:
        changed_settings(settings, self.settings, allows_paths=False)
        if not 1 <= len(self.images) <= MOST_PICTURES:
            raise UsageError(f"{len(self.images)} pictures can't be upscaled", hint=f"1 to {MOST_PICTURES}")
        for path in self.images:
            check_input(path, inputs_dir)
        for name in (self.upscaler_1, self.upscaler_2):
            check_upscaler(name, settings)
        if not 0 <= self.visibility_2 <= 1:
            raise UsageError(f"visibility {self.visibility_2} is out of range", hint="0 to 1")
        if (self.width_px is None) != (self.height_px is None):
            raise UsageError("a size is a width and a height", hint="give both, or a scale")
        for side in (self.width_px, self.height_px):
            if side is not None and not SIDE_PX[0] <= side <= SIDE_PX[1]:
                raise UsageError(f"a side of {side} pixels is out of range", hint=f"{SIDE_PX[0]} to {SIDE_PX[1]}")
        if self.width_px is None and not 1 <= self.scale <= 8:
            raise UsageError(f"scale {self.scale} is out of range", hint="1 to 8")

    def inputs(self) -> tuple[str, ...]:
        return self.images


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """A new model from others, by an expression."""

    kind: ClassVar[str] = "merge"
    recipe: str
    output_name: str
    """Of the file in models_dir, without ending; never over another one."""
    dtype: str = "keep"
    vae: str | None = None
    """A separate VAE that takes the place of the merged one."""

    def check(self, settings: Settings, inputs_dir: Path) -> None:
        del inputs_dir
        check_recipe(self.recipe, settings)
        check_output(self.output_name, settings)
        check_dtype(self.dtype)
        if self.vae is not None:
            find_vae(self.vae, settings)

    def inputs(self) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Convert:
    """A model as a safetensors file of another type, or without what generating does not need."""

    kind: ClassVar[str] = "convert"
    model: str
    output_name: str
    dtype: str = "keep"
    ema: str = "drop"
    parts: Mapping[str, str] = field(default_factory=dict)
    """By unet, text, vae and other: copy, convert or delete."""

    def check(self, settings: Settings, inputs_dir: Path) -> None:
        del inputs_dir
        find_registered(self.model, settings)
        check_output(self.output_name, settings)
        check_dtype(self.dtype, (*DTYPES, "fp8"))
        for title, value, known in (
            ("average", self.ema, ("none", "only", "drop")),
            *(("part", part, ("unet", "text", "vae", "other")) for part in self.parts),
            *(("treatment", treatment, ("copy", "convert", "delete")) for treatment in self.parts.values()),
        ):
            if value not in known:
                raise UnknownName(title, value, known)

    def inputs(self) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A measurement of this machine."""

    kind: ClassVar[str] = "bench"
    preset: str = "quick"
    model: str | None = None
    vae: str | None = None
    steps: int | None = None
    sampler: str | None = None
    cfg: float | None = None
    width_px: int | None = None
    height_px: int | None = None
    batch_size: int | None = None
    batch_count: int | None = None
    rounds: int = 5
    time_s: float = 300.0
    label: str = ""
    is_compared: bool = True

    def check(self, settings: Settings, inputs_dir: Path) -> None:
        del inputs_dir
        check_model(self.model, settings)
        if self.vae is not None:
            find_vae(self.vae, settings)
        if not 1 <= self.rounds <= 1000 or not 1 <= self.time_s <= 24 * 3600:
            raise UsageError("the measurement's limits are out of range", hint="1 to 1000 rounds, 1 to 86400 s")

    def inputs(self) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tune:
    """The fastest configuration for a model, a size and a batch."""

    kind: ClassVar[str] = "tune"
    model: str | None = None
    width_px: int | None = None
    height_px: int | None = None
    batch_size: int | None = None
    steps: int = 20
    budget_s: float = 180.0
    promise: str = "exact"
    min_psnr_db: float = 35.0
    prompt: str | None = None

    def check(self, settings: Settings, inputs_dir: Path) -> None:
        del inputs_dir
        check_model(self.model, settings)
        if self.promise not in ("exact", "deterministic", "fast"):
            raise UnknownName("promise", self.promise, ("exact", "deterministic", "fast"))
        if not 5 <= self.budget_s <= 24 * 3600:
            raise UsageError(f"a budget of {self.budget_s:g} s is out of range", hint="5 to 86400; 180 is usual")

    def inputs(self) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A model brought into memory, so that the next picture need not wait for it."""

    kind: ClassVar[str] = "load"
    model: str | None = None
    vae: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def check(self, settings: Settings, inputs_dir: Path) -> None:
        del inputs_dir
        changed_settings(settings, self.settings, allows_paths=False)
        check_model(self.model, settings)
        if self.vae is not None:
            find_vae(self.vae, settings)

    def inputs(self) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unload:
    """All models out of memory."""

    kind: ClassVar[str] = "unload"

    def check(self, settings: Settings, inputs_dir: Path) -> None:
        del settings, inputs_dir

    def inputs(self) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicates:
    """A look through models_dir for files that hold the same numbers; nothing is removed."""

    kind: ClassVar[str] = "duplicates"

    def check(self, settings: Settings, inputs_dir: Path) -> None:
        del settings, inputs_dir

    def inputs(self) -> tuple[str, ...]:
        return ()


KINDS: Mapping[str, type[Body]] = MappingProxyType(
    {each.kind: each for each in (Generate, Upscale, Merge, Convert, Duplicates, Bench, Tune, Load, Unload)}
)


def read_body(kind: str, words: Mapping[str, Any]) -> Body:
    """The body of a job from JSON. Raises: UnknownName, UsageError."""
    if kind not in KINDS:
        raise UnknownName("kind of job", kind, KINDS)
    if kind == Generate.kind:
        return Generate.read(words)
    return read_object(KINDS[kind], words, f"the {kind} job")


def body_object(body: Body) -> dict[str, Any]:
    """The same back, without what is as by default: two jobs that mean the same are the same."""
    return body.as_object() if isinstance(body, Generate) else as_object(body)


def check_output(name: str, settings: Settings) -> None:
    """Raises: UsageError for a name that no model's file can have, or one has."""
    check_file_name(name)
    if (settings.models_dir / f"{name}.safetensors").exists():
        raise UsageError(f"there is a model {name!r} already", hint="choose another name")


def check_dtype(name: str, known: tuple[str, ...] = DTYPES) -> None:
    """Raises: UnknownName."""
    if name not in known:
        raise UnknownName("type of numbers", name, known)
