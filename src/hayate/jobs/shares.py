"""What each of several workers gets: a device, and its part of what they have in common."""

from __future__ import annotations

import os
from dataclasses import replace

from hayate.errors import UsageError
from hayate.runtime.device_names import AUTO, split_device_name
from hayate.settings import Settings

MOST_WORKERS = 64


def settings_of_workers(settings: Settings) -> tuple[Settings, ...]:
    """The settings of each worker: one for each of `devices`, or one on `device`.

    Several share the caches in RAM, and those on the CPU its threads, so that the whole server keeps to what the user
    allowed one.
    Raises: UnknownName, UsageError for devices that can't be; whether they are there the workers find out.
    """
    names = [name.strip() for name in (settings.devices or "").split(",") if name.strip()]
    if not names:
        _kind(settings.device)
        return (settings,)
    if len(names) > MOST_WORKERS:
        raise UsageError(f"{len(names)} devices are too many", hint=f"name at most {MOST_WORKERS}")
    kinds = [_kind(name) for name in names]
    return tuple(
        replace(
            settings,
            device=name,
            threads=_threads(settings, kinds.count("cpu")) if kind == "cpu" else settings.threads,
            checkpoints_cache_bytes=settings.checkpoints_cache_bytes // len(names),
            vae_cache_bytes=settings.vae_cache_bytes // len(names),
        )
        for name, kind in zip(names, kinds, strict=True)
    )


def _kind(device: str) -> str:
    return device if device == AUTO else split_device_name(device)[0]


def _threads(settings: Settings, workers: int) -> int:
    """Of each of the CPU's workers; 0 leaves a single one's to PyTorch."""
    if workers == 1:
        return settings.threads
    return max(1, (settings.threads or _cores()) // workers)


def _cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
