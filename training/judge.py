"""A small classifier, trained on drawings alone, that names the attributes of a picture."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from budget import pixels_to_signal
from render import load
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from world import CLASSES

WEIGHTS = Path(__file__).parent / "judge.safetensors"
SEED = 11
BATCH = 64
EPOCHS = 4
PEAK = 3e-3


class Judge(nn.Module):
    """Convolutions over the picture at half size, pooled by mean and maximum, one linear head per attribute."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 24, 48, 96, 96)
        self.stages = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2, padding=1) for before, after in itertools.pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(4, width) for width in widths[1:])
        self.heads = nn.ModuleDict({name: nn.Linear(2 * widths[-1], len(values)) for name, values in CLASSES.items()})

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Scores of every attribute's values.

        Shapes: [B, 3, 128, 128] in −1…1 → per attribute [B, values].
        """
        x = F.avg_pool2d(pixels, 2)
        for stage, norm in zip(self.stages, self.norms, strict=True):
            x = F.relu(norm(stage(x)))
        pooled = torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)
        return {name: head(pooled) for name, head in self.heads.items()}


def load_judge() -> Judge:
    """The judge with its committed weights."""
    judge = Judge()
    judge.load_state_dict(load_file(WEIGHTS))
    return judge.eval()


@torch.no_grad()
def verdicts(judge: Judge, pixels: Tensor) -> Tensor:
    """Index of the likeliest value of every attribute. Shapes: [B, 3, 128, 128] → [B, 5]."""
    parts = [judge(part) for part in pixels.split(50)]
    return torch.cat([torch.stack([part[name].argmax(dim=1) for name in CLASSES], dim=1) for part in parts])


def accuracy(judge: Judge, drawings: np.ndarray, numbers: np.ndarray) -> dict[str, float]:
    """Share of drawings whose attribute is named right, per attribute."""
    pixels = pixels_to_signal(torch.from_numpy(np.ascontiguousarray(drawings)))
    right = (verdicts(judge, pixels).numpy() == numbers).mean(axis=0)
    return dict(zip(CLASSES, right.round(4).tolist(), strict=True))


def disturbed(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures with the flaws of generated ones: other brightness and tint, noise, blur."""
    count = len(pixels)
    gain = 1.0 + 0.06 * torch.randn(count, 3, 1, 1, generator=generator)
    shift = 0.04 * torch.randn(count, 3, 1, 1, generator=generator)
    noise = 0.06 * torch.rand(count, 1, 1, 1, generator=generator) * torch.randn(pixels.shape, generator=generator)
    blurred = F.avg_pool2d(pixels, 5, stride=1, padding=2, count_include_pad=False)
    share = torch.rand(count, 1, 1, 1, generator=generator)
    return torch.lerp(pixels, blurred, share) * gain + shift + noise


def train() -> Judge:
    """Train on the rendered drawings. Cost: about two minutes on one core."""
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    drawings, numbers = load("train")
    judge, total = Judge(), EPOCHS * (len(drawings) // BATCH)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=PEAK, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK, total_steps=total, pct_start=0.1)
    for epoch in range(EPOCHS):
        order = np.random.default_rng((SEED, epoch)).permutation(len(drawings))
        for step in range(len(drawings) // BATCH):
            chosen = np.sort(order[step * BATCH : (step + 1) * BATCH])
            pixels = pixels_to_signal(torch.from_numpy(drawings[chosen])).contiguous()
            scores = judge(disturbed(pixels, generator))
            truth = torch.from_numpy(numbers[chosen])
            loss = sum(
                (F.cross_entropy(scores[name], truth[:, i], label_smoothing=0.02) for i, name in enumerate(CLASSES)),
                start=torch.zeros(()),
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(epoch, f"{loss.item():.4f}", accuracy(judge, *load("validation")), flush=True)
    return judge


def main() -> None:
    start = time.monotonic()
    judge = train()
    save_file(judge.state_dict(), WEIGHTS)
    WEIGHTS.chmod(0o644)
    print(f"{time.monotonic() - start:.0f} s; unseen combinations:", accuracy(judge, *load("held_out")))


if __name__ == "__main__":
    main()
