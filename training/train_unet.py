"""Trains the U-Net and the text encoder together on latents and captions; resumes from its own checkpoint."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
import torch
from budget import Average, Budget, append_row, resume, save_checkpoint, state
from encode import LATENTS, TOKENS
from parallel import agreed, average_gradients, run_parallel
from render import WORK, load
from torch import Tensor, nn
from world import CLASSES

from hayate.models.clip import CLIPText
from hayate.models.config import TextConfig, TextLayout, UNetConfig
from hayate.models.unet import ResBlock, SpatialTransformer, UNet
from hayate.prompt import load_tokenizer

UNET = UNetConfig(
    channels=56,
    multipliers=(1, 2, 2),
    res_blocks=1,
    transformer_depths=(0, 1, 1),
    middle_depth=1,
    context_width=48,
    heads=4,
    norm_groups=8,
)
TEXT = TextConfig(
    layout=TextLayout.CLIP,
    prefix="cond_stage_model.transformer.text_model.",
    width=48,
    depth=4,
    heads=4,
    mlp_width=192,
    is_quick_gelu=True,
)
CHECKPOINT = WORK / "unet.pt"
CURVE = WORK / "unet.csv"
SEED = 17
BATCH = 20
"""Latents in a step of one process."""
PEAK, FLOOR = 1.2e-3, 1e-5
UNCONDITIONAL = 0.1
SNR_CAP = 5.0
FAVOUR = 3.0
EVERY = 200
"""Steps between two checkpoints."""


class TextToLatent(nn.Module):
    """The two networks that learn together."""

    def __init__(self) -> None:
        super().__init__()
        self.unet = UNet(UNET, explicit_attention)
        self.text = CLIPText(TEXT, explicit_attention)
        initialize(self)

    def forward(self, noisy: Tensor, timesteps: Tensor, ids: Tensor) -> Tensor:
        """The noise predicted in `noisy`. Shapes: noisy [B, 4, 16, 16], timesteps [B], ids [B, 77]."""
        return self.unet(noisy, timesteps, self.text(ids).context)


def explicit_attention(q: Tensor, k: Tensor, v: Tensor, is_causal: bool = False) -> Tensor:
    """Attention by two matrix products: for heads this narrow a fifth faster in training than the fused kernel."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if is_causal:
        scores = scores + torch.full(scores.shape[-2:], float("-inf")).triu(1)
    return scores.softmax(dim=-1) @ v


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """Latents, the wordings of their captions, and the tokens of the empty caption."""

    latents: np.ndarray
    tokens: np.ndarray
    empty: np.ndarray
    chances: np.ndarray
    """How probable each drawing is."""

    def draw(self, seed: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """One process's latents and ids for one step. Shapes: [B, 4, 16, 16], [B, 77]."""
        rng = np.random.default_rng(seed)
        chosen = rng.choice(len(self.latents), size=BATCH, p=self.chances)
        ids = self.tokens[chosen, rng.integers(self.tokens.shape[1], size=BATCH)]
        ids = np.where(rng.random((BATCH, 1)) < UNCONDITIONAL, self.empty, ids)
        return torch.from_numpy(self.latents[chosen]), torch.from_numpy(ids.astype(np.int64))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=58.0)
    parser.add_argument("--peak", type=float, default=PEAK, help="highest learning rate; lower after a warm start")
    parser.add_argument("--favour", nargs="*", default=[], help="classes to draw three times as often: snow …")
    options = parser.parse_args()
    run_parallel(train, options.minutes, options.peak, options.favour)


def train(rank: int, minutes: float, peak: float, favoured: list[str]) -> None:
    torch.manual_seed(SEED)
    net, alphas = TextToLatent(), alphas_cumprod()
    optimizer = torch.optim.AdamW(net.parameters(), betas=(0.9, 0.99), weight_decay=1e-3)
    average = Average([net], 0.998)
    step, spent_s = resume(CHECKPOINT, net, optimizer, average)
    torch.manual_seed(SEED + 1000 * rank + step)
    budget, examples = Budget(minutes, spent_s), load_examples(favoured)
    losses, share = [], agreed(budget.share)
    while share < 1.0:
        rate = agreed(budget.learning_rate(step, peak=peak, floor=FLOOR))
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = denoising_loss(net, alphas, *examples.draw((SEED, rank, step)))
        optimizer.zero_grad()
        loss.backward()
        average_gradients(net.parameters())
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        average.update(step)
        losses.append(loss.item())
        step, share = step + 1, agreed(budget.share)
        if rank == 0 and (step % EVERY == 0 or share >= 1.0):
            row = {"step": step, "minutes": budget.spent_s / 60, "loss": float(np.mean(losses))}
            print(row, flush=True)
            append_row(CURVE, row)
            losses.clear()
            save_checkpoint(CHECKPOINT, state(net, optimizer, average, step, budget.spent_s))


def denoising_loss(net: TextToLatent, alphas: Tensor, latents: Tensor, ids: Tensor) -> Tensor:
    """Squared error of the predicted noise, weighted by min(SNR, 5) / SNR.

    Source: Ho et al. 2020; Hang et al. 2023 for the weight.
    """
    timesteps = torch.randint(len(alphas), (len(latents),))
    noise, alpha = torch.randn_like(latents), alphas[timesteps, None, None, None]
    noisy = alpha.sqrt() * latents + (1.0 - alpha).sqrt() * noise
    with torch.autocast("cpu", torch.bfloat16):
        predicted = net(noisy, timesteps, ids).float()
    snr = alphas[timesteps] / (1.0 - alphas[timesteps])
    return (snr.clamp(max=SNR_CAP) / snr * (predicted - noise).square().mean(dim=(1, 2, 3))).mean()


def alphas_cumprod() -> Tensor:
    """Signal share at SD1's 1000 steps: variances whose roots are spaced evenly from 0.00085 to 0.012."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64).square()
    return (1.0 - betas).cumprod(dim=0).float()


@torch.no_grad()
def initialize(net: TextToLatent) -> None:
    """Make every residual branch of the U-Net start at zero, and the embeddings small."""
    for module in net.unet.modules():
        if isinstance(module, ResBlock):
            nn.init.zeros_(module.out_layers[3].weight)
        elif isinstance(module, SpatialTransformer):
            nn.init.zeros_(module.proj_out.weight)
    nn.init.zeros_(net.unet.out[2].weight)
    nn.init.normal_(net.text.embeddings.token_embedding.weight, std=0.1)
    nn.init.normal_(net.text.embeddings.position_embedding.weight, std=0.03)


def load_examples(favoured: list[str]) -> Examples:
    """What `encode.py` wrote; `favoured` classes, which lag behind, are drawn more often."""
    latents = np.load(LATENTS)
    tokenizer = load_tokenizer()
    empty = np.array([tokenizer.bos_id] + [tokenizer.eos_id] * (TEXT.positions - 1), dtype=np.uint16)
    weights = np.ones(len(latents))
    for numbers, values in zip(load("train")[1][: len(latents)].T, CLASSES.values(), strict=True):
        weights[np.isin(np.take(values, numbers), favoured)] = FAVOUR
    return Examples(latents=latents, tokens=np.load(TOKENS), empty=empty, chances=weights / weights.sum())


def averaged_networks() -> TextToLatent:
    """The networks with the averaged weights of the newest checkpoint."""
    net, saved = TextToLatent(), torch.load(CHECKPOINT)
    net.load_state_dict(saved["net"])
    with torch.no_grad():
        for weight, shadow in zip(net.parameters(), saved["average"], strict=True):
            weight.copy_(shadow)
    return net.eval()


if __name__ == "__main__":
    main()
