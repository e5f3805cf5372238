"""What is found out by trying: whether a VAE overflows, and how much memory was needed."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

PROBE_SIZE_LAT = 8
PROBE_SCALES = (1.0, 3.0, 6.0)
"""Units: standard deviations of the probe's latents. A sampler ends at about 1, strong guidance at 2; 6 is extreme."""


def overflows(decode: Callable[[Tensor], Tensor], channels: int, device: torch.device) -> bool:
    """Whether a VAE makes infinities or NaN of fixed extreme latents.

    An infinity anywhere reaches the pixels, since the group norm behind it turns its whole group into NaN.
    Cost: three decodes of 64×64 pixels, 3/64 of one of 512×512, and one synchronisation.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((1, channels, PROBE_SIZE_LAT, PROBE_SIZE_LAT), generator=generator).to(device)
    return any(not bool(torch.isfinite(decode(noise * scale)).all()) for scale in PROBE_SCALES)


def reset_peak_memory(device: torch.device) -> None:
    """Forgets the peak so far, where it can be forgotten: on CUDA devices, and of a process on Linux."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        with contextlib.suppress(OSError):  # forbidden in some containers: then the peak is that since the start
            Path("/proc/self/clear_refs").write_text("5")


def peak_memory_bytes(device: torch.device) -> int | None:
    """The most memory that was in use since the reset: of the CUDA device, else of this process.

    None where the system does not say, as on Windows.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "linux":
        return _status_bytes("VmHWM")
    if sys.platform == "win32":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def memory_use(device: torch.device) -> dict[str, int | None]:
    """The peak since the reset, what the allocator of a CUDA device holds at most, and this process's memory now."""
    is_cuda = device.type == "cuda"
    return {
        "peak_bytes": peak_memory_bytes(device),
        "allocated_bytes": torch.cuda.max_memory_allocated(device) if is_cuda else None,
        "reserved_bytes": torch.cuda.max_memory_reserved(device) if is_cuda else None,
        "rss_bytes": _status_bytes("VmRSS") if sys.platform == "linux" else None,
    }


def _status_bytes(key: str) -> int | None:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:")), None)
