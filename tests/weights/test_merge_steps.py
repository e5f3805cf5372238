"""LoRAs inside of merges, beside their definitions in float64."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from hayate.errors import TensorMismatch
from hayate.models.config import Family
from hayate.weights.detect import UNET_PREFIX
from tests.lora_files import MAKERS, Maker, save
from tests.tiny_models import write_tiny
from tests.weights.merges import QUERY, Run, arrays, opened

LAYERS = {
    "lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q": QUERY,
    "lora_unet_down_blocks_0_resnets_0_conv1": UNET_PREFIX + "input_blocks.1.0.in_layers.2.weight",
    "lora_unet_down_blocks_0_resnets_0_norm1": UNET_PREFIX + "input_blocks.1.0.in_layers.0.weight",
}


@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.title)
def test_loras_of_every_kind_are_added_to_the_clean_weights(
    three: Path, tmp_path: Path, merged: Run, maker: Maker
) -> None:
    torch.manual_seed(0)
    shutil.copy(three / "A.safetensors", tmp_path)
    (a,) = arrays(three, "A")
    shapes = {layer: a[name].shape for layer, name in LAYERS.items() if maker.is_for(a[name].shape)}
    files = [{layer: maker.parts(shape) for layer, shape in shapes.items()} for _ in range(2)]
    for name, layers in zip("xy", files, strict=True):
        save(tmp_path / f"{name}.safetensors", layers)
    result = merged("lora(A, x, 0.8, y, -0.5)", tmp_path, dtype=torch.float32)
    for layer, name in LAYERS.items():
        wanted = a[name].copy()
        for strength, layers in zip((0.8, -0.5), files, strict=True):
            if layer in layers:
                wanted += strength * maker.reference(layers[layer], a[name])
        np.testing.assert_allclose(result[name].double().numpy(), wanted, rtol=1e-6, atol=2e-6)


def test_a_lora_in_the_third_of_a_weight_and_biases(tmp_path: Path, merged: Run) -> None:
    write_tiny(tmp_path / "A.safetensors", Family.SDXL)
    (a,) = arrays(tmp_path, "A")
    layer = "lora_te2_text_model_encoder_layers_1_self_attn_k_proj"
    parts = {"diff": torch.randn(128, 128), "diff_b": torch.randn(128)}
    save(tmp_path / "x.safetensors", {layer: parts})
    result = merged("lora(A, x, 0.5)", tmp_path)
    for end, part in (("weight", "diff"), ("bias", "diff_b")):
        name = f"conditioner.embedders.1.model.transformer.resblocks.1.attn.in_proj_{end}"
        a[name][128:256] += 0.5 * parts[part].double().numpy()
        np.testing.assert_allclose(result[name].double().numpy(), a[name], rtol=0, atol=1e-6)


def test_a_lora_inside_an_expression_acts_there_only(three: Path, tmp_path: Path, merged: Run) -> None:
    for name in "AB":
        shutil.copy(three / f"{name}.safetensors", tmp_path)
    a, b = arrays(three, "A", "B")
    change = torch.randn(a[QUERY].shape)
    save(tmp_path / "x.safetensors", {next(iter(LAYERS)): {"diff": change}})
    result = merged("merge(A, lora(B, x, 2), 0.25)", tmp_path, dtype=torch.float32)
    for name, tensor in result.items():
        other = b[name] + (2 * change.double().numpy() if name == QUERY else 0)
        np.testing.assert_allclose(tensor.double().numpy(), 0.75 * a[name] + 0.25 * other, rtol=0, atol=1e-6)


def test_a_lora_for_another_family_is_refused(three: Path, tmp_path: Path) -> None:
    shutil.copy(three / "A.safetensors", tmp_path)
    save(tmp_path / "x.safetensors", {"lora_unet_double_blocks_0_img_attn_qkv": {"diff": torch.zeros(4, 4)}})
    with pytest.raises(TensorMismatch, match="Flux"), opened("lora(A, x, 1)", tmp_path):
        pass
