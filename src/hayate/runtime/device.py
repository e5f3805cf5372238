"""Which device computes, and why."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from hayate.errors import UsageError
from hayate.runtime.device_names import AUTO, split_device_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A resolved device."""

    torch: torch.device
    title: str
    """What a person calls it, such as "NVIDIA GeForce RTX 3060" or "CPU, 8 threads"."""
    reason: str
    capability: tuple[int, int] | None = None
    """NVIDIA's compute capability; None for every other make."""


def resolve_device(asked: str | None = None) -> Device:
    """The device that was asked for, or the best of this machine: CUDA, then MPS, then the CPU.

    Raises: UnknownName for a device type that does not exist, UsageError for one that this machine lacks.
    """
    if asked in (None, "", AUTO):
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        device = torch.device(kind)
        return _device(device, "the best that this machine has")
    kind, index = split_device_name(asked)
    _check_present(kind, index or 0, asked)
    device = torch.device(kind, index) if index is not None and kind == "cuda" else torch.device(kind)
    return _device(device, "asked for")


def _device(device: torch.device, reason: str) -> Device:
    is_nvidia = device.type == "cuda" and torch.version.cuda is not None
    capability = torch.cuda.get_device_capability(device) if is_nvidia else None
    return Device(torch=device, title=_title(device), reason=reason, capability=capability)


def _check_present(kind: str, index: int, asked: str) -> None:
    if kind == "cuda" and index >= torch.cuda.device_count():
        built = torch.version.cuda or torch.version.hip
        found = f"{torch.cuda.device_count()} CUDA devices are here" if built else "this torch is built without CUDA"
        raise UsageError(f"device {asked!r} is not available: {found}", hint="use --device cpu or --device auto")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UsageError(f"device {asked!r} is not available on this machine", hint="use --device auto")


def _title(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "mps":
        return "Apple GPU"
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' if threads != 1 else ''}"
