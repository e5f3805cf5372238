"""Loading: the right numbers without a copy, and strictly."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from hayate.errors import TensorMismatch
from hayate.models.config import Family
from hayate.models.layers import Conv2d, LayerNorm, Linear, parameter, skeleton
from hayate.weights.detect import detect_checkpoint
from hayate.weights.load import load_part, pour_part
from hayate.weights.read import open_checkpoint
from tests.tiny_models import networks, write_tiny


class Small(nn.Module):
    """A linear layer, a convolution of 1×1 and a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = Linear(3, 4)
        self.q = Conv2d(4, 4, 1)
        self.norm = LayerNorm(4)


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    return {f"net.{name}": torch.randn_like(tensor) for name, tensor in Small().state_dict().items()}


@pytest.fixture
def load(tmp_path):
    """Writes tensors to a file and loads them into a new module."""

    def act(tensors: dict[str, torch.Tensor], prefix: str = "net.", **how) -> Small:
        path = tmp_path / "small.safetensors"
        save_file(tensors, path)
        with skeleton():
            module = Small()
        with open_checkpoint(path) as checkpoint:
            load_part(module, checkpoint, prefix, **how)
        return module

    return act


def test_a_skeleton_has_shapes_and_no_numbers():
    with skeleton():
        module = Small()
    assert {name: tensor.shape for name, tensor in module.state_dict().items()} == {
        name: tensor.shape for name, tensor in Small().state_dict().items()
    }
    assert all(tensor.is_meta for tensor in module.parameters())
    assert torch.ones(2).fill_(3).sum() == 6  # nothing of it stays behind


def test_skeletons_may_be_made_in_and_outside_inference_mode():
    with torch.inference_mode(), skeleton():
        Linear(17, 23)
    with skeleton():
        Linear(17, 23)


@pytest.mark.parametrize("family", [Family.SD1, Family.SDXL])
def test_a_tiny_model_gets_the_numbers_of_the_file(tmp_path, family):
    path = tmp_path / "tiny.safetensors"
    write_tiny(path, family, dtype=torch.float16)
    expected = load_file(path)
    with open_checkpoint(path) as checkpoint:
        parts = networks(detect_checkpoint(checkpoint))
        for prefix, module in parts.items():
            load_part(module, checkpoint, prefix)
    loaded = {prefix + name: tensor for prefix, module in parts.items() for name, tensor in module.state_dict().items()}
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)


def test_weights_are_views_of_the_file_and_need_no_gradient(load, tensors):
    module = load(tensors)
    pointers = sorted(tensor.data_ptr() for tensor in module.parameters())
    span = pointers[-1] - pointers[0]
    assert 0 < span < sum(tensor.nbytes for tensor in tensors.values())  # one after the other, as in the file
    assert not any(tensor.requires_grad for tensor in module.parameters())


def test_dtype_is_the_files_or_the_callers(load, tensors):
    halves = {name: tensor.half() for name, tensor in tensors.items()}
    assert {tensor.dtype for tensor in load(halves).parameters()} == {torch.float16}
    module = load(halves, dtype=torch.float32)
    assert torch.equal(module.proj.weight, halves["net.proj.weight"].float())


@pytest.mark.parametrize("name", ["net.proj.weight", "net.norm.bias"])
def test_a_missing_tensor_is_named(load, tensors, name):
    del tensors[name]
    with pytest.raises(TensorMismatch, match=rf"small\.safetensors: tensor '{name}' is missing"):
        load(tensors)


def test_an_extra_tensor_is_named_but_other_networks_are_not_its_business(load, tensors):
    load(tensors | {"other.weight": torch.zeros(1)})
    with pytest.raises(TensorMismatch, match=r"tensor 'net\.proj\.weights' is extra.*nearest.*net\.proj\.weight\)"):
        load(tensors | {"net.proj.weights": torch.zeros(1)})


@pytest.mark.parametrize(
    "name",
    [
        "net.embeddings.position_ids",
        "net.logit_scale",
        "net.text_projection.weight",
        "net.vision_model.encoder.layers.0.mlp.fc1.weight",
        "net.model_ema.decay",
        "net.sqrt_one_minus_alphas_cumprod",
        "net.alphas_cumprod",
        "net.betas",
    ],
)
def test_known_left_overs_are_ignored(load, tensors, name):
    load(tensors | {name: torch.zeros(3)})


@pytest.mark.parametrize("name", ["net.alphabet", "net.my_betas_weight", "net.proj.position_ids_more"])
def test_left_overs_are_a_closed_list(load, tensors, name):
    with pytest.raises(TensorMismatch, match="is extra"):
        load(tensors | {name: torch.zeros(3)})


@pytest.mark.parametrize("shape", [(4, 4), (3, 4), (4, 3, 1), (12,), (4, 3, 1, 2), (1, 1, 4, 3)])
def test_a_wrong_shape_is_named(load, tensors, shape):
    with pytest.raises(TensorMismatch, match=r"'net\.proj\.weight' has shape .* not \[4, 3\]"):
        load(tensors | {"net.proj.weight": torch.zeros(shape)})


def test_one_by_one_kernels_may_be_stored_as_matrices_and_back(load, tensors):
    other_way = tensors | {
        "net.q.weight": tensors["net.q.weight"][:, :, 0, 0].contiguous(),
        "net.proj.weight": tensors["net.proj.weight"][:, :, None, None].contiguous(),
    }
    module = load(other_way)
    assert torch.equal(module.q.weight, tensors["net.q.weight"])
    assert torch.equal(module.proj.weight, tensors["net.proj.weight"])


def test_whole_numbers_are_no_weights(load, tensors):
    with pytest.raises(TensorMismatch, match=r"'net\.norm\.bias' holds I8"):
        load(tensors | {"net.norm.bias": torch.zeros(4, dtype=torch.int8)})


def test_a_projection_of_no_width_is_not_looked_for(tmp_path, tensors):
    path = tmp_path / "small.safetensors"
    save_file(tensors, path)
    with skeleton():
        module = Small()
        module.text_projection = parameter(4, 0, std=1.0)
    with open_checkpoint(path) as checkpoint:
        load_part(module, checkpoint, "net.")
    assert not module.text_projection.is_meta


def test_pouring_fills_standing_parameters_or_changes_nothing(tmp_path, tensors):
    path = tmp_path / "small.safetensors"
    module = Small().double()
    weight = module.proj.weight
    save_file(tensors, path)
    with open_checkpoint(path) as checkpoint:
        pour_part(module, checkpoint, "net.")
    assert module.proj.weight is weight
    assert torch.equal(weight, tensors["net.proj.weight"].double())
    before = weight.clone()
    save_file({name: tensor + 1 for name, tensor in tensors.items() if name != "net.norm.bias"}, path)
    with open_checkpoint(path) as checkpoint, pytest.raises(TensorMismatch, match="missing"):
        pour_part(module, checkpoint, "net.")
    assert torch.equal(weight, before)
