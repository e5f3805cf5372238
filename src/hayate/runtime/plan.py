"""What was asked for becomes a plan, with a reason for every choice; nothing else decides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeVar, get_args

import torch

from hayate.errors import MissingDependency, UnknownName, UsageError
from hayate.models.config import Family, ModelConfig
from hayate.runtime.approximate import Approximate, Obstacles, resolve_approximate
from hayate.runtime.asked import Asked
from hayate.runtime.attention.choose import ChosenAttention, choose_attention
from hayate.runtime.compile.spec import Mode
from hayate.runtime.device import Device
from hayate.runtime.facts import Facts
from hayate.runtime.memory import (
    OFFLOADS,
    Forecast,
    Offload,
    OffloadPlan,
    Work,
    forecast,
    resolve_offload,
    tiles_for,
)
from hayate.runtime.precision import Precision, dtype_name, resolve_precision
from hayate.runtime.prepare import Preparation

Promise = Literal["exact", "deterministic", "fast"]
PROMISES: tuple[Promise, ...] = get_args(Promise)
LAYERS = ("auto", "plain", "fused", "packed")
LAYOUTS = ("auto", "contiguous", "channels-last")
Name = TypeVar("Name", bound=str)
Part = Literal["unet", "vae", "text"]
PARTS: tuple[Part, ...] = get_args(Part)
FULL_SIZE_CHANNELS = 128
"""From this width on a U-Net is worth the second that packing takes, and bf16's rounding is its users' habit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One decision, as `hayate plan` prints it."""

    name: str
    value: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that decides how a picture is computed."""

    device: Device
    precision: Precision
    attention: ChosenAttention
    is_fused: bool
    is_packed: bool
    is_channels_last: bool
    compile: Mode
    compile_parts: frozenset[Part]
    is_graphed: bool
    offload: Offload
    forecast: Forecast
    inputs_at_once: int | None
    vae_tile_px: int | None
    checks_nan: bool
    approximate: Approximate
    promise: Promise
    choices: tuple[Choice, ...]
    notes: tuple[str, ...]

    @property
    def preparation(self) -> Preparation:
        """What is made of each network after loading."""
        return Preparation(
            is_fused=self.is_fused,
            is_packed=self.is_packed,
            is_channels_last=self.is_channels_last,
        )

    def with_choice(self, choice: Choice) -> Plan:
        """This plan, telling one thing more."""
        return replace(self, choices=(*self.choices, choice))

    def as_object(self) -> dict[str, dict[str, str]]:
        """The choices as JSON can hold them."""
        return {choice.name: {"value": choice.value, "reason": choice.reason} for choice in self.choices}


def resolve_plan(asked: Asked, facts: Facts, config: ModelConfig, work: Work) -> Plan:
    """The plan for one architecture and one piece of work on one machine.

    Raises: UnknownName, UsageError and MissingDependency for what can't be had, each with a hint.
    """
    device = facts.device
    _known("promise", asked.promise or "exact", PROMISES)
    precision = _precision(asked, facts, config)
    attention, notes = _attention(asked, device, config, precision.unet)
    # The backend, not what counts its calls: the same object each time, so that the forecast is remembered.
    scratch = attention.backend if attention.backend.has_scratch else None
    tile_px, tiled = asked.vae_tile_px, "asked for" if asked.vae_tile_px else "whole pictures are exact"
    found = forecast(config, precision, replace(work, tile_px=tile_px), attention=scratch)
    offload = _offload(asked, facts, config, found)
    if tile_px is None and not offload.is_enough and asked.promise in (None, "fast"):
        for smaller in tiles_for(work):
            less = forecast(config, precision, replace(work, tile_px=smaller), attention=scratch)
            if (with_it := _offload(asked, facts, config, less)).is_enough:
                tile_px, found, offload = smaller, less, with_it
                tiled = "a whole picture does not fit the memory that is free"
                break
    mode, compiled = _compile(asked, facts, offload.offload)
    layers, layered = _layers(asked, facts, config, precision, mode)
    is_packed = layers == "packed"
    is_last, last = _layout(asked, facts, is_packed)
    is_graphed, graphed = _graphs(asked, facts, mode, is_offloaded=offload.offload != "none")
    parts: frozenset[Part] = frozenset(_known("network", part, PARTS) for part in asked.compile_parts or ("unet",))
    obstacles = Obstacles(
        is_compiled=mode is not Mode.OFF and "unet" in parts,
        is_vae_compiled=mode is not Mode.OFF and "vae" in parts,
        is_graphed=is_graphed,
        is_streamed=offload.offload == "lowvram",
    )
    approximate, rows, unable = resolve_approximate(asked, obstacles)
    promise, promised = _promise(asked, attention, tile_px, approximate)
    dtypes = " ".join(f"{part} {dtype_name(getattr(precision, part))}" for part in PARTS)
    choices = (
        Choice(name="device", value=device.title, reason=device.reason),
        Choice(name="precision", value=dtypes, reason=precision.reason),
        Choice(name="attention", value=attention.backend.name, reason=attention.reason),
        Choice(name="layers", value=layers, reason=layered),
        Choice(name="layout", value="channels-last" if is_last else "contiguous", reason=last),
        Choice(name="compile", value=mode.value, reason=compiled),
        Choice(name="graphs", value="on" if is_graphed else "off", reason=graphed),
        Choice(name="offload", value=offload.offload, reason=offload.reason),
        Choice(
            name="memory", value=_gib(found.peak_bytes(offload.offload)), reason="forecast from shapes, at the peak"
        ),
        Choice(name="inputs at once", value=str(asked.inputs_at_once or "all"), reason=_inputs_reason(asked)),
        Choice(name="VAE decode", value=f"tiles of {tile_px} px" if tile_px else "whole", reason=tiled),
        Choice(
            name="NaN check",
            value="on" if asked.checks_nan else "off",
            reason="one look after the loop" if asked.checks_nan else "asked for",
        ),
        *(Choice(name=row.name, value=row.value, reason=row.reason) for row in rows),
        Choice(name="promise", value=promise, reason=promised),
    )
    return Plan(
        device=device,
        precision=precision,
        attention=attention,
        is_fused=layers != "plain",
        is_packed=is_packed,
        is_channels_last=is_last,
        compile=mode,
        compile_parts=parts,
        is_graphed=is_graphed,
        offload=offload.offload,
        forecast=found,
        inputs_at_once=asked.inputs_at_once,
        vae_tile_px=tile_px,
        checks_nan=asked.checks_nan,
        approximate=approximate,
        promise=promise,
        choices=choices,
        notes=(
            *asked.notes,
            *notes,
            *_warnings(asked, facts, precision, offload),
            *_unmet(asked, mode, compiled),
            *unable,
        ),
    )


def head_dims(config: ModelConfig) -> frozenset[int]:
    """The head dimensions of the U-Net's attentions."""
    unet = config.unet
    widths = {
        unet.channels * multiplier
        for multiplier, depth in zip(unet.multipliers, unet.transformer_depths, strict=True)
        if depth
    }
    if unet.middle_depth:
        widths.add(unet.channels * unet.multipliers[-1])
    return frozenset(width // unet.heads_at(width) for width in widths)


def _attention(
    asked: Asked, device: Device, config: ModelConfig, dtype: torch.dtype
) -> tuple[ChosenAttention, tuple[str, ...]]:
    """The backend, and a note where a wish could not be granted."""
    choose = partial(
        choose_attention,
        device=device,
        dtype=dtype,
        head_dims=head_dims(config),
        is_deterministic=asked.promise == "deterministic",
    )
    is_wished = asked.attention in (None, "auto") and asked.wished_attention is not None
    if not is_wished:
        return choose(asked.attention), ()
    try:
        return choose(asked.wished_attention), ()
    except (UsageError, MissingDependency) as error:
        chosen = choose(None)
        return chosen, (f"{error}; {chosen.backend.name} serves instead",)


def _promise(
    asked: Asked, attention: ChosenAttention, tile_px: int | None, methods: Approximate
) -> tuple[Promise, str]:
    """What the plan as a whole keeps to."""
    parts = {"tiles of the VAE": bool(tile_px), attention.backend.name: not attention.backend.is_exact}
    approximate = [*(name for name, is_so in parts.items() if is_so), *methods.titles()]
    if asked.promise is None:
        if approximate:
            return "fast", f"{' and '.join(approximate)} change pictures a little"
        return "exact", "same mathematics as the reference"
    promise: Promise = _known("promise", asked.promise, PROMISES)
    if approximate and promise != "fast":
        raise UsageError(f"{' and '.join(approximate)} can't keep the promise {promise!r}", hint="add --promise fast")
    return promise, "asked for"


def _precision(asked: Asked, facts: Facts, config: ModelConfig) -> Precision:
    device = facts.device.torch
    is_auto = asked.dtype in (None, "", "auto")
    fault = facts.fp16_fault
    precision = resolve_precision("fp32" if is_auto and fault else asked.dtype, device, has_bf16=facts.has_bf16)
    if is_auto and fault:
        precision = replace(precision, reason=fault)
    if is_auto and device.type == "cpu" and _is_full_size(config) and facts.has_bf16:
        precision = Precision(
            unet=torch.bfloat16,
            text=torch.bfloat16,
            vae=torch.bfloat16,
            reason="this CPU multiplies bf16 twice as fast as fp32, and bf16 can't overflow",
        )
    if asked.vae_dtype is not None:
        wide = resolve_precision(asked.vae_dtype, device).vae
        precision = replace(precision, vae=wide, reason=f"{precision.reason}; the VAE as asked")
    return precision


def _layers(asked: Asked, facts: Facts, config: ModelConfig, precision: Precision, mode: Mode) -> tuple[str, str]:
    """Plain, fused or packed, and why."""
    layers = _known("layers", asked.layers or "auto", LAYERS)
    if layers in ("plain", "fused"):
        return layers, "asked for"
    types = {precision.unet, precision.text, precision.vae}
    obstacles = {
        "packing is for CPUs": facts.device.torch.type != "cpu",
        "compiled networks take plain weights": mode is not Mode.OFF,
        "this PyTorch has no oneDNN": not facts.has_onednn,
        "oneDNN packs bf16 and fp32, not fp16": torch.float16 in types,
        "oneDNN packs bf16 only for CPUs that multiply it": torch.bfloat16 in types and not facts.has_bf16,
        "a network this small gains nothing": layers == "auto" and not _is_full_size(config),
    }
    reason = next((reason for reason, is_so in obstacles.items() if is_so), None)
    if reason is None:
        return "packed", "asked for" if layers == "packed" else "weights are laid out once, for oneDNN's kernels"
    if layers == "packed":
        raise UsageError(f"layers can't be packed here: {reason}", hint="leave the layers to Hayate")
    return "fused", f"one product for queries, keys and values; not packed: {reason}"


def _layout(asked: Asked, facts: Facts, is_packed: bool) -> tuple[bool, str]:
    layout = _known("layout", asked.layout or "auto", LAYOUTS)
    if is_packed:
        if layout == "contiguous":
            raise UsageError("packed layers are channels-last", hint="leave the layout to Hayate on a CPU")
        return True, "packed layers are so"
    if layout != "auto":
        return layout == "channels-last", "asked for"
    if facts.device.torch.type == "cuda":
        return False, "not asked for; whether it helps depends on the card"
    return False, "PyTorch's default"


def _compile(asked: Asked, facts: Facts, offload: Offload) -> tuple[Mode, str]:
    modes = tuple(mode.value for mode in Mode)
    mode = Mode(_known("compile mode", asked.compile or Mode.OFF.value, modes))
    if mode is Mode.OFF:
        return mode, "asked for" if asked.compile else "not asked for"
    if asked.promise == "deterministic":
        message = "a compiled step takes over in the middle of a picture, so its bits can't be promised"
        raise UsageError(message, hint="leave --compile or --promise deterministic out")
    if offload != "none":
        return Mode.OFF, f"{offload} moves the weights, and compiled steps need them in one place"
    if facts.compile_refusal:
        return Mode.OFF, f"nothing can be compiled here: {facts.compile_refusal}"
    return mode, "asked for; eager serves until the compiled step is there, checked and faster"


def _offload(asked: Asked, facts: Facts, config: ModelConfig, found: Forecast) -> OffloadPlan:
    device = facts.device.torch
    is_elsewhere = asked.is_offload_for_sdxl and config.family is not Family.SDXL
    if is_elsewhere or asked.offload in (None, "auto"):
        return resolve_offload(None, found, facts.free_bytes, device)
    chosen: Offload = _known("offload", asked.offload or "none", OFFLOADS)
    return resolve_offload(chosen, found, facts.free_bytes, device)


def _graphs(asked: Asked, facts: Facts, mode: Mode, *, is_offloaded: bool) -> tuple[bool, str]:
    reason = "an offloaded network moves, a graph does not" if is_offloaded else facts.graphs_refusal
    if asked.is_graphed is None and mode is Mode.REDUCE_OVERHEAD:
        return reason is None, reason or "reduce-overhead replays compiled steps"
    if not asked.is_graphed:
        return False, reason or "not asked for"
    if reason:
        raise UsageError(f"CUDA graphs can't be used here: {reason}", hint="leave --graphs out")
    return True, "asked for"


def _inputs_reason(asked: Asked) -> str:
    if asked.inputs_at_once is None:
        return "prompt and negative prompt of all images in one batch"
    if asked.inputs_at_once < 1:
        raise UsageError(f"{asked.inputs_at_once} inputs at once can't be", hint="1 or more; 2 is one guided image")
    return "asked for"


def _warnings(asked: Asked, facts: Facts, precision: Precision, offload: OffloadPlan) -> Iterator[str]:
    """What was asked for and is a bad choice here, or does not act."""
    kind = facts.device.torch.type
    if torch.float16 in (precision.unet, precision.text, precision.vae):
        if kind == "cpu":
            yield "fp16 was asked for, and CPUs compute it slower than fp32"
        elif facts.fp16_fault:
            yield f"fp16 was asked for, and {facts.fp16_fault}"
    if kind != "cuda" and asked.offload in ("medvram", "lowvram") and not asked.is_offload_for_sdxl:
        yield f"{asked.offload} does not act: {offload.reason}"
    if not offload.is_enough:
        yield f"memory may not suffice: {offload.reason}"


def _unmet(asked: Asked, mode: Mode, reason: str) -> Iterator[str]:
    if mode is Mode.OFF and asked.compile not in (None, Mode.OFF.value):
        yield f"compile {asked.compile} does not act: {reason}"


def _known(kind: str, name: str, known: tuple[Name, ...]) -> Name:
    for each in known:
        if each == name:
            return each
    raise UnknownName(kind, name, known)


def _is_full_size(config: ModelConfig) -> bool:
    return config.unet.channels >= FULL_SIZE_CHANNELS


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.2f} GiB"
