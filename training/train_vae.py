"""Trains the autoencoder on the drawings in two processes; resumes from its own checkpoint."""

from __future__ import annotations

import argparse

import numpy as np
import torch
from budget import Average, Budget, append_row, pixels_to_signal, psnr, resume, save_checkpoint, state
from parallel import agreed, average_gradients, run_parallel
from render import WORK, load
from torch import Tensor

from hayate.models.config import VAEConfig
from hayate.models.vae import AutoencoderKL

CONFIG = VAEConfig(channels=16, multipliers=(1, 2, 4, 7), res_blocks=1, norm_groups=4)
CHECKPOINT = WORK / "vae.pt"
CURVE = WORK / "vae.csv"
SEED = 7
BATCH, CROPS = 4, 6
"""Pictures in a step; quarter-size crops in a step of the first part, where many short steps learn faster."""
CROP_PX = 64
CROP_SHARE = 0.75
PEAK, FLOOR = 1.5e-3, 1e-5
KL_WEIGHT = 1e-5
EVERY = 500
"""Steps between two validations."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=38.0)
    run_parallel(train, parser.parse_args().minutes)


def train(rank: int, minutes: float) -> None:
    torch.manual_seed(SEED)
    net = AutoencoderKL(CONFIG)
    optimizer = torch.optim.AdamW(net.parameters(), betas=(0.9, 0.99), weight_decay=1e-4)
    average = Average([net], 0.998)
    step, spent_s = resume(CHECKPOINT, net, optimizer, average)
    torch.manual_seed(SEED + 1000 * rank + step)
    budget, drawings = Budget(minutes, spent_s), load("train")[0]
    validation = pixels_to_signal(torch.from_numpy(load("validation")[0][::10].copy()))
    losses, share = [], agreed(budget.share)
    while share < 1.0:
        pixels = batch(drawings, (SEED, rank, step), is_cropped=share < CROP_SHARE)
        rate = agreed(budget.learning_rate(step, peak=PEAK, floor=FLOOR))
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = reconstruction_loss(net, pixels, share)
        optimizer.zero_grad()
        loss.backward()
        average_gradients(net.parameters())
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        average.update(step)
        losses.append(loss.item())
        step, share = step + 1, agreed(budget.share)
        if rank == 0 and (step % EVERY == 0 or share >= 1.0):
            average.swap()
            quality = validate(net, validation).mean().item()
            average.swap()
            row = {"step": step, "minutes": budget.spent_s / 60, "loss": float(np.mean(losses)), "psnr_db": quality}
            print(row, flush=True)
            append_row(CURVE, row)
            losses.clear()
            save_checkpoint(CHECKPOINT, state(net, optimizer, average, step, budget.spent_s))


def batch(drawings: np.ndarray, seed: tuple[int, ...], *, is_cropped: bool) -> Tensor:
    """One process's pictures, or crops of them, for one step.

    Shapes: [BATCH, 3, 128, 128] or [CROPS, 3, CROP_PX, CROP_PX].
    """
    rng = np.random.default_rng(seed)
    count = CROPS if is_cropped else BATCH
    chosen = drawings[np.sort(rng.choice(len(drawings), count, replace=False))]
    if is_cropped:
        corners = rng.integers(0, drawings.shape[1] - CROP_PX + 1, (count, 2))
        windows = [picture[y : y + CROP_PX, x : x + CROP_PX] for picture, (y, x) in zip(chosen, corners, strict=True)]
        chosen = np.stack(windows)
    return pixels_to_signal(torch.from_numpy(chosen))


def reconstruction_loss(net: AutoencoderKL, pixels: Tensor, share: float) -> Tensor:
    """Squared and absolute error, later also of the gradients, and a small KL term."""
    with torch.autocast("cpu", torch.bfloat16):
        mean, log_variance = net.encode_moments(pixels)
        mean, log_variance = mean.float(), log_variance.float()
        decoded = net.decode(mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)).float()
    error = decoded - pixels
    loss = error.square().mean() + 0.1 * (1.0 - share) * error.abs().mean()
    if share > 0.3:
        loss = loss + 0.25 * (error.diff(dim=2).square().mean() + error.diff(dim=3).square().mean())
    kl = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).mean()
    return loss + KL_WEIGHT * kl


@torch.no_grad()
def validate(net: AutoencoderKL, pixels: Tensor) -> Tensor:
    """PSNR of every picture through encoder mean and decoder, in fp32. Units: dB."""
    return torch.cat([psnr(net.decode(net.encode_moments(part)[0]), part) for part in pixels.split(10)])


if __name__ == "__main__":
    main()
