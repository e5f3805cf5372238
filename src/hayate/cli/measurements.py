"""A measurement in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def line_of(measurement: Mapping[str, Any]) -> str:
    """A measurement in one line."""
    from hayate.bench.history import decibels
    from hayate.bench.protocol import Figure

    work, speed = measurement["work"], Figure(**measurement["summary"]["it_per_s"])
    size = f"{work['width_px']}×{work['height_px']} × {work['batch_size']}"
    name = measurement["label"] or measurement["preset"]
    asked = " ".join(f"{key}={value}" for key, value in measurement["asked"].items()) or "as planned"
    asked = "as tuned" if measurement["choices"].get("profile", {}).get("value") == "used" else asked
    return (
        f"{measurement['id']:>4}  {measurement['at'][:16]}  {name:<10} {measurement['model']['name'][:28]:<28} "
        f"{size:<14} {speed!s:<24} it/s  {decibels(measurement['difference']):>9} dB  {asked}"
    )


def described(measurement: Mapping[str, Any]) -> str:
    """A measurement as `hayate bench` prints it."""
    from hayate.bench.machine import title_of
    from hayate.bench.measure import difference_of
    from hayate.bench.protocol import Figure

    summary, work = measurement["summary"], measurement["work"]
    first, phases = measurement["first"], summary["phases"]
    difference = difference_of(measurement)
    peak = measurement["memory"]["peak_bytes"]
    rows = {
        "speed": f"{Figure(**summary['it_per_s'])} it/s, {len(measurement['runs'])} runs",
        "pictures": f"{Figure(**summary['images_per_minute'])} a minute",
        "a run": ", ".join(f"{phase} {seconds:.3g} s" for phase, seconds in phases.items() if seconds),
        "first picture": f"{first['total']:.3g} s, of which loading {first['load']:.3g} s",
        "compiling": None if measurement["compile_s"] is None else f"ready after {measurement['compile_s']:.3g} s",
        "peak memory": None if peak is None else f"{peak / 2**30:.2f} GiB",
        "picture": None if difference is None else f"{difference} against fp32 eager",
        "repeated": "every run gave the same bits" if measurement["is_repeated"] else "runs differ in bits",
        "work": f"{measurement['model']['name']}, {work['width_px']}×{work['height_px']}, {work['steps']} steps of "
        f"{work['sampler']}, batch {work['batch_size']} × {work['batch_count']}",
        "machine": title_of(measurement["machine"]),
        "number": f"{measurement['id']}; hayate bench report writes a page of all",
    }
    return "\n".join(f"{name:<14} {value}" for name, value in rows.items() if value is not None)
