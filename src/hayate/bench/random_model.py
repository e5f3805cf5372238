"""Full-size checkpoints of random weights: as fast as anybody's model, and nobody's file."""

from __future__ import annotations

import json
import math
import shutil
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from hayate.errors import OutputError, UnknownName
from hayate.models.clip import text_encoder
from hayate.models.config import SD1, SD2, SDXL, ModelConfig
from hayate.models.layers import skeleton
from hayate.models.unet import UNet
from hayate.models.vae import AutoencoderKL
from hayate.weights.detect import UNET_PREFIX, VAE_PREFIX

RANDOM_MODELS = MappingProxyType({"sd15": SD1, "sd21": SD2, "sdxl": SDXL})
OnShare = Callable[[float], None]
"""Told which share is done."""


def random_model(name: str, folder: Path, on_share: OnShare = lambda share: None) -> Path:
    """The file of such a model in `folder`, written unless it is there.

    Raises: UnknownName, OutputError where there is no room for it.
    Cost: SD1.5 2.1 GB of disk and 15 s, SDXL 6.9 GB and a minute, once.
    """
    if name not in RANDOM_MODELS:
        raise UnknownName("random model", name, RANDOM_MODELS)
    path = folder / f"random-{name}.safetensors"
    shapes = shapes_of(RANDOM_MODELS[name])
    if not (path.exists() and path.stat().st_size == _size_bytes(shapes)):
        write_random(path, shapes, on_share=on_share)
    return path


def write_random(
    path: Path, shapes: Mapping[str, tuple[int, ...]], *, seed: int = 0, on_share: OnShare = lambda share: None
) -> None:
    """Writes a file of fp16 weights of variance 1/fan-in tensor by tensor; a part of it is never under its name.

    Raises: OutputError. Cost: memory for one tensor.
    """
    unfinished = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(path.parent).free < _size_bytes(shapes):
            raise OutputError(
                f"no room for {_size_bytes(shapes) / 1e9:.1f} GB in {path.parent}", hint="free some, or set cache_dir"
            )
        with unfinished.open("wb") as file:
            _write(file.write, shapes, torch.Generator().manual_seed(seed), on_share)
        unfinished.replace(path)
    except OSError as error:
        raise OutputError(f"{path} can't be written: {error.strerror}", hint="see the setting cache_dir") from error
    finally:
        unfinished.unlink(missing_ok=True)


def shapes_of(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a checkpoint."""
    with skeleton():
        networks = {
            UNET_PREFIX: UNet(config.unet),
            VAE_PREFIX: AutoencoderKL(config.vae),
            **{text.prefix: text_encoder(text) for text in config.text},
        }
    return {
        prefix + name: tuple(tensor.shape)
        for prefix, network in networks.items()
        for name, tensor in network.state_dict().items()
    }


def _write(
    write: Callable[[bytes], object],
    shapes: Mapping[str, tuple[int, ...]],
    generator: torch.Generator,
    on_share: OnShare,
) -> None:
    write(_header(shapes))
    whole, done = sum(map(math.prod, shapes.values())), 0
    for shape in shapes.values():
        write(_random(shape, generator).numpy().tobytes())
        done += math.prod(shape)
        on_share(done / whole)


def _header(shapes: Mapping[str, tuple[int, ...]]) -> bytes:
    """The length and the JSON of a safetensors header, padded so that the data is aligned."""
    entries, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * math.prod(shape)
        entries[name] = {"dtype": "F16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _size_bytes(shapes: Mapping[str, tuple[int, ...]]) -> int:
    return len(_header(shapes)) + 2 * sum(map(math.prod, shapes.values()))


def _random(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    spread = 1 / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else 0.1
    return (torch.randn(shape, generator=generator) * spread).half()
