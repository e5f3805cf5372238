"""Whether what was asked for acted: a figure of a switch that did nothing is worse than none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hayate.errors import HayateError
from hayate.runtime.asked import Asked


class NotActive(HayateError):
    """Something was requested, and the run shows no sign that it acted."""


def unproved(asked: Asked, plan: Mapping[str, Any], evidence: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was asked for and did not act, each with what was seen instead.

    `plan` and `evidence` are those of a picture's record.
    """
    seen, choices = {each["name"]: each for each in evidence}, plan["choices"]
    found = [f"{part} in {wanted}: {dtype} served" for part, wanted, dtype in _other_types(asked, plan["dtype"])]
    for name, value in _requested(asked):
        row = seen.get(name)
        if row is None:
            chosen = choices.get(name, {})
            found.append(f"{name} {value}: {chosen.get('value', 'nothing')} served, {chosen.get('reason', 'unproved')}")
        elif not row["active"] or (name == "attention" and row["requested"] != value):
            found.append(f"{name} {value}: {row['requested']}, {row['detail']}")
    return found


def _other_types(asked: Asked, served: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """The networks that computed in another type than was asked for."""
    for part, dtype in served.items():
        wanted = (asked.vae_dtype if part == "vae" else None) or asked.dtype
        if wanted not in (None, "", "auto", dtype):
            yield part, str(wanted), dtype


def _requested(asked: Asked) -> Iterator[tuple[str, str]]:
    """The names of the evidence that must be there, with what was asked for."""
    attention = asked.attention or asked.wished_attention
    if attention not in (None, "", "auto"):
        yield "attention", attention
    if asked.layers == "packed":
        yield "layers", "packed"
    elif asked.layers == "fused":
        yield "qkv", "fused"
    if asked.layout == "channels-last" and asked.layers != "packed":
        yield "layout", "channels-last"
    if asked.compile not in (None, "off"):
        for part in asked.compile_parts or ("unet",):
            yield f"compile {part}", asked.compile
    if asked.is_graphed:
        yield "CUDA graphs", "on"
    if asked.offload in ("medvram", "lowvram") and not asked.is_offload_for_sdxl:
        yield "offload", asked.offload
    yield from _shortcuts(asked)
    if asked.inputs_at_once:
        yield "inputs at once", str(asked.inputs_at_once)
    if asked.vae_tile_px:
        yield "VAE tiles", f"{asked.vae_tile_px} px"


def _shortcuts(asked: Asked) -> Iterator[tuple[str, str]]:
    """The approximate methods."""
    if asked.guidance_interval is not None or asked.s_min_uncond:
        yield "guidance", "in an interval"
    if (asked.deepcache or 1) > 1:
        yield "DeepCache", f"1 of {asked.deepcache}"
    if asked.tome:
        yield "token merging", f"{asked.tome:g}"
    if asked.tiny_vae is not None:
        yield "tiny VAE", asked.tiny_vae
