"""Writes a full-size SD1.5 checkpoint of random fp16 weights (2.1 GB) in the original layout, for measuring.

python tests/make_sd15_file.py FILE [--seed N]
"""

from __future__ import annotations

import argparse
import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from hayate.models import config as models
from hayate.models.clip import text_encoder
from hayate.models.layers import skeleton
from hayate.models.unet import UNet
from hayate.models.vae import AutoencoderKL
from hayate.weights.detect import UNET_PREFIX, VAE_PREFIX


def make_sd15_file(path: Path, *, seed: int = 0) -> None:
    """Writes the file tensor by tensor.

    Cost: 2.1 GB of disk and some 15 s; memory for one tensor.
    """
    shapes = sd15_shapes()
    generator = torch.Generator().manual_seed(seed)
    unfinished = path.with_name(path.name + ".part")
    with unfinished.open("wb") as file:
        file.write(_header(shapes))
        for shape in shapes.values():
            file.write(_random(shape, generator).numpy().tobytes())
    unfinished.replace(path)


def sd15_shapes() -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of SD1.5."""
    with skeleton():
        networks = {
            UNET_PREFIX: UNet(models.SD1.unet),
            VAE_PREFIX: AutoencoderKL(models.SD1.vae),
            **{text.prefix: text_encoder(text) for text in models.SD1.text},
        }
    return {
        prefix + name: tuple(tensor.shape)
        for prefix, network in networks.items()
        for name, tensor in network.state_dict().items()
    }


def _header(shapes: Mapping[str, tuple[int, ...]]) -> bytes:
    """The length and the JSON of a safetensors header, padded so that the data is aligned."""
    entries, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * math.prod(shape)
        entries[name] = {"dtype": "F16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _random(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    spread = 1 / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else 0.1
    return (torch.randn(shape, generator=generator) * spread).half()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="write a full-size SD1.5 file of random weights")
    parser.add_argument("file", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    make_sd15_file(arguments.file, seed=arguments.seed)
