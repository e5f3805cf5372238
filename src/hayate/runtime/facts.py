"""What a plan needs to know of the machine, so that plans for other machines can be tested here."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

from hayate.runtime.compile.toolchain import toolchain_refusal
from hayate.runtime.device import Device
from hayate.runtime.graphs import refusal
from hayate.runtime.memory import free_bytes
from hayate.runtime.native.build import cpu_features

_FAULTY_CARDS = re.compile(r"\bGTX 16\d\d\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The machine, as far as it decides."""

    device: Device
    has_bf16: bool
    """Whether the device multiplies bf16 by instructions of its own."""
    has_onednn: bool
    compile_refusal: str | None
    """Why nothing can be compiled here, or None."""
    graphs_refusal: str | None
    """Why there are no CUDA graphs here, or None."""
    free_bytes: int | None
    """Memory of the device that can still be had, or None where nobody tells."""

    @property
    def fp16_fault(self) -> str | None:
        """Why fp16 can't be trusted on this device, or None. Source: A1111's users, who give these cards --no-half."""
        found = _FAULTY_CARDS.search(self.device.title) if self.device.torch.type == "cuda" else None
        return f"{found[0]} cards make NaN in fp16" if found else None


def gather_facts(device: Device) -> Facts:
    """The facts of this machine."""
    return Facts(
        device=device,
        has_bf16=_has_bf16(device.torch),
        has_onednn=torch.backends.mkldnn.is_available(),
        compile_refusal=toolchain_refusal(device.torch),
        graphs_refusal=refusal(device.torch),
        free_bytes=free_bytes(device.torch),
    )


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(cpu_features() & {"avx512_bf16", "amx_bf16"})
