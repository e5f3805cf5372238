"""What can be tried: one switch after the other, on top of what has won so far."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from hayate.errors import HayateError
from hayate.extensions.current import current
from hayate.models.config import ModelConfig
from hayate.runtime.asked import Asked
from hayate.runtime.attention.catalogue import BACKENDS
from hayate.runtime.facts import Facts
from hayate.runtime.memory import Work
from hayate.runtime.plan import Plan, resolve_plan

INTERVALS = ((0.3, 3.0), (0.3, 5.0), (0.2, 14.7))
"""Units: sigma. The middle one is the paper's for SDXL, the last only spares the end."""
COMPILE_S = 60.0
"""Less time than this is never enough for a compiled step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The machine, the model and the work that a search is for."""

    facts: Facts
    config: ModelConfig
    work: Work
    promise: str

    def plan(self, asked: Asked) -> Plan:
        """Raises: HayateError for what can't be had here."""
        return resolve_plan(asked, self.facts, self.config, self.work)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One thing changed."""

    name: str
    """The change in words, such as "attention math"."""
    asked: Asked
    compile_limit_s: float = 0.0


def groups(place: Place) -> list[list[tuple[str, dict[str, Any]]]]:
    """The switches in the order in which they are tried, most promising first: each is a list of alternatives."""
    kind = place.facts.device.torch.type
    is_cpu, is_cuda = kind == "cpu", kind == "cuda"
    types = ["bf16", "fp32"] if is_cpu else ["fp16", "bf16"]
    layers = ["packed", "fused", "plain"] if is_cpu else ["fused", "plain"]
    found = [
        [(f"layers {name}", {"layers": name}) for name in layers],
        [(f"attention {name}", {"attention": name}) for name in (*BACKENDS, *current().names("attention"))],
        [(f"layout {name}", {"layout": name}) for name in ("channels-last", "contiguous")],
        [("CUDA graphs", {"is_graphed": True})] if is_cuda else [],
        [(f"precision {name}", {"dtype": name}) for name in types],
        [(f"VAE {name}", {"vae_dtype": name}) for name in types],
        [(f"{half} inputs at once", {"inputs_at_once": half})] if (half := place.work.inputs // 2) else [],
    ]
    if place.promise == "fast":
        found += _shortcuts()
    modes = ["default", "reduce-overhead", "max-autotune"] if is_cuda else ["default"]
    if place.promise != "deterministic":
        found.append([(f"compile {mode}", {"compile": mode, "layers": "fused"}) for mode in modes])
    return [group for group in found if group]


def _shortcuts() -> list[list[tuple[str, dict[str, Any]]]]:
    """Methods that leave work out, each from the boldest to the most careful."""
    return [
        [(f"DeepCache {every}", {"deepcache": every}) for every in (5, 3, 2)],
        [(f"guidance {low:g} to {high:g}", {"guidance_interval": (low, high)}) for low, high in INTERVALS],
        [(f"NGMS {sigma:g}", {"s_min_uncond": sigma}) for sigma in (3.0, 1.0)],
        [(f"{share:.0%} of tokens merged", {"tome": share}) for share in (0.5, 0.25)],
    ]


def candidates(group: list[tuple[str, dict[str, Any]]], best: Asked, place: Place) -> Iterator[Candidate | Refused]:
    """The alternatives of one switch that differ from the best plan so far; those that can't be had with the reason."""
    now = key_of(place.plan(best))
    for name, change in group:
        asked = replace(best, **change)
        try:
            plan = place.plan(asked)
        except HayateError as error:
            yield Refused(name=name, reason=error.message)
            continue
        if key_of(plan) == now:
            continue
        if reason := _unpromised(plan, place.promise):
            yield Refused(name=name, reason=reason)
            continue
        yield Candidate(name=name, asked=asked, compile_limit_s=COMPILE_S if "compile" in change else 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """What can't be had, without a trial."""

    name: str
    reason: str


def key_of(plan: Plan) -> tuple[object, ...]:
    """Two plans with equal keys compute in the same way."""
    precision: tuple[torch.dtype, ...] = (plan.precision.unet, plan.precision.text, plan.precision.vae)
    ways = (plan.is_fused, plan.is_packed, plan.is_channels_last, plan.is_graphed, plan.inputs_at_once)
    compiled = (plan.compile.value, tuple(sorted(plan.compile_parts)) if plan.compile.value != "off" else ())
    return precision, plan.attention.backend.name, ways, compiled, plan.vae_tile_px, plan.offload, plan.approximate


def _unpromised(plan: Plan, promise: str) -> str | None:
    """Why a plan can't be taken under the promise, or None."""
    if promise != "fast" and plan.promise == "fast":
        return f"it is approximate, and the promise is {promise}"
    if promise == "deterministic" and plan.device.torch.type != "cpu" and not plan.attention.backend.is_deterministic:
        return "its attention does not promise the same bits"
    return None
