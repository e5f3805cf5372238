"""What several files of tests about several models share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hayate.models.config import Family
from hayate.pipeline.workspace import Workspace
from hayate.settings import Settings, load_settings
from tests.lora_files import MAKERS, save
from tests.runtime.test_graphs import FakeRecorder
from tests.tiny_models import random_tensors, tiny_config, write, write_tiny

LORA = MAKERS[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SD1 twice, one of them under two names and for inpainting too, and SDXL with its refiner."""
    folder = tmp_path_factory.mktemp("models")
    for name, family, seed in (
        ("base", Family.SD1, 0),
        ("copy", Family.SD1, 0),
        ("other", Family.SD1, 1),
        ("xl", Family.SDXL, 2),
        ("xl refiner", Family.SDXL_REFINER, 3),
    ):
        write_tiny(folder / f"{name}.safetensors", family, seed=seed)
    tensors = dict(random_tensors(tiny_config(Family.SD1), 0))
    name = "model.diffusion_model.input_blocks.0.0.weight"
    tensors[name] = torch.cat([tensors[name], torch.zeros_like(tensors[name])], dim=1)
    tensors[name] = torch.cat([tensors[name], torch.zeros_like(tensors[name][:, :1])], dim=1)
    write(folder / "nine.safetensors", tensors)
    return folder


@pytest.fixture(scope="module")
def loras(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One LoRA for SD1, one for SDXL."""
    folder = tmp_path_factory.mktemp("Lora")
    torch.manual_seed(0)
    for name, width, more in (
        ("ink", 64, {"lora_unet_mid_block_attentions_0_proj_in": (64, 64, 1, 1)}),
        ("oil", 128, {}),
    ):
        text = "lora_te" if name == "ink" else "lora_te2"
        shapes = {f"{text}_text_model_encoder_layers_0_mlp_fc1": (2 * width, width), **more}
        layers = {layer: LORA.parts(shape) for layer, shape in shapes.items()}
        for parts in layers.values():
            parts["lora_up.weight"] *= 10
        save(folder / f"{name}.safetensors", layers)
    return folder


@pytest.fixture
def own(tmp_path: Path, folder: Path, loras: Path) -> Settings:
    places = {"cache_dir": tmp_path / "cache", "outputs_dir": tmp_path / "out", "models_dir": folder}
    return load_settings({**places, "lora_dir": loras}, environment={})


@pytest.fixture
def workspace(own: Settings) -> Iterator[Workspace]:
    with Workspace(own, recorder=lambda device: FakeRecorder()) as made:
        yield made
