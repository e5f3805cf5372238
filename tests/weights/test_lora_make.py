"""New LoRAs beside numpy's decompositions in float64, and put back into the models that they came from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from hayate.errors import HayateError, TensorMismatch, UsageError
from hayate.models.config import SD1, SDXL, Family
from hayate.weights.detect import UNET_PREFIX, detect_checkpoint
from hayate.weights.lora import family_of, read_adapter
from hayate.weights.lora_make import MadeLora, cut_matrix, extract_lora, file_names, merge_loras, write_lora
from hayate.weights.lora_names import plain_name
from hayate.weights.merge import open_merge
from hayate.weights.merge_inputs import source_of
from hayate.weights.merge_recipe import parse_recipe
from hayate.weights.read import open_checkpoint
from tests.lora_files import save
from tests.tiny_models import write_tiny

QUERY = "input_blocks.1.1.transformer_blocks.0.attn1.to_q"
QUERY_NAME = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
KERNEL = "input_blocks.1.0.in_layers.2"
KERNEL_NAME = "lora_unet_down_blocks_0_resnets_0_conv1"
TEXT_NAME = "lora_te_text_model_encoder_layers_1_mlp_fc1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate("AB"):
        write_tiny(folder / f"{name}.safetensors", Family.SD1, seed=seed)
    return folder


def extracted(folder: Path, first: str = "A", second: str = "B", **how) -> MadeLora:
    with (
        open_checkpoint(folder / f"{first}.safetensors") as a,
        open_checkpoint(folder / f"{second}.safetensors") as b,
    ):
        return extract_lora(source_of(a), source_of(b), **how)


def dense(tensors: dict[str, Tensor], name: str) -> np.ndarray:
    """α/r · up·down, as published."""
    up, down = (tensors[f"{name}.lora_{half}.weight"].double().numpy() for half in ("up", "down"))
    return float(tensors[f"{name}.alpha"]) / len(down) * up.reshape(len(up), -1) @ down.reshape(len(down), -1)


def difference(folder: Path, tensor: str) -> np.ndarray:
    a, b = (load_file(folder / f"{name}.safetensors")[tensor].double().numpy() for name in "AB")
    return (b - a).reshape(len(a), -1)


def nearest(matrix: np.ndarray, rank: int) -> np.ndarray:
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    return left[:, :rank] * values[:rank] @ right[:rank]


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        (QUERY_NAME, UNET_PREFIX + QUERY + ".weight"),
        (KERNEL_NAME, UNET_PREFIX + KERNEL + ".weight"),
        (TEXT_NAME, "cond_stage_model.transformer.text_model.encoder.layers.1.mlp.fc1.weight"),
    ],
)
def test_a_rank_gives_the_nearest_product_of_it(folder: Path, name: str, tensor: str) -> None:
    made = extracted(folder, rank=5)
    assert set(made.ranks) <= {4, 5}  # conv_in and conv_out have four channels
    found = dense(dict(made.tensors), name)
    np.testing.assert_allclose(found, nearest(difference(folder, tensor), 5), rtol=0, atol=1e-6)


def test_energy_gives_the_least_rank_that_holds_it(folder: Path) -> None:
    made = extracted(folder, rank=None, energy=0.9)
    whole = kept = 0.0
    for name, tensor in ((QUERY_NAME, QUERY), (KERNEL_NAME, KERNEL)):
        matrix = difference(folder, UNET_PREFIX + tensor + ".weight")
        shares = np.cumsum(np.linalg.svd(matrix, compute_uv=False) ** 2) / (matrix**2).sum()
        rank = made.tensors[f"{name}.lora_down.weight"].shape[0]
        assert shares[rank - 1] >= 0.9 > shares[rank - 2]
        whole, kept = whole + (matrix**2).sum(), kept + (dense(dict(made.tensors), name) ** 2).sum()
    assert 0.9 <= kept / whole < 0.95
    assert 0.9 <= made.kept < 0.95


def test_the_whole_difference_put_back_makes_b_of_a(folder: Path, tmp_path: Path) -> None:
    write_lora(extracted(folder, rank=None, energy=1.0), tmp_path / "L.safetensors", torch.float32)
    a, b = (load_file(folder / f"{name}.safetensors") for name in "AB")
    with open_merge(
        parse_recipe("lora(A, L)"),
        lambda name: folder / f"{name}.safetensors",
        lambda name: tmp_path / f"{name}.safetensors",
    ) as merge:
        assert not merge.notes
        for name in merge.names:
            is_layer = a[name].dim() > 1 and "embedding" not in name and not name.startswith("first_stage_model")
            torch.testing.assert_close(merge.get(name), b[name] if is_layer else a[name], rtol=0, atol=2e-6)


def test_a_planted_change_is_found_with_its_rank_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    tensors = load_file(folder / "A.safetensors")
    torch.manual_seed(0)
    for name in (QUERY, KERNEL):
        weight = tensors[UNET_PREFIX + name + ".weight"]
        weight += (torch.randn(len(weight), 3) @ torch.randn(3, weight[0].numel()) * 0.1).reshape(weight.shape)
    save_file(tensors, tmp_path / "B.safetensors")
    (tmp_path / "A.safetensors").symlink_to(folder / "A.safetensors")
    made = extracted(tmp_path, rank=None, energy=0.999999)
    assert made.ranks == (3, 3)
    assert {name.partition(".")[0] for name in made.tensors} == {QUERY_NAME, KERNEL_NAME}


def test_sdxls_thirds_are_layers_of_their_own(tmp_path: Path) -> None:
    for seed, name in enumerate("AB"):
        write_tiny(tmp_path / f"{name}.safetensors", Family.SDXL, seed=seed)
    made = extracted(tmp_path, rank=6)
    tensor = "conditioner.embedders.1.model.transformer.resblocks.1.attn.in_proj_weight"
    rows = np.split(difference(tmp_path, tensor), 3)
    for third, letter in enumerate("qkv"):
        name = f"lora_te2_text_model_encoder_layers_1_self_attn_{letter}_proj"
        np.testing.assert_allclose(dense(dict(made.tensors), name), nearest(rows[third], 6), rtol=0, atol=1e-6)


def test_a_written_lora_is_read_again_and_tells_its_family(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "L.safetensors"
    write_lora(extracted(folder, rank=2), path)
    with open_checkpoint(folder / "A.safetensors") as checkpoint:
        adapter = read_adapter(path, detect_checkpoint(checkpoint))
    assert adapter.kinds().startswith("LoRA ")
    assert not adapter.unknown
    with open_checkpoint(path) as file:
        assert file.metadata["ss_network_module"] == "networks.lora"
        assert file.metadata["ss_base_model_version"] == "sd_v1"
        assert {info.dtype for info in file.tensors.values()} == {"F16"}
    full = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
    parts = {"lora_up.weight": torch.zeros(640, 1), "lora_down.weight": torch.zeros(1, 768)}
    assert family_of(save(tmp_path / "full.safetensors", {full: parts})) is Family.SD1
    assert family_of(path) is None


def test_published_models_layers_have_kohyas_names() -> None:
    sd, xl = (set(file_names(config).values()) for config in (SD1, SDXL))
    assert {QUERY_NAME, KERNEL_NAME, "lora_te_text_model_encoder_layers_11_mlp_fc2"} <= sd
    assert {"lora_unet_input_blocks_4_1_proj_in", "lora_te1_text_model_encoder_layers_0_self_attn_q_proj"} <= xl
    assert "lora_te2_text_model_encoder_layers_31_self_attn_v_proj" in xl
    assert all(name == plain_name(name, encoders) for names, encoders in ((sd, 1), (xl, 2)) for name in names)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 14), st.integers(0, 2**31))
@settings(deadline=None, max_examples=40)
def test_a_cut_is_the_nearest_of_its_rank_whatever_the_shape(rows: int, columns: int, rank: int, seed: int) -> None:
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    cut = cut_matrix(matrix, rank, None)
    np.testing.assert_allclose((cut.up @ cut.down).numpy(), nearest(matrix.numpy(), rank), rtol=0, atol=1e-7)
    assert cut.whole == pytest.approx(float((matrix**2).sum()))


def test_nothing_is_cut_from_nothing() -> None:
    cut = cut_matrix(torch.zeros(4, 5), 3, 0.9)
    assert cut.down.shape == (0, 5)


def layer(rank: int, out: int, width: tuple[int, ...], alpha: float | None) -> dict[str, Tensor]:
    kernel = [1] * (len(width) - 1)
    parts = {"lora_up.weight": torch.randn(out, rank, *kernel), "lora_down.weight": torch.randn(rank, *width)}
    return parts if alpha is None else parts | {"alpha": torch.tensor(alpha)}


@pytest.fixture
def pair(tmp_path: Path) -> list[tuple[Path, float]]:
    torch.manual_seed(1)
    first = {QUERY_NAME: layer(3, 32, (32,), 1.5), KERNEL_NAME: layer(2, 32, (32, 3, 3), None)}
    second = {QUERY_NAME: layer(4, 32, (32,), 8.0), TEXT_NAME: layer(2, 128, (64,), 1.0)}
    return [(save(tmp_path / "x.safetensors", first), 0.5), (save(tmp_path / "y.safetensors", second), -0.7)]


def summed(pair: list[tuple[Path, float]], name: str) -> np.ndarray:
    found = []
    for path, strength in pair:
        tensors = load_file(path)
        if f"{name}.lora_down.weight" in tensors:
            rank = len(tensors[f"{name}.lora_down.weight"])
            found.append(strength * dense({f"{name}.alpha": torch.tensor(float(rank)), **tensors}, name))
    return sum(found[1:], found[0])


def config_of(folder: Path):
    with open_checkpoint(folder / "A.safetensors") as checkpoint:
        return detect_checkpoint(checkpoint)


def test_merged_loras_change_what_all_of_them_change(folder: Path, pair: list[tuple[Path, float]]) -> None:
    made = merge_loras(pair, config_of(folder))
    assert sorted(made.ranks) == [2, 2, 7]
    assert made.kept == 1.0
    for name in (QUERY_NAME, KERNEL_NAME, TEXT_NAME):
        np.testing.assert_allclose(dense(dict(made.tensors), name), summed(pair, name), rtol=1e-6, atol=1e-6)


def test_merged_loras_of_a_rank_are_the_nearest_to_the_sum(folder: Path, pair: list[tuple[Path, float]]) -> None:
    made = merge_loras(pair, config_of(folder), rank=3)
    assert sorted(made.ranks) == [2, 2, 3]
    whole = kept = 0.0
    for name in (QUERY_NAME, KERNEL_NAME, TEXT_NAME):
        wanted = nearest(summed(pair, name), 3)
        np.testing.assert_allclose(dense(dict(made.tensors), name), wanted, rtol=1e-5, atol=1e-5)
        whole, kept = whole + (summed(pair, name) ** 2).sum(), kept + (wanted**2).sum()
    assert made.kept == pytest.approx(kept / whole)


def test_merged_loras_do_what_both_do_in_a_checkpoint(
    folder: Path, tmp_path: Path, pair: list[tuple[Path, float]]
) -> None:
    write_lora(merge_loras(pair, config_of(folder)), tmp_path / "both.safetensors", torch.float32)

    def weight(text: str) -> Tensor:
        with open_merge(
            parse_recipe(text),
            lambda name: folder / f"{name}.safetensors",
            lambda name: tmp_path / f"{name}.safetensors",
        ) as merge:
            return merge.get(UNET_PREFIX + QUERY + ".weight")

    torch.testing.assert_close(weight("lora(A, both)"), weight("lora(A, x, 0.5, y, -0.7)"), rtol=1e-5, atol=1e-5)


def test_kinds_that_are_no_product_are_refused_with_the_way_round(folder: Path, tmp_path: Path) -> None:
    parts = {f"hada_w{n}_{half}": torch.randn(*shape) for n in "12" for half, shape in (("a", (32, 2)), ("b", (2, 32)))}
    path = save(tmp_path / "loha.safetensors", {QUERY_NAME: parts})
    with pytest.raises(TensorMismatch, match="LoHa") as caught:
        merge_loras([(path, 1.0)], config_of(folder))
    assert "extract" in caught.value.hint


@pytest.mark.parametrize("how", [{"rank": 0}, {"rank": None, "energy": 0.0}, {"rank": None, "energy": 1.1}])
def test_ranks_and_shares_out_of_range_are_refused(folder: Path, how: dict) -> None:
    with pytest.raises(UsageError):
        extracted(folder, **how)


def test_equal_models_and_other_families_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="do not differ"):
        extracted(folder, "A", "A", rank=4)
    write_tiny(tmp_path / "B.safetensors", Family.SD2)
    (tmp_path / "A.safetensors").symlink_to(folder / "A.safetensors")
    with pytest.raises(HayateError, match="is SD1 and 'B' is SD2"):
        extracted(tmp_path, rank=4)
