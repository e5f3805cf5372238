"""What a user asks for: nothing but the prompt is needed, and the checks that need no model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

from hayate.errors import UnknownName, UsageError, clip

MAX_PROMPT_CHARACTERS = 100_000
MAX_SEED = 2**63 - 1


RESIZE_MODES = ("just resize", "crop", "fill", "latent")
"""How a picture of another size becomes the job's: stretched, cropped, widened at its edges, or as latents."""
FILLS = ("fill", "original", "latent noise", "latent nothing")
"""What is under an inpainting mask at the start: its surroundings' colours, the picture, noise, or nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartImage:
    """A picture to start from, and which part of it is made anew. Source: A1111's img2img, docs/compat.md."""

    path: str
    denoising: float = 0.75
    """How much is made anew: 0 leaves the picture, 1 leaves nothing of it."""
    resize_mode: str = "just resize"
    noise_multiplier: float = 1.0
    mask: str | None = None
    """A picture that is white where the other one is made anew; its alpha counts where it has one."""
    mask_blur: int = 4
    is_mask_inverted: bool = False
    fill: str = "original"
    extend_px: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Left, top, right, bottom: so much is added around the picture, and made anew with what is under the mask."""
    padding_px: int | None = None
    """With a number only the masked part is made, that much around it, at the job's whole size; None makes all."""


LATENT_UPSCALERS = (
    "Latent",
    "Latent (antialiased)",
    "Latent (bicubic)",
    "Latent (bicubic antialiased)",
    "Latent (nearest)",
    "Latent (nearest-exact)",
)
PIXEL_UPSCALERS = ("None", "Lanczos", "Nearest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hires:
    """A second pass over the enlarged picture; None takes the first pass' choice. Source: A1111, docs/compat.md."""

    scale: float = 2.0
    width_px: int | None = None
    height_px: int | None = None
    """With a width or a height, that instead of the scale; the other side follows."""
    upscaler: str = "Latent"
    """One of the above, or the name of a file in `upscalers_dir`."""
    denoising: float = 0.7
    steps: int | None = None
    sampler: str | None = None
    scheduler: str | None = None
    prompt: str | None = None
    negative_prompt: str | None = None
    model: str | None = None
    """Another checkpoint of the same latent space."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextToImage:
    """One job as it was asked; None leaves the choice to the settings or the model."""

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
    start: StartImage | None = None
    """A picture to start from, instead of noise alone."""
    hires: Hires | None = None
    refiner: str | None = None
    """The checkpoint that makes the last steps: of the second pass where there is one."""
    refiner_switch_at: float | None = None
    """From which part of the training's noise levels on, counted from the highest; None is 0.8."""
    device: str | None = None
    dtype: str | None = None
    extensions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Extensions that are to act, and what is said to each of them."""


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
        "refiner_switch_at": Bound(0.01, 1, "--refiner-switch-at", 0),
    }
)
"""Every number of a request, with its bounds (both included) and the flag that gives it."""


def validate(request: TextToImage) -> None:
    """Check everything that can be checked without a model; names are left to the rooms that know them.

    Raises: UsageError.
    """
    for each in fields(request):
        value = getattr(request, each.name)
        if value is None:
            continue
        if each.name in BOUNDS:
            _check_number(each.name, value, BOUNDS[each.name])
        elif isinstance(value, str):
            _check_text(each.name, value)
    if request.start is not None:
        _check_start(request.start)
    if request.hires is not None:
        _check_hires(request.hires)
    if request.sigma_min and request.sigma_max and request.sigma_min >= request.sigma_max:
        raise UsageError("sigma_min is not below sigma_max", hint="leave both out for the model's own")


def _check_hires(hires: Hires) -> None:
    """Raises: UsageError, UnknownName."""
    _check_number("hires scale", hires.scale, Bound(1, 8, "--hires-scale", 0))
    _check_number("hires denoising", hires.denoising, Bound(0, 1, "--hires-denoising", 0))
    for title, value in (("hires width", hires.width_px), ("hires height", hires.height_px)):
        if value is not None:
            _check_number(title, value, Bound(64, 8192, "--hires-size", 8))
    if hires.steps is not None:
        _check_number("hires steps", hires.steps, Bound(1, 1000, "--hires-steps"))
    if hires.model is not None:
        _check_text("hires model", hires.model)
    _check_text("hires upscaler", hires.upscaler)


def _check_start(start: StartImage) -> None:
    """Raises: UsageError."""
    _check_number("denoising strength", start.denoising, Bound(0, 1, "--denoising", 0))
    _check_number("noise multiplier", start.noise_multiplier, Bound(0, 10, "--noise-multiplier", 0))
    _check_number("mask blur", start.mask_blur, Bound(0, 64, "--mask-blur"))
    if start.padding_px is not None:
        _check_number("padding", start.padding_px, Bound(0, 1024, "--only-masked"))
    for value in start.extend_px:
        _check_number("outpaint", value, Bound(0, 4096, "--outpaint", 1))
    for kind, name, known in (("resize mode", start.resize_mode, RESIZE_MODES), ("fill", start.fill, FILLS)):
        if name not in known:
            raise UnknownName(kind, name, known)


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
