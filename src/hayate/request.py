"""What a user asks for: nothing but the prompt is needed, and the checks that need no model."""

from __future__ import annotations

from dataclasses import dataclass, fields
from types import MappingProxyType

from hayate.errors import UsageError, clip

MAX_PROMPT_CHARACTERS = 100_000
MAX_SEED = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TextToImage:
    """One text-to-image job as it was asked; None leaves the choice to the settings or the model."""

    prompt: str
    negative_prompt: str = ""
    styles: tuple[str, ...] = ()
    model: str | None = None
    vae: str | None = None
    steps: int | None = None
    sampler: str | None = None
    scheduler: str | None = None
    cfg: float | None = None
    width_px: int | None = None
    height_px: int | None = None
    batch_size: int | None = None
    batch_count: int | None = None
    seed: int | None = None
    """None or −1 draws one."""
    subseed: int | None = None
    subseed_strength: float | None = None
    seed_resize_from_w_px: int | None = None
    seed_resize_from_h_px: int | None = None
    noise_source: str | None = None
    ensd: int | None = None
    clip_skip: int | None = None
    emphasis: str | None = None
    eta: float | None = None
    """Share of fresh noise in ancestral and SDE samplers, and in DDIM."""
    sigma_min: float | None = None
    sigma_max: float | None = None
    rho: float | None = None
    device: str | None = None
    dtype: str | None = None


@dataclass(frozen=True, slots=True)
class Bound:
    """What a number may be."""

    low: float
    high: float
    flag: str
    multiple: int = 1
    """Of what it is a multiple; 0 for a number that needn't be whole."""


BOUNDS = MappingProxyType(
    {
        "steps": Bound(1, 1000, "--steps"),
        "cfg": Bound(0, 100, "--cfg", 0),
        "width_px": Bound(64, 4096, "--size", 8),
        "height_px": Bound(64, 4096, "--size", 8),
        "batch_size": Bound(1, 64, "--batch-size"),
        "batch_count": Bound(1, 1000, "--batch-count"),
        "seed": Bound(-1, MAX_SEED, "--seed"),
        "subseed": Bound(-1, MAX_SEED, "--subseed"),
        "subseed_strength": Bound(0, 1, "--subseed-strength", 0),
        "seed_resize_from_w_px": Bound(0, 4096, "--seed-resize-from", 8),
        "seed_resize_from_h_px": Bound(0, 4096, "--seed-resize-from", 8),
        "ensd": Bound(-(2**31), 2**32, "--ensd"),
        "clip_skip": Bound(1, 12, "--clip-skip"),
        "eta": Bound(0, 1, "--eta", 0),
        "sigma_min": Bound(0, 1_000_000, "--sigma-min", 0),
        "sigma_max": Bound(0, 1_000_000, "--sigma-max", 0),
        "rho": Bound(0.01, 1000, "--rho", 0),
    }
)
"""Every number of a request, with its bounds (both included) and the flag that gives it."""


def validate(request: TextToImage) -> None:
    """Check everything that can be checked without a model; names are left to the rooms that know them.

    Raises: UsageError.
    """
    for field in fields(request):
        value = getattr(request, field.name)
        if value is None:
            continue
        if field.name in BOUNDS:
            _check_number(field.name, value, BOUNDS[field.name])
        elif isinstance(value, str):
            _check_text(field.name, value)
    if request.sigma_min and request.sigma_max and request.sigma_min >= request.sigma_max:
        raise UsageError("sigma_min is not below sigma_max", hint="leave both out for the model's own")


def _check_number(name: str, value: float, bound: Bound) -> None:
    title = name.removesuffix("_px").replace("_", " ")
    if not bound.low <= value <= bound.high:  # so that NaN is refused too
        shown = clip(str(value), 30)
        raise UsageError(f"{title} {shown} is out of range", hint=f"{bound.flag} takes {bound.low} to {bound.high}")
    if not bound.multiple:
        return
    if not isinstance(value, int):
        raise UsageError(f"{title} {value} is not a whole number", hint=f"{bound.flag} takes whole numbers")
    if value % bound.multiple:
        near = max(bound.low, round(value / bound.multiple) * bound.multiple)
        raise UsageError(f"{title} {value} is not a multiple of {bound.multiple}", hint=f"nearest: {near:g}")


def _check_text(name: str, value: str) -> None:
    title = name.replace("_", " ")
    limit = MAX_PROMPT_CHARACTERS if name.endswith("prompt") else 4096
    if len(value) > limit:
        raise UsageError(f"the {title} has {len(value)} characters", hint=f"at most {limit} are read")
    if "\0" in value:
        raise UsageError(f"the {title} has a zero character in it", hint="remove it")
