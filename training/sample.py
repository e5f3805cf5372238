"""Pictures from the newest checkpoint by a plain DDIM loop, to watch a training; `evaluate.py` uses the pipeline."""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
import torch
from captions import caption
from encode import VAE, tokenize
from judge import load_judge, verdicts
from PIL import Image
from render import WORK
from torch import Tensor
from train_unet import TextToLatent, alphas_cumprod, averaged_networks
from train_vae import CONFIG
from world import CLASSES, Landscape, held_out, labels

from hayate.models.vae import AutoencoderKL
from hayate.prompt import load_tokenizer

SEED = 23


@torch.no_grad()
def ddim(net: TextToLatent, prompts: list[str], *, cfg: float, steps: int = 20, seed: int = SEED) -> Tensor:
    """Latents of `prompts` with classifier-free guidance. Shapes: → [B, 4, 16, 16]."""
    tokenizer, alphas = load_tokenizer(), alphas_cumprod()
    ids = torch.tensor([tokenize(tokenizer, text) for text in prompts + [""] * len(prompts)])
    context = net.text(ids).context
    x = torch.randn(len(prompts), 4, 16, 16, generator=torch.Generator().manual_seed(seed))
    times = torch.linspace(999, 0, steps + 1).round().long()
    for now, following in itertools.pairwise(times):
        both = net.unet(torch.cat([x, x]), now.expand(2 * len(x)).float(), context)
        positive, negative = both.chunk(2)
        noise = negative + cfg * (positive - negative)
        clean = (x - (1 - alphas[now]).sqrt() * noise) / alphas[now].sqrt()
        x = alphas[following].sqrt() * clean + (1 - alphas[following]).sqrt() * noise
    return x


@torch.no_grad()
def decode(latents: Tensor) -> Tensor:
    """Shapes: [B, 4, 16, 16] → [B, 3, 128, 128] in −1…1."""
    vae = AutoencoderKL(CONFIG)
    vae.load_state_dict(torch.load(VAE))
    return torch.cat([vae.decode(part) for part in latents.split(8)]).clamp(-1, 1)


def sheet(pixels: Tensor, columns: int) -> Image.Image:
    """The pictures side by side."""
    levels = ((pixels + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    rows = [np.concatenate(list(levels[start : start + columns]), axis=1) for start in range(0, len(levels), columns)]
    return Image.fromarray(np.concatenate(rows, axis=0))


def held_out_prompts(count: int, seed: int) -> tuple[list[Landscape], list[str]]:
    """Held-out combinations, each as often as the next, and a full caption for each."""
    rng, choices = np.random.default_rng(seed), held_out()
    order = [choices[i % len(choices)] for i in range(count)]
    return order, [caption(landscape, rng, is_full=True) for landscape in order]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--cfg", type=float, nargs="+", default=[4.0])
    parser.add_argument("--output", type=Path, default=WORK / "samples.png")
    options = parser.parse_args()
    net, judge = averaged_networks(), load_judge()
    landscapes, prompts = held_out_prompts(options.count, SEED)
    truth = torch.from_numpy(np.stack([labels(landscape) for landscape in landscapes]))
    for cfg in options.cfg:
        pixels = decode(ddim(net, prompts, cfg=cfg))
        right = (verdicts(judge, pixels) == truth).float().mean(dim=0)
        print(cfg, {name: round(share, 3) for name, share in zip(CLASSES, right.tolist(), strict=True)}, flush=True)
        sheet(pixels[:24], 8).save(options.output)


if __name__ == "__main__":
    main()
