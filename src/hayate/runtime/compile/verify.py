"""Whether a compiled step is right, and whether it is faster here."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

TOLERANCES = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 4e-2}
"""The most that compiled and eager outputs may differ, relative to the norm: about five roundings of each half type."""
PEAK = 10
"""The most that one number may differ, in tolerances of the root mean square. Rounding noise reaches 5 in a million."""
ROUNDS = 3

Step = Callable[[Sequence[Tensor]], Sequence[Tensor]]


def disagreement(actual: Sequence[Tensor], expected: Sequence[Tensor], dtype: torch.dtype) -> str | None:
    """How a compiled step's outputs differ from the eager one's by more than rounding, or None."""
    if [each.shape for each in actual] != [each.shape for each in expected]:
        return "its outputs have other shapes than eager's"
    for ours, theirs in zip(actual, expected, strict=True):
        difference, reference = (ours.double() - theirs.double()).flatten(), theirs.double().flatten()
        size = float(reference.square().mean().sqrt())
        error, peak = float(difference.square().mean().sqrt()), float(difference.abs().max())
        tolerance = TOLERANCES[dtype] * size
        if not error <= tolerance or not peak <= PEAK * tolerance:  # so that NaN is a disagreement
            return f"its output differs from eager's by {error / (size or 1):.2g}, at most by {peak / (size or 1):.2g}"
    return None


def race(compiled: Step, eager: Step, inputs: Sequence[Tensor], device: torch.device) -> float:
    """How many times faster the compiled step is: medians of both, taken in turns, after both have run once."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for step, taken in zip((compiled, eager), times, strict=True):
            started = time.perf_counter()
            step(inputs)
            if device.type != "cpu":
                torch.accelerator.synchronize(device)
            taken.append(time.perf_counter() - started)
    return statistics.median(times[1]) / statistics.median(times[0])
