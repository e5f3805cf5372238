"""Small models that are merged, and what reads them back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from safetensors.torch import load_file, save_file
from torch import Tensor

from hayate.weights.detect import UNET_PREFIX
from hayate.weights.merge import Merge, open_merge
from hayate.weights.merge_recipe import parse_recipe

CONV_IN = UNET_PREFIX + "input_blocks.0.0.weight"
QUERY = UNET_PREFIX + "input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"
CLIP = "cond_stage_model.transformer.text_model."
Run = Callable[..., dict[str, Tensor]]


def opened(text: str, folder: Path) -> AbstractContextManager[Merge]:
    def find(name: str) -> Path:
        return folder / f"{name}.safetensors"

    return open_merge(parse_recipe(text), find, find)


def arrays(folder: Path, *names: str) -> list[dict[str, np.ndarray]]:
    return [
        {key: tensor.double().numpy() for key, tensor in load_file(folder / f"{name}.safetensors").items()}
        for name in names
    ]


def rewrite(folder: Path, source: Path, name: str, change: Callable[[dict[str, Tensor]], None]) -> None:
    tensors = load_file(source)
    change(tensors)
    save_file(tensors, folder / f"{name}.safetensors")
