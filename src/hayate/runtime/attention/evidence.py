"""Proof of which attention served, by counts and, on request, by PyTorch's profiler."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend
from torch.profiler import ProfilerActivity, profile

from hayate.runtime.attention.base import Backend
from hayate.runtime.attention.choose import ChosenAttention
from hayate.runtime.attention.lent import LentBackend
from hayate.runtime.attention.sdp import serves_flash
from hayate.runtime.evidence import Evidence


def evidence(chosen: ChosenAttention) -> Evidence:
    """What was counted so far, and on a GPU which of PyTorch's kernels serve the network's head dimensions."""
    attention = chosen.attention
    counted = [_plural(attention.calls, "call")]
    counted += [f"{n} to {attention.fallback.name} for {kind}" for kind, n in sorted(attention.fallbacks.items())]
    failure = attention.backend.failure if isinstance(attention.backend, LentBackend) else ""
    kernels = [f"head dim {width}: {kernel}" for width, kernel in dispatched(chosen).items()]
    return Evidence(
        name="attention",
        requested=chosen.backend.name,
        active=attention.served > 0 and not failure,
        detail="; ".join([", ".join(counted), *kernels, *([failure] if failure else [])]),
    )


def dispatched(chosen: ChosenAttention) -> dict[int, str]:
    """The kernel that `sdp` or `sdp-no-mem` takes for each head dimension, as its dispatcher says; else nothing."""
    ask = {"sdp": _sdp_kernel, "sdp-no-mem": _no_mem_kernel}.get(chosen.backend.name)
    if ask is None or chosen.device.type != "cuda":
        return {}
    return {width: ask(_probe(chosen, width)) for width in chosen.head_dims}


def recorded_kernels(chosen: ChosenAttention, length: int = 64) -> dict[int, tuple[str, ...]]:
    """Runs one small call of each head dimension under the profiler: what PyTorch ran for it, and what ran on the GPU.

    Empty for a kernel that PyTorch does not know of, such as our own. These calls are not counted.
    Cost: the start of a profiler, up to a second; for a person who asks, not for every picture.
    """
    probes = {width: _probe(chosen, width, length) for width in chosen.head_dims}
    return {width: _record(chosen.attention.server(probe, probe, probe), probe) for width, probe in probes.items()}


def _record(backend: Backend, probe: Tensor) -> tuple[str, ...]:
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if probe.is_cuda else [])]
    with torch.inference_mode(), profile(activities=activities) as record:
        backend(probe, probe, probe)
    events = record.events() or ()
    names = (event.name for event in events if event.device_type.name != "CPU" or _is_telling(event.name))
    return tuple(dict.fromkeys(names))


def _probe(chosen: ChosenAttention, width: int, length: int = 64) -> Tensor:
    return torch.ones((1, 1, length, width), dtype=chosen.dtype, device=chosen.device)


def _sdp_kernel(probe: Tensor) -> str:
    return SDPBackend(torch.ops.aten._fused_sdp_choice(probe, probe, probe)).name.lower()


def _no_mem_kernel(probe: Tensor) -> str:
    return "flash_attention" if serves_flash(probe, probe, probe, False) else "split"


def _is_telling(name: str) -> bool:
    """Whether it is an operator that does the work, and not the one that only chooses it."""
    is_work = any(word in name for word in ("attention", "bmm", "softmax"))
    return is_work and name != "aten::scaled_dot_product_attention"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
