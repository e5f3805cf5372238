"""Measurements as the history keeps them, made up: what a page shows of them is what these tests ask."""

from __future__ import annotations

from typing import Any

NASTY = '<img src=x onerror="alert(1)"> & "quotes" \'single\' </svg><script>alert(2)</script>'

MACHINE: dict[str, Any] = {
    "system": {"name": "Linux 6.8", "wsl": False},
    "processor": {"model": "Ryzen 7 5800X", "cores": 8, "ram_bytes": 32 * 2**30},
    "gpus": [{"name": "GeForce RTX 3060", "memory_bytes": 12 * 2**30}],
    "versions": {"torch": "2.13.0", "cuda": "13.0"},
}


def record(number: int, speed: float = 20.0, psnr_db: float | None = 48.2, **changes: Any) -> dict[str, Any]:
    """A complete measurement at `speed` it/s; `changes` replace whole fields."""
    sample = 20 / speed
    phases = {"load": 0.02, "encode": 0.015 + sample * 0.02, "sample": sample, "decode": sample * 0.12, "save": 0.012}
    total = sum(phases.values())
    run = {**phases, "total": total, "it_per_s": speed}
    whole: dict[str, Any] = {
        "id": number,
        "at": "2026-11-25T10:00:00Z",
        "label": "",
        "preset": "quick",
        "model": {"name": "hayate-landscapes", "hash": "0123456789", "family": "sd1", "is_random": False},
        "work": {
            "width_px": 128,
            "height_px": 128,
            "batch_size": 1,
            "batch_count": 1,
            "steps": 20,
            "sampler": "DPM++ 2M",
            "schedule": "Karras",
            "cfg": 7,
            "infotext": "a lake\nSteps: 20",
        },
        "machine": MACHINE,
        "asked": {"attention": "math"},
        "choices": {"attention": {"value": "math", "reason": "asked for"}},
        "first": {**phases, "load": 0.31, "total": total + 0.29},
        "compile_s": None,
        "runs": [run] * 5,
        "summary": {
            "it_per_s": {"median": speed, "low": speed * 0.97, "high": speed * 1.02},
            "images_per_minute": {"median": 60 / total, "low": 58 / total, "high": 61 / total},
            "total_s": {"median": total, "low": total * 0.98, "high": total * 1.03},
            "phases": phases,
        },
        "memory": {"peak_bytes": 700 * 2**20, "allocated_bytes": 650 * 2**20, "reserved_bytes": None},
        "difference": {"psnr_db": psnr_db, "ssim": 0.9991, "max_levels": 3},
        "is_repeated": True,
        "evidence": [{"name": "attention", "requested": "math", "active": True, "detail": "640 calls"}],
        "notes": ["the machine was quiet"],
    }
    return {**whole, **changes}
