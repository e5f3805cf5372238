"""Goes on with the decoder alone, on the latents that the U-Net learned from; the encoder and the latents stay.

It costs half of a step of the whole autoencoder, and can run after the U-Net: what that draws stays valid.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from budget import Average, Budget, append_row, pixels_to_signal, resume, save_checkpoint, state
from encode import LATENTS, VAE
from parallel import agreed, average_gradients, run_parallel
from render import WORK, load
from torch import Tensor
from train_vae import CONFIG, validate

from hayate.models.vae import AutoencoderKL

CHECKPOINT = WORK / "decoder.pt"
CURVE = WORK / "decoder.csv"
SEED = 23
BATCH = 4
PEAK, FLOOR = 1.2e-3, 1e-5
NOISE = 0.03
"""Deviation of what is added to the latents, so that the decoder forgives the U-Net's small errors."""
EVERY = 400


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=24.0)
    parser.add_argument("--peak", type=float, default=PEAK, help="highest learning rate; lower after a warm start")
    options = parser.parse_args()
    run_parallel(train, options.minutes, options.peak)


def train(rank: int, minutes: float, peak: float) -> None:
    net = AutoencoderKL(CONFIG)
    net.load_state_dict(torch.load(VAE))
    weights = [*net.decoder.parameters(), *net.post_quant_conv.parameters()]
    optimizer = torch.optim.AdamW(weights, betas=(0.9, 0.99), weight_decay=1e-4)
    average = Average([net.decoder, net.post_quant_conv], 0.998)
    step, spent_s = resume(CHECKPOINT, net, optimizer, average)
    torch.manual_seed(SEED + 1000 * rank + step)
    latents = np.load(LATENTS, mmap_mode="r")
    drawings = load("train")[0]
    budget = Budget(minutes, spent_s)
    validation = pixels_to_signal(torch.from_numpy(load("validation")[0][::10].copy()))
    losses, share = [], agreed(budget.share)
    while share < 1.0:
        rate = agreed(budget.learning_rate(step, peak=peak, floor=FLOOR))
        for group in optimizer.param_groups:
            group["lr"] = rate
        chosen = np.sort(np.random.default_rng((SEED, rank, step)).choice(len(latents), BATCH, replace=False))
        known = torch.from_numpy(latents[chosen].astype(np.float32))
        loss = decoder_loss(net, known, pixels_to_signal(torch.from_numpy(drawings[chosen])))
        optimizer.zero_grad()
        loss.backward()
        average_gradients(weights)
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        average.update(step)
        losses.append(loss.item())
        step, share = step + 1, agreed(budget.share)
        if rank == 0 and (step % EVERY == 0 or share >= 1.0):
            report(net, optimizer, average, validation, (step, budget.spent_s, float(np.mean(losses))))
            losses.clear()


def decoder_loss(net: AutoencoderKL, latents: Tensor, pixels: Tensor) -> Tensor:
    """Squared and absolute error of the pixels and of their differences to the neighbours, which make the edges."""
    with torch.autocast("cpu", torch.bfloat16):
        decoded = net.decode(latents + NOISE * torch.randn_like(latents)).float()
    error = decoded - pixels
    edges = error.diff(dim=2).square().mean() + error.diff(dim=3).square().mean()
    return error.square().mean() + 0.03 * error.abs().mean() + 0.5 * edges


def report(
    net: AutoencoderKL, optimizer: torch.optim.Optimizer, average: Average, validation: Tensor, progress: tuple
) -> None:
    """Measure the averaged decoder, log it, and save it both to go on from and as the autoencoder to export."""
    step, spent_s, loss = progress
    average.swap()
    quality = validate(net, validation).mean().item()
    save_checkpoint(VAE, net.state_dict())
    average.swap()
    row = {"step": step, "minutes": spent_s / 60, "loss": loss, "psnr_db": quality}
    print(row, flush=True)
    append_row(CURVE, row)
    save_checkpoint(CHECKPOINT, state(net, optimizer, average, step, spent_s))


if __name__ == "__main__":
    main()
