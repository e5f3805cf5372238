"""Trains the decoder further on the latents that the U-Net learned; the encoder and its latents stay as they are."""

from __future__ import annotations

import argparse

import numpy as np
import torch
from budget import Average, Budget, append_row, pixels_to_signal, save_checkpoint
from encode import COUNT, LATENTS, VAE
from parallel import agreed, average_gradients, run_parallel
from render import WORK, load
from torch import Tensor, nn
from train_vae import CONFIG, validate

from hayate.models.vae import AutoencoderKL

CHECKPOINT = WORK / "decoder.pt"
RESULT = WORK / "vae_decoder.pt"
CURVE = WORK / "decoder.csv"
SEED = 31
BATCH = 3
PEAK, FLOOR = 7e-4, 1e-5
NOISE = 0.03
"""Deviation of the noise on the latents, which are of deviation 1: generated latents are not exact either."""
EVERY = 150


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=15.0)
    run_parallel(train, parser.parse_args().minutes)


def train(rank: int, minutes: float) -> None:
    vae, drawings, latents = AutoencoderKL(CONFIG), load("train")[0][:COUNT], np.load(LATENTS)
    vae.load_state_dict(torch.load(VAE))
    trained = nn.ModuleList([vae.decoder, vae.post_quant_conv])
    optimizer = torch.optim.AdamW(trained.parameters(), betas=(0.9, 0.99), weight_decay=1e-4)
    average = Average([trained], 0.998)
    step, spent_s = resume(trained, optimizer, average)
    torch.manual_seed(SEED + 1000 * rank + step)
    budget = Budget(minutes, spent_s)
    validation = pixels_to_signal(torch.from_numpy(load("validation")[0][::10].copy())).contiguous()
    losses, share = [], agreed(budget.share)
    while share < 1.0:
        chosen = np.sort(np.random.default_rng((SEED, rank, step)).choice(COUNT, BATCH, replace=False))
        pixels = pixels_to_signal(torch.from_numpy(drawings[chosen])).contiguous()
        rate = agreed(budget.learning_rate(step, peak=PEAK, floor=FLOOR))
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = decoding_loss(vae, torch.from_numpy(latents[chosen]), pixels)
        optimizer.zero_grad()
        loss.backward()
        average_gradients(trained.parameters())
        torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        optimizer.step()
        average.update(step + 1000)
        losses.append(loss.item())
        step, share = step + 1, agreed(budget.share)
        if rank == 0 and (step % EVERY == 0 or share >= 1.0):
            average.swap()
            quality = validate(vae, validation).mean().item()
            save_checkpoint(RESULT, vae.state_dict())
            average.swap()
            row = {"step": step, "minutes": budget.spent_s / 60, "loss": float(np.mean(losses)), "psnr_db": quality}
            print(row, flush=True)
            append_row(CURVE, row)
            losses.clear()
            save_checkpoint(CHECKPOINT, state(trained, optimizer, average, step, budget.spent_s))


def decoding_loss(vae: AutoencoderKL, latents: Tensor, pixels: Tensor) -> Tensor:
    """Squared error of the pictures and of their gradients."""
    with torch.autocast("cpu", torch.bfloat16):
        decoded = vae.decode(latents + NOISE * torch.randn_like(latents)).float()
    error = decoded - pixels
    return error.square().mean() + 0.25 * (error.diff(dim=2).square().mean() + error.diff(dim=3).square().mean())


def resume(trained: nn.Module, optimizer: torch.optim.Optimizer, average: Average) -> tuple[int, float]:
    """Load the checkpoint, when there is one; its step and the seconds it took."""
    if not CHECKPOINT.exists():
        return 0, 0.0
    saved = torch.load(CHECKPOINT)
    trained.load_state_dict(saved["trained"])
    optimizer.load_state_dict(saved["optimizer"])
    average.shadow = saved["average"]
    return saved["step"], saved["spent_s"]


def state(
    trained: nn.Module, optimizer: torch.optim.Optimizer, average: Average, step: int, spent_s: float
) -> dict[str, object]:
    """All that a resumed training needs."""
    return {
        "trained": trained.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": average.shadow,
        "step": step,
        "spent_s": spent_s,
    }


if __name__ == "__main__":
    main()
