"""What the trainings share: a schedule over wall-clock time, averaged weights, and checkpoints to resume from."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn


class Budget:
    """A training of a fixed number of minutes, counted over all its runs."""

    def __init__(self, minutes: float, spent_s: float = 0.0) -> None:
        self.total_s = 60.0 * minutes
        self.start = time.monotonic() - spent_s

    @property
    def spent_s(self) -> float:
        """Seconds trained so far."""
        return time.monotonic() - self.start

    @property
    def share(self) -> float:
        """Part of the budget that is used, 0…1."""
        return min(self.spent_s / self.total_s, 1.0)

    def learning_rate(self, step: int, *, peak: float, floor: float, warm_up: int = 150) -> float:
        """Linear warm-up over steps, then a cosine over time."""
        cosine = floor + 0.5 * (peak - floor) * (1.0 + math.cos(math.pi * self.share))
        return cosine * min(1.0, (step + 1) / warm_up)


class Average:
    """Exponential moving average of the weights of some modules."""

    def __init__(self, modules: Iterable[nn.Module], decay: float) -> None:
        self.decay = decay
        self.weights = [weight for module in modules for weight in module.parameters()]
        self.shadow = [weight.detach().clone() for weight in self.weights]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the current weights, faster in the first steps."""
        rate = 1.0 - min(self.decay, (1.0 + step) / (10.0 + step))
        torch._foreach_lerp_(self.shadow, self.weights, rate)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the weights and their average; called twice it changes nothing."""
        for weight, shadow in zip(self.weights, self.shadow, strict=True):
            held = weight.detach().clone()
            weight.copy_(shadow)
            shadow.copy_(held)


def save_checkpoint(path: Path, state: dict[str, object]) -> None:
    """Write `state` in one step, so that a kill leaves the old checkpoint or the new one."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def resume(path: Path, net: nn.Module, optimizer: torch.optim.Optimizer, average: Average) -> tuple[int, float]:
    """Load a training's checkpoint, when there is one; its step and the seconds it took."""
    if not path.exists():
        return 0, 0.0
    saved = torch.load(path)
    net.load_state_dict(saved["net"])
    if saved["optimizer"]:  # a warm start brings none
        optimizer.load_state_dict(saved["optimizer"])
    average.shadow = saved["average"]
    return saved["step"], saved["spent_s"]


def state(
    net: nn.Module, optimizer: torch.optim.Optimizer, average: Average, step: int, spent_s: float
) -> dict[str, object]:
    """All that a resumed training needs."""
    return {
        "net": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": average.shadow,
        "step": step,
        "spent_s": spent_s,
    }


def append_row(path: Path, row: dict[str, float]) -> None:
    """Add a row to a CSV file, with a header when the file is new."""
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, row)
        if is_new:
            writer.writeheader()
        writer.writerow({name: f"{value:.6g}" for name, value in row.items()})


def pixels_to_signal(drawings: Tensor) -> Tensor:
    """Shapes: [B, H, W, 3] uint8 → [B, 3, H, W] in −1…1, channels last in memory."""
    return drawings.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of every picture, after rounding to 8 bits. Units: dB, inputs in −1…1."""
    levels = [((x.clamp(-1, 1) + 1) * 127.5).round() for x in (a, b)]
    error = (levels[0] - levels[1]).square().mean(dim=(1, 2, 3)).clamp_min(1e-9)
    return 10.0 * torch.log10(255.0**2 / error)
