"""How fast this machine multiplies matrices: the peak that a prediction from a processor starts from."""

from __future__ import annotations

import time

import torch

SIDE = 1024
RUNS = 7


def product_flops(dtype: torch.dtype, device: torch.device | None = None) -> float:
    """FLOPs per second of the fastest of several products of two square matrices.

    Cost: 0.1 s where bf16 is multiplied at 400 GFLOP/s.
    """
    a, b = (torch.randn(SIDE, SIDE).to(device=device, dtype=dtype) for _ in range(2))
    return 2 * SIDE**3 / min(_seconds(a, b) for _ in range(RUNS))


def _seconds(a: torch.Tensor, b: torch.Tensor) -> float:
    _finish(a.device)
    started = time.perf_counter()
    torch.mm(a, b)
    _finish(a.device)
    return time.perf_counter() - started


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
