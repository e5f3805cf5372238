"""Turns the drawings into latents of unit variance, and their captions into tokens, once for the U-Net's training."""

from __future__ import annotations

import argparse

import numpy as np
import torch
from budget import pixels_to_signal
from captions import caption
from parallel import PROCESSES, run_parallel
from render import WORK, load
from torch import Tensor, distributed
from train_vae import CHECKPOINT, CONFIG
from world import CLASSES, Landscape

from hayate.models.vae import AutoencoderKL
from hayate.prompt import Tokenizer, load_tokenizer

COUNT = 12_000
"""Drawings that the U-Net is trained on."""
VAE = WORK / "vae_final.pt"
LATENTS = WORK / "latents.npy"
TOKENS = WORK / "tokens.npy"
WORDINGS = 5
CHUNK = 77
SEED = 13


def averaged_vae() -> AutoencoderKL:
    """The trained autoencoder with its averaged weights."""
    vae, saved = AutoencoderKL(CONFIG), torch.load(CHECKPOINT)
    vae.load_state_dict(saved["net"])
    with torch.no_grad():
        for weight, shadow in zip(vae.parameters(), saved["average"], strict=True):
            weight.copy_(shadow)
    return vae.eval()


@torch.no_grad()
def encode(vae: AutoencoderKL, drawings: np.ndarray) -> Tensor:
    """Means of the latents of uint8 drawings. Shapes: [N, 128, 128, 3] → [N, 4, 16, 16]."""
    parts = []
    for start in range(0, len(drawings), 16):
        pixels = pixels_to_signal(torch.from_numpy(np.ascontiguousarray(drawings[start : start + 16])))
        with torch.autocast("cpu", torch.bfloat16):
            parts.append(vae.encode_moments(pixels.contiguous())[0].float())
    return torch.cat(parts)


@torch.no_grad()
def fold_scale(vae: AutoencoderKL, mean: Tensor, std: Tensor) -> None:
    """Give every latent channel mean 0 and deviation 1 by changing the two 1×1 convolutions around the latents.

    The autoencoder's pictures stay the same; its `scale` becomes 1.
    """
    channels = len(mean)
    inward, outward = vae.quant_conv, vae.post_quant_conv
    inward.bias[:channels] = (inward.bias[:channels] - mean) / std
    inward.bias[channels:] -= 2 * std.log()
    inward.weight[:channels] /= std[:, None, None, None]
    assert outward.bias is not None
    outward.bias += outward.weight[:, :, 0, 0] @ mean
    outward.weight *= std[None, :, None, None]


def encode_all(rank: int) -> None:
    """Every process encodes its share of the training drawings with the folded autoencoder.

    Where there is one already, from a warm start, its latents are what the U-Net knows, so it stays.
    """
    drawings = load("train")[0][:COUNT]
    if VAE.exists():
        vae = AutoencoderKL(CONFIG)
        vae.load_state_dict(torch.load(VAE))
    else:
        vae = averaged_vae()
        sample = encode(vae, drawings[::25])
        fold_scale(vae, sample.mean(dim=(0, 2, 3)), sample.std(dim=(0, 2, 3)))
    edges = np.linspace(0, len(drawings), PROCESSES + 1).astype(int)
    part = encode(vae, drawings[edges[rank] : edges[rank + 1]])
    np.save(LATENTS.with_suffix(f".{rank}.npy"), part.numpy())
    if rank == 0:
        torch.save(vae.state_dict(), VAE)
    distributed.barrier()


def tokenize(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of one chunk: start, text, and end to the end, as SD1 pads."""
    ids = [tokenizer.bos_id, *tokenizer.encode(text)[: CHUNK - 2]]
    return ids + [tokenizer.eos_id] * (CHUNK - len(ids))


def tokenize_all() -> None:
    """Several wordings of every training drawing's caption. Shapes: the file has [N, WORDINGS, 77] uint16."""
    numbers, tokenizer = load("train")[1][:COUNT], load_tokenizer()
    tokens = np.empty((len(numbers), WORDINGS, CHUNK), dtype=np.uint16)
    for i, row in enumerate(numbers):
        names = {name: values[k] for (name, values), k in zip(CLASSES.items(), row, strict=True)}
        rng = np.random.default_rng((SEED, i))
        for j in range(WORDINGS):
            tokens[i, j] = tokenize(tokenizer, caption(Landscape(**names), rng))
    np.save(TOKENS, tokens)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("tokens", "latents"))
    only = parser.parse_args().only
    if only != "latents":
        tokenize_all()
    if only != "tokens":
        run_parallel(encode_all)
        parts = [LATENTS.with_suffix(f".{rank}.npy") for rank in range(PROCESSES)]
        np.save(LATENTS, np.concatenate([np.load(part) for part in parts]))
        for part in parts:
            part.unlink()


if __name__ == "__main__":
    main()
