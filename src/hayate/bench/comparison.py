"""Two measurements side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hayate.bench.history import decibels
from hayate.bench.machine import title_of
from hayate.bench.protocol import Figure

_WORK = ("width_px", "height_px", "batch_size", "batch_count", "steps", "sampler", "schedule", "cfg")


def compared(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """How many times as fast the second is, with the range that the runs' ranges allow, and why that may mislead."""
    before, after = (Figure(**each["summary"]["it_per_s"]) for each in (first, second))
    return {
        "first": first["id"],
        "second": second["id"],
        "ratio": round(after.median / before.median, 4),
        "ratio_range": [round(after.low / before.high, 4), round(after.high / before.low, 4)],
        "is_certain": after.low > before.high or after.high < before.low,
        "caveats": list(_caveats(first, second)),
        "differing": dict(_differing(first, second)),
    }


def comparison_text(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """The comparison as a person reads it."""
    found = compared(first, second)
    low, high = found["ratio_range"]
    verdict = "the ranges do not touch" if found["is_certain"] else "the ranges touch: it may be chance"
    lines = [
        f"number {second['id']} is {found['ratio']:.2f}× ({low:.2f}–{high:.2f}) as fast as number {first['id']}; "
        + verdict,
        *(f"  it/s {each['id']:>5}: {Figure(**each['summary']['it_per_s'])}" for each in (first, second)),
        *(f"  picture {each['id']:>2}: {decibels(each.get('difference'))} dB" for each in (first, second)),
        *(f"  {name}: {before} → {after}" for name, (before, after) in found["differing"].items()),
        *(f"note: {caveat}" for caveat in found["caveats"]),
    ]
    return "\n".join(lines)


def _caveats(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[str]:
    if title_of(first["machine"]) != title_of(second["machine"]):
        yield f"other machines: {title_of(first['machine'])}; {title_of(second['machine'])}"
    if first["model"] != second["model"]:
        yield f"other models: {first['model']['name']}; {second['model']['name']}"
    if other := [key for key in _WORK if first["work"].get(key) != second["work"].get(key)]:
        yield f"other work: {', '.join(other)}"
    if first["at"][:10] != second["at"][:10]:
        yield "measured on other days; for a fair race measure both again, in turn"


def _differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, str]]]:
    """The plan's choices that differ."""
    names = [*first["choices"], *(name for name in second["choices"] if name not in first["choices"])]
    for name in names:
        before, after = (each["choices"].get(name, {}).get("value", "–") for each in (first, second))
        if before != after:
            yield name, (before, after)
