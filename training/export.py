"""Writes the trained networks as one fp16 file in the layout of the original checkpoints."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from encode import TOKENS, VAE
from safetensors.torch import save_file
from torch import Tensor
from train_unet import TEXT, UNET, averaged_networks
from train_vae import CONFIG

TARGET = Path(__file__).parents[1] / "src/hayate/weights/builtin/hayate-landscapes.safetensors"
MAX_BYTES = 20_000_000
DECLARED = {
    "native_size_px": 128,
    "unet.heads": UNET.heads,
    "unet.norm_groups": UNET.norm_groups,
    "vae.norm_groups": CONFIG.norm_groups,
    "vae.scale": 1.0,
    "text.0.heads": TEXT.heads,
}
"""What names and shapes can't show."""


def tensors() -> dict[str, Tensor]:
    """Every tensor of the checkpoint under its original name, in fp16."""
    networks, seen = averaged_networks(), torch.from_numpy(np.unique(np.load(TOKENS)).astype(np.int64))
    text = networks.text.state_dict()
    embedding = text["embeddings.token_embedding.weight"]
    known = torch.zeros_like(embedding)
    known[seen] = embedding[seen]
    text["embeddings.token_embedding.weight"] = known
    parts = {
        "model.diffusion_model.": networks.unet.state_dict(),
        "first_stage_model.": torch.load(VAE),
        TEXT.prefix: text,
    }
    return {
        f"{prefix}{name}": tensor.to(torch.float16).contiguous()
        for prefix, part in parts.items()
        for name, tensor in part.items()
    }


def metadata() -> dict[str, str]:
    """The header's text entries."""
    return {
        "hayate.config": json.dumps(DECLARED),
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": "stable-diffusion-v1",
        "modelspec.title": "Hayate Landscapes",
        "modelspec.description": "Flat-illustration landscapes of 128x128 pixels, trained on procedural drawings.",
        "modelspec.author": "The Hayate authors",
        "modelspec.license": "Apache-2.0",
        "modelspec.resolution": "128x128",
        "modelspec.prediction_type": "epsilon",
    }


def export(target: Path) -> int:
    """Write the checkpoint in one step; its size in bytes.

    Raises: ValueError when it is larger than the project allows.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    save_file(tensors(), part, metadata())
    size_bytes = part.stat().st_size
    if size_bytes > MAX_BYTES:
        part.unlink()
        raise ValueError(f"the checkpoint has {size_bytes:,} bytes, more than {MAX_BYTES:,}")
    part.chmod(0o644)
    part.replace(target)
    return size_bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", type=Path, default=TARGET)
    target = parser.parse_args().target
    print(f"{target}: {export(target):,} bytes")


if __name__ == "__main__":
    main()
