"""What is found out by trying: whether a VAE overflows, and how much memory was needed."""

from __future__ import annotations

import sys
from collections.abc import Callable

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
    """Forgets the peak so far, where it can be forgotten: on CUDA devices."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_bytes(device: torch.device) -> int | None:
    """The most memory that was in use: of the CUDA device since the reset, else of this process since it began.

    None where the system does not say, as on Windows.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
