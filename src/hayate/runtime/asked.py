"""What a user asked of the machine, by Hayate's own options and by A1111's flags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from hayate.errors import UnknownName, UsageError
from hayate.flags import TakenFlags

_CONTRADICTIONS = (
    ("--medvram", "--lowvram"),
    ("--medvram-sdxl", "--lowvram"),
    ("--use-cpu", "--device-id"),
    ("--no-half", "--precision half"),
    ("--no-half-vae", "--precision half"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was asked for; None leaves the choice to the plan."""

    dtype: str | None = None
    vae_dtype: str | None = None
    attention: str | None = None
    """A backend that must serve, or there is no plan."""
    wished_attention: str | None = None
    """A backend by one of A1111's flags: where it can't serve, the plan says so and goes on, as A1111 does."""
    layers: str | None = None
    """plain: as in the file; fused: queries, keys and values by one product; packed: also laid out for the CPU."""
    layout: str | None = None
    compile: str | None = None
    compile_parts: tuple[str, ...] = ()
    is_graphed: bool | None = None
    offload: str | None = None
    is_offload_for_sdxl: bool = False
    """Whether `offload` was asked for SDXL only."""
    inputs_at_once: int | None = None
    """How many inputs the U-Net takes in one call; with guidance an image is two."""
    vae_tile_px: int | None = None
    checks_nan: bool = True
    guidance_interval: tuple[float, float] | None = None
    """The noise levels between which guidance acts."""
    s_min_uncond: float | None = None
    deepcache: int | None = None
    tome: float | None = None
    tiny_vae: str | None = None
    promise: str | None = None
    ignores_profile: bool = False
    """Whether the plan is to be the default one, though something was tuned."""
    notes: tuple[str, ...] = ()


def asked_of(words: Mapping[str, Any]) -> Asked:
    """What was asked for, from JSON, which knows no tuples.

    Raises: TypeError for an option that doesn't exist.
    """
    given: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in words.items()}
    return Asked(**given)


def asked_from(flags: TakenFlags, own: Asked) -> Asked:
    """What A1111's flags ask for, under what Hayate's own options ask for.

    Raises: UsageError where two flags contradict each other.
    """
    _refuse_pairs(flags)
    everywhere = {"full": "fp32", "half": "fp16", "autocast": None}
    precision = flags.value("--precision")
    if precision is not None and precision not in everywhere:
        raise UnknownName("precision", precision, everywhere)
    offload = next((name[2:] for name in ("--lowvram", "--medvram") if name in flags), None)
    attention, notes = _attention_of(flags)
    from_flags = Asked(
        dtype="fp32" if "--no-half" in flags else everywhere[precision] if precision else None,
        vae_dtype="fp32" if "--no-half-vae" in flags else None,
        wished_attention=attention,
        layout="channels-last" if "--opt-channelslast" in flags else None,
        offload=offload or ("medvram" if "--medvram-sdxl" in flags else None),
        is_offload_for_sdxl=offload is None and "--medvram-sdxl" in flags,
        checks_nan="--disable-nan-check" not in flags,
        notes=(*flags.notes, *notes),
    )
    empty = Asked()
    said = {
        each.name: value for each in fields(Asked) if (value := getattr(own, each.name)) != getattr(empty, each.name)
    }
    if "offload" in said:
        said["is_offload_for_sdxl"] = False
    return replace(from_flags, **said)


def _attention_of(flags: TakenFlags) -> tuple[str | None, tuple[str, ...]]:
    """The backend of the first flag in A1111's order of preference; the others are told so."""
    order = {
        "--opt-sdp-no-mem-attention": "sdp-no-mem",
        "--opt-sdp-attention": "sdp",
        "--xformers": "xformers",
        "--opt-sub-quad-attention": "sub-quadratic",
        "--opt-split-attention": "split",
        "--opt-split-attention-v1": "split",
        "--opt-split-attention-invokeai": "split",
        "--disable-opt-split-attention": "math",
    }
    found = [name for name in order if name in flags]
    notes = tuple(f"{name}: {found[0]} wins" for name in found[1:])
    return (order[found[0]] if found else None), notes


def _refuse_pairs(flags: TakenFlags) -> None:
    said = {*flags.values, f"--precision {flags.value('--precision')}"}
    if not flags.is_on_cpu:
        said.discard("--use-cpu")  # it names models that are not here
    for first, second in _CONTRADICTIONS:
        if first in said and second in said:
            raise UsageError(f"{first} and {second} contradict each other", hint="give one of them")
