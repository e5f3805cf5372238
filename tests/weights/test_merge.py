"""Merges of whole models: every tensor beside float64, what is copied, and what a file is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from hayate.errors import OutputError
from hayate.weights.detect import UNET_PREFIX, VAE_PREFIX
from hayate.weights.hashes import file_sha256
from hayate.weights.merge import Merge
from hayate.weights.merge_file import write_merge
from tests.weights.merges import CLIP, QUERY, Run, arrays, opened, rewrite


def test_a_weighted_sum_is_the_one_of_float64_in_every_tensor(three: Path, written: Run) -> None:
    result = written("merge(A, B, 0.35)", dtype=torch.float32)
    a, b = arrays(three, "A", "B")
    assert result.keys() == a.keys()
    for name, tensor in result.items():
        np.testing.assert_allclose(tensor.double().numpy(), 0.65 * a[name] + 0.35 * b[name], rtol=0, atol=1e-6)


def test_nested_expressions_are_rounded_once(three: Path, merged: Run) -> None:
    result = merged("add_difference(A, merge(B, C, 0.25), C, 0.7)")
    a, b, c = arrays(three, "A", "B", "C")
    for name, tensor in result.items():
        exact = a[name] + 0.7 * (0.75 * b[name] + 0.25 * c[name] - c[name])
        assert tensor.dtype == torch.float16
        np.testing.assert_allclose(tensor.double().numpy(), exact, rtol=2**-11 * 1.01, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_ends_are_the_inputs_to_the_bit(three: Path, written: Run, dtype: torch.dtype) -> None:
    for text, name in (("merge(A, B, 0)", "A"), ("merge(A, B, 1)", "B"), ("slerp(A, B, 1)", "B"), ("C", "C")):
        result = written(text, dtype=dtype)
        for key, tensor in load_file(three / f"{name}.safetensors").items():
            assert torch.equal(result[key], tensor.to(dtype))


def test_block_weights_and_rules_act_on_their_tensors_only(three: Path, merged: Run) -> None:
    result = merged('merge(A, B, 0, mbw="IN01=1", rules="IN01:attn2:0")')
    a, b = (load_file(three / f"{name}.safetensors") for name in "AB")
    for name, tensor in result.items():
        is_b = name.startswith(UNET_PREFIX + "input_blocks.1.") and "attn2" not in name
        assert torch.equal(tensor, (b if is_b else a)[name]), name
    assert not torch.equal(result[QUERY], a[QUERY])


@pytest.mark.parametrize("calc", ["cosineA", "cosineB"])
def test_cosine_merges_measure_both_models_and_leave_the_vae(three: Path, merged: Run, calc: str) -> None:
    result = merged(f"merge(A, B, 0.2, calc={calc})", dtype=torch.float32)
    a, b = arrays(three, "A", "B")
    found, own = {}, {}
    for name in a:
        if name.startswith(VAE_PREFIX):
            np.testing.assert_array_equal(result[name].double().numpy(), a[name])
            continue
        left, right = (each[name].reshape(len(each[name]), -1) for each in (a, b))
        cosines = (left * right).sum(0) / np.sqrt((left**2).sum(0) * (right**2).sum(0))
        if calc == "cosineA":
            left, right = (each / np.sqrt((each**2).sum(0)) for each in (left, right))
        whole = (left * right).sum() / np.sqrt((left**2).sum() * (right**2).sum())
        own[name] = (cosines + whole) / 2
        found[name] = cosines if calc == "cosineA" else own[name]
    everything = np.concatenate(list(found.values()))
    everything = everything[everything >= np.percentile(everything, 1, method="midpoint")]
    high = np.percentile(everything, 99, method="midpoint")
    low, high = everything.min(), everything[everything <= high].max()
    for name, similarity in own.items():
        share = np.clip((similarity - low) / (high - low) - 0.2, 0, 1).reshape(a[name].shape[1:])
        np.testing.assert_allclose(
            result[name].double().numpy(), b[name] * (1 - share) + a[name] * share, rtol=0, atol=2e-6
        )


def test_threads_that_need_what_is_measured_wait_for_the_one_that_measures(
    three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[object] = []
    similarities = Merge._similarities
    monkeypatch.setattr(Merge, "_similarities", lambda self, node: (measured.append(node), similarities(self, node))[1])
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        with opened("merge(A, merge(B, C, 0.4, calc=cosineA), 0.3, calc=cosineB)", three) as merge:
            write_merge(merge, tmp_path / "out.safetensors")
    finally:
        torch.set_num_threads(threads)
    assert len(measured) == len(set(map(id, measured))) == 2


def test_a_merge_of_a_model_with_itself_is_it_by_every_method(three: Path, merged: Run) -> None:
    a = load_file(three / "A.safetensors")
    calls = [f"merge(A, A, 0.3, calc={calc})" for calc in ("normal", "cosineA", "cosineB", "tensor", "tensor2")]
    calls += [f"add_difference(A, A, A, 0.7, calc={calc})" for calc in ("normal", "trainDifference", "extract")]
    calls += ["triple_sum(A, A, A, .2, .3)", "ties(A, A, 1)", "dare(A, A, 1)", "slerp(A, A, 0.4)", "scale(A, 1)"]
    for text in calls:
        result = merged(text)
        for name, tensor in result.items():
            torch.testing.assert_close(tensor, a[name], rtol=2**-10, atol=1e-6, msg=text)


def test_dare_is_the_same_for_a_seed_and_another_for_another(merged: Run) -> None:
    one, again, other = (merged(f"dare(A, B, 0.5, drop=0.8, seed={seed})")[QUERY] for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_positions_whole_numbers_and_markers_are_as(three: Path, tmp_path: Path, written: Run) -> None:
    def add(value: int) -> Callable[[dict[str, Tensor]], None]:
        def change(tensors: dict[str, Tensor]) -> None:
            tensors[CLIP + "embeddings.position_ids"] = torch.full((1, 77), value)
            tensors["model_ema.decay"] = torch.tensor(0.5)
            tensors["marker"] = torch.full((2,), float(value))

        return change

    for value, name in ((3, "A"), (4, "B")):
        rewrite(tmp_path, three / f"{name}.safetensors", name, add(value))
    result = written("merge(A, B, 0.5)", tmp_path)
    assert result[CLIP + "embeddings.position_ids"].eq(3).all()
    assert result[CLIP + "embeddings.position_ids"].dtype == torch.int64
    assert result["marker"].eq(3).all()
    assert not any(name.startswith("model_ema.") for name in result)


def test_no_input_is_written_over_and_none_changes(three: Path, written: Run) -> None:
    before = [file_sha256(three / f"{name}.safetensors") for name in "AB"]
    with opened("merge(A, B, 0.5)", three) as merge, pytest.raises(OutputError, match="one of the models"):
        write_merge(merge, three / "B.safetensors", may_replace=True)
    written("merge(A, B, 0.5)")
    assert [file_sha256(three / f"{name}.safetensors") for name in "AB"] == before


def test_what_is_interrupted_leaves_nothing(three: Path, tmp_path: Path) -> None:
    def stop(share: float) -> None:
        if share > 0.5:
            raise KeyboardInterrupt

    with opened("merge(A, B, 0.5)", three) as merge, pytest.raises(KeyboardInterrupt):
        write_merge(merge, tmp_path / "out.safetensors", on_share=stop)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_told(three: Path, tmp_path: Path) -> None:
    with opened("merge(A, B, 0.5)", three) as merge, pytest.raises(OutputError, match="no folder"):
        write_merge(merge, tmp_path / "nowhere" / "out.safetensors")


def test_as_many_tensors_are_made_as_there_are(three: Path, tmp_path: Path) -> None:
    shares: list[float] = []
    with opened("merge(A, B, 0.5)", three) as merge:
        write_merge(merge, tmp_path / "out.safetensors", on_share=shares.append)
        assert len(shares) == len(merge.names)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
