"""Models that differ: what one lacks, other names, wider inputs, and families that do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from hayate.errors import HayateError, TensorMismatch, UsageError
from hayate.models.config import Family, Prediction
from hayate.weights.detect import UNET_PREFIX, VAE_PREFIX, detect_checkpoint
from hayate.weights.read import open_checkpoint
from tests.tiny_models import write_tiny
from tests.weights.merges import CLIP, CONV_IN, QUERY, Run, arrays, opened, rewrite


def test_what_b_lacks_is_as_and_what_a_lacks_is_bs_with_a_note(three: Path, tmp_path: Path, written: Run) -> None:
    lost = UNET_PREFIX + "out.2.bias"
    rewrite(tmp_path, three / "A.safetensors", "A", lambda tensors: None)
    rewrite(tmp_path, three / "B.safetensors", "B", lambda tensors: [tensors.pop(lost)].clear())
    a = load_file(three / "A.safetensors")
    for text in ("merge(A, B, 1)", "merge(B, A, 0)"):
        with opened(text, tmp_path) as merge:
            assert len(merge.notes) == 1
            assert "not in 'B'" in merge.notes[0]
        assert torch.equal(written(text, tmp_path)[lost], a[lost])
    with opened("add_difference(B, A, A, 1)", tmp_path) as merge:
        assert lost not in merge.names


def wide(tensors: dict[str, Tensor]) -> None:
    extra = torch.arange(5.0).reshape(1, 5, 1, 1).expand(len(tensors[CONV_IN]), 5, 3, 3)
    tensors[CONV_IN] = torch.cat([tensors[CONV_IN], extra.half()], dim=1)


def test_an_inpainting_model_keeps_its_channels_and_must_be_a(three: Path, tmp_path: Path, merged: Run) -> None:
    for name in "BC":
        rewrite(tmp_path, three / f"{name}.safetensors", name, lambda tensors: None)
    rewrite(tmp_path, three / "A.safetensors", "A", wide)
    a, b, c = arrays(tmp_path, "A", "B", "C")
    sums = {
        "merge(A, B, 0.3)": 0.7 * a[CONV_IN][:, :4] + 0.3 * b[CONV_IN],
        "add_difference(A, B, C, 1)": a[CONV_IN][:, :4] + b[CONV_IN] - c[CONV_IN],
    }
    for text, wanted in sums.items():
        result = merged(text, tmp_path, dtype=torch.float32)[CONV_IN].double().numpy()
        np.testing.assert_allclose(result[:, :4], wanted, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(result[:, 4:], a[CONV_IN][:, 4:])
    for text in ("merge(A, B, 0.3, calc=cosineA)", "slerp(A, B, 0.3)"):
        assert merged(text, tmp_path)[CONV_IN].shape[1] == 9
    with pytest.raises(UsageError, match="can only be A"), opened("merge(B, A, 0.3)", tmp_path):
        pass
    with pytest.raises(HayateError), opened("add_difference(B, A, C, 0.3)", tmp_path):
        pass


def test_two_inpainting_models_are_merged_in_all_channels(three: Path, tmp_path: Path, merged: Run) -> None:
    for name in "AB":
        rewrite(tmp_path, three / f"{name}.safetensors", name, wide)
    a, b = arrays(tmp_path, "A", "B")
    result = merged("merge(A, B, 0.25)", tmp_path, dtype=torch.float32)[CONV_IN]
    np.testing.assert_allclose(result.double().numpy(), 0.75 * a[CONV_IN] + 0.25 * b[CONV_IN], rtol=0, atol=1e-6)


def test_a_file_with_the_oldest_names_meets_todays(three: Path, tmp_path: Path, merged: Run) -> None:
    def age(tensors: dict[str, Tensor]) -> None:
        for name in [each for each in tensors if each.startswith(CLIP)]:
            tensors[name.replace("text_model.", "")] = tensors.pop(name)

    rewrite(tmp_path, three / "A.safetensors", "A", age)
    rewrite(tmp_path, three / "B.safetensors", "B", lambda tensors: None)
    result = merged("merge(A, B, 0.35)", tmp_path)
    wanted = merged("merge(A, B, 0.35)")
    assert result.keys() == wanted.keys()
    assert all(torch.equal(result[name], wanted[name]) for name in wanted)


def test_matrices_stored_as_kernels_are_matrices(three: Path, tmp_path: Path, merged: Run) -> None:
    name = VAE_PREFIX + "encoder.mid.attn_1.q.weight"

    def flatten(tensors: dict[str, Tensor]) -> None:
        tensors[name] = tensors[name].flatten(1)

    rewrite(tmp_path, three / "A.safetensors", "A", lambda tensors: None)
    rewrite(tmp_path, three / "B.safetensors", "B", flatten)
    for text in ("merge(A, B, 0.35)", "slerp(A, B, 0.35)", "merge(A, B, 1)"):
        result = merged(text, tmp_path)[name]
        assert torch.equal(result, merged(text)[name])


def test_other_families_and_other_widths_are_refused_before_anything_is_written(three: Path, tmp_path: Path) -> None:
    rewrite(tmp_path, three / "A.safetensors", "A", lambda tensors: None)
    write_tiny(tmp_path / "B.safetensors", Family.SD2)
    with pytest.raises(TensorMismatch, match="'A' is SD1 and 'B' is SD2"), opened("merge(A, B, 0.3)", tmp_path):
        pass

    def widen(tensors: dict[str, Tensor]) -> None:
        tensors[QUERY] = torch.zeros(8, 8)

    rewrite(tmp_path, three / "C.safetensors", "C", widen)
    with pytest.raises(TensorMismatch, match="shapes"), opened("merge(A, C, 0.3)", tmp_path):
        pass


def test_another_prediction_is_a_note(tmp_path: Path) -> None:
    write_tiny(tmp_path / "A.safetensors", Family.SDXL)
    write_tiny(tmp_path / "B.safetensors", Family.SDXL, prediction=Prediction.V)
    with opened("merge(A, B, 0.3)", tmp_path) as merge:
        assert any("predicts v" in note for note in merge.notes)
        assert merge.config.prediction is Prediction.EPSILON
        assert "v_pred" not in merge.names


@pytest.mark.parametrize("family", list(Family))
def test_models_of_every_family_merge_and_are_still_of_it(tmp_path: Path, written: Run, family: Family) -> None:
    config = write_tiny(tmp_path / "A.safetensors", family)
    write_tiny(tmp_path / "B.safetensors", family, seed=1)
    written("merge(A, B, 0.3, mbw=GRAD_A)", tmp_path)
    with open_checkpoint(tmp_path / "out.safetensors") as checkpoint:
        assert detect_checkpoint(checkpoint) == config
