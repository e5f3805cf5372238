"""Merges of whole models: every tensor beside float64, what is copied, what is refused, and what a file says."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from hayate.errors import HayateError, OutputError, TensorMismatch, UsageError
from hayate.models.config import Family, Prediction
from hayate.weights.detect import UNET_PREFIX, VAE_PREFIX, detect_checkpoint
from hayate.weights.hashes import file_sha256, legacy_hash
from hayate.weights.merge import Merge, open_merge, write_merge
from hayate.weights.merge_metadata import merge_metadata
from hayate.weights.merge_recipe import parse_recipe
from hayate.weights.read import open_checkpoint
from tests.lora_files import MAKERS, Maker, save
from tests.tiny_models import write_tiny

CONV_IN = UNET_PREFIX + "input_blocks.0.0.weight"
QUERY = UNET_PREFIX + "input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"
CLIP = "cond_stage_model.transformer.text_model."
Run = Callable[..., dict[str, Tensor]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate("ABC"):
        write_tiny(folder / f"{name}.safetensors", Family.SD1, seed=seed, dtype=torch.float16)
    return folder


@pytest.fixture
def merged(folder: Path) -> Run:
    """Merges without a file."""

    def run(text: str, home: Path = folder, **how) -> dict[str, Tensor]:
        with opened(text, home) as merge:
            return dict(zip(merge.names, merge.get_all(merge.names, **how), strict=True))

    return run


@pytest.fixture
def written(folder: Path, tmp_path: Path) -> Run:
    """Merges into a file, and reads it with the library of the format."""

    def run(text: str, home: Path = folder, **how) -> dict[str, Tensor]:
        with opened(text, home) as merge:
            write_merge(merge, tmp_path / "out.safetensors", may_replace=True, **how)
        return load_file(tmp_path / "out.safetensors")

    return run


def opened(text: str, folder: Path):
    return open_merge(
        parse_recipe(text), lambda name: folder / f"{name}.safetensors", lambda name: folder / f"{name}.safetensors"
    )


def arrays(folder: Path, *names: str) -> list[dict[str, np.ndarray]]:
    return [
        {key: tensor.double().numpy() for key, tensor in load_file(folder / f"{name}.safetensors").items()}
        for name in names
    ]


def rewrite(folder: Path, source: Path, name: str, change: Callable[[dict[str, Tensor]], None]) -> None:
    tensors = load_file(source)
    change(tensors)
    save_file(tensors, folder / f"{name}.safetensors")


def test_a_weighted_sum_is_the_one_of_float64_in_every_tensor(folder: Path, written: Run) -> None:
    result = written("merge(A, B, 0.35)", dtype=torch.float32)
    a, b = arrays(folder, "A", "B")
    assert result.keys() == a.keys()
    for name, tensor in result.items():
        np.testing.assert_allclose(tensor.double().numpy(), 0.65 * a[name] + 0.35 * b[name], rtol=0, atol=1e-6)


def test_nested_expressions_are_rounded_once(folder: Path, merged: Run) -> None:
    result = merged("add_difference(A, merge(B, C, 0.25), C, 0.7)")
    a, b, c = arrays(folder, "A", "B", "C")
    for name, tensor in result.items():
        exact = a[name] + 0.7 * (0.75 * b[name] + 0.25 * c[name] - c[name])
        assert tensor.dtype == torch.float16
        np.testing.assert_allclose(tensor.double().numpy(), exact, rtol=2**-11 * 1.01, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_ends_are_the_inputs_to_the_bit(folder: Path, written: Run, dtype: torch.dtype) -> None:
    for text, name in (("merge(A, B, 0)", "A"), ("merge(A, B, 1)", "B"), ("slerp(A, B, 1)", "B"), ("C", "C")):
        result = written(text, dtype=dtype)
        for key, tensor in load_file(folder / f"{name}.safetensors").items():
            assert torch.equal(result[key], tensor.to(dtype))


def test_block_weights_and_rules_act_on_their_tensors_only(folder: Path, merged: Run) -> None:
    result = merged('merge(A, B, 0, mbw="IN01=1", rules="IN01:attn2:0")')
    a, b = (load_file(folder / f"{name}.safetensors") for name in "AB")
    for name, tensor in result.items():
        is_b = name.startswith(UNET_PREFIX + "input_blocks.1.") and "attn2" not in name
        assert torch.equal(tensor, (b if is_b else a)[name]), name
    assert not torch.equal(result[QUERY], a[QUERY])


@pytest.mark.parametrize("calc", ["cosineA", "cosineB"])
def test_cosine_merges_measure_both_models_and_leave_the_vae(folder: Path, merged: Run, calc: str) -> None:
    result = merged(f"merge(A, B, 0.2, calc={calc})", dtype=torch.float32)
    a, b = arrays(folder, "A", "B")
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


def test_a_merge_of_a_model_with_itself_is_it_by_every_method(folder: Path, merged: Run) -> None:
    a = load_file(folder / "A.safetensors")
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


def test_positions_whole_numbers_and_markers_are_as(folder: Path, tmp_path: Path, written: Run) -> None:
    def add(value: int) -> Callable[[dict[str, Tensor]], None]:
        def change(tensors: dict[str, Tensor]) -> None:
            tensors[CLIP + "embeddings.position_ids"] = torch.full((1, 77), value)
            tensors["model_ema.decay"] = torch.tensor(0.5)
            tensors["marker"] = torch.full((2,), float(value))

        return change

    for value, name in ((3, "A"), (4, "B")):
        rewrite(tmp_path, folder / f"{name}.safetensors", name, add(value))
    result = written("merge(A, B, 0.5)", tmp_path)
    assert result[CLIP + "embeddings.position_ids"].eq(3).all()
    assert result[CLIP + "embeddings.position_ids"].dtype == torch.int64
    assert result["marker"].eq(3).all()
    assert not any(name.startswith("model_ema.") for name in result)


def test_what_b_lacks_is_as_and_what_a_lacks_is_bs_with_a_note(folder: Path, tmp_path: Path, written: Run) -> None:
    lost = UNET_PREFIX + "out.2.bias"
    rewrite(tmp_path, folder / "A.safetensors", "A", lambda tensors: None)
    rewrite(tmp_path, folder / "B.safetensors", "B", lambda tensors: [tensors.pop(lost)].clear())
    a = load_file(folder / "A.safetensors")
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


def test_an_inpainting_model_keeps_its_channels_and_must_be_a(folder: Path, tmp_path: Path, merged: Run) -> None:
    for name in "BC":
        rewrite(tmp_path, folder / f"{name}.safetensors", name, lambda tensors: None)
    rewrite(tmp_path, folder / "A.safetensors", "A", wide)
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


def test_two_inpainting_models_are_merged_in_all_channels(folder: Path, tmp_path: Path, merged: Run) -> None:
    for name in "AB":
        rewrite(tmp_path, folder / f"{name}.safetensors", name, wide)
    a, b = arrays(tmp_path, "A", "B")
    result = merged("merge(A, B, 0.25)", tmp_path, dtype=torch.float32)[CONV_IN]
    np.testing.assert_allclose(result.double().numpy(), 0.75 * a[CONV_IN] + 0.25 * b[CONV_IN], rtol=0, atol=1e-6)


def test_a_file_with_the_oldest_names_meets_todays(folder: Path, tmp_path: Path, merged: Run) -> None:
    def age(tensors: dict[str, Tensor]) -> None:
        for name in [each for each in tensors if each.startswith(CLIP)]:
            tensors[name.replace("text_model.", "")] = tensors.pop(name)

    rewrite(tmp_path, folder / "A.safetensors", "A", age)
    rewrite(tmp_path, folder / "B.safetensors", "B", lambda tensors: None)
    result = merged("merge(A, B, 0.35)", tmp_path)
    wanted = merged("merge(A, B, 0.35)")
    assert result.keys() == wanted.keys()
    assert all(torch.equal(result[name], wanted[name]) for name in wanted)


def test_matrices_stored_as_kernels_are_matrices(folder: Path, tmp_path: Path, merged: Run) -> None:
    name = VAE_PREFIX + "encoder.mid.attn_1.q.weight"

    def flatten(tensors: dict[str, Tensor]) -> None:
        tensors[name] = tensors[name].flatten(1)

    rewrite(tmp_path, folder / "A.safetensors", "A", lambda tensors: None)
    rewrite(tmp_path, folder / "B.safetensors", "B", flatten)
    for text in ("merge(A, B, 0.35)", "slerp(A, B, 0.35)", "merge(A, B, 1)"):
        result = merged(text, tmp_path)[name]
        assert torch.equal(result, merged(text)[name])


def test_other_families_and_other_widths_are_refused_before_anything_is_written(folder: Path, tmp_path: Path) -> None:
    rewrite(tmp_path, folder / "A.safetensors", "A", lambda tensors: None)
    write_tiny(tmp_path / "B.safetensors", Family.SD2)
    with pytest.raises(TensorMismatch, match="'A' is SD1 and 'B' is SD2"), opened("merge(A, B, 0.3)", tmp_path):
        pass

    def widen(tensors: dict[str, Tensor]) -> None:
        tensors[QUERY] = torch.zeros(8, 8)

    rewrite(tmp_path, folder / "C.safetensors", "C", widen)
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


def test_the_metadata_are_a1111s(folder: Path, tmp_path: Path) -> None:
    def described(merge: Merge, name: str) -> Mapping[str, str]:
        metadata = merge_metadata(merge, name, torch.float16)
        write_merge(merge, tmp_path / f"{name}.safetensors", metadata=metadata)
        with safe_open(tmp_path / f"{name}.safetensors", "pt") as file:
            return file.metadata()

    text = f'add_difference({folder / "A.safetensors"}, "B", C, 0.35)'
    recipe = parse_recipe(text)
    with open_merge(recipe, lambda name: folder / f"{Path(name).stem}.safetensors", Path) as merge:
        metadata = described(merge, "first")
    recipe, models = (json.loads(metadata[key]) for key in ("sd_merge_recipe", "sd_merge_models"))
    files = [folder / f"{name}.safetensors" for name in "ABC"]
    hashes = [file_sha256(file) for file in files]
    assert [recipe[f"{rank}_model_hash"] for rank in ("primary", "secondary", "tertiary")] == hashes
    assert (recipe["interp_method"], recipe["multiplier"], recipe["save_as_half"]) == ("Add difference", 0.35, True)
    assert recipe["expression"] == 'add_difference(A.safetensors, "B", C, 0.35)'
    assert list(models) == hashes
    assert models[hashes[0]] == {"name": "A.safetensors", "legacy_hash": legacy_hash(files[0]), "sd_merge_recipe": None}
    with opened("merge(first, first, 0.5)", tmp_path) as merge:
        again = json.loads(described(merge, "second")["sd_merge_models"])
    first = file_sha256(tmp_path / "first.safetensors")
    assert list(again) == [first, *hashes]
    assert again[first]["sd_merge_recipe"] == recipe


def test_an_unusual_models_declaration_is_kept(folder: Path, tmp_path: Path) -> None:
    for name in "AB":
        declared = {"hayate.config": json.dumps({"prediction": "v"}), "secret": "x"}
        save_file(load_file(folder / f"{name}.safetensors"), tmp_path / f"{name}.safetensors", metadata=declared)
    with opened("merge(A, B, 0.5)", tmp_path) as merge:
        metadata = merge_metadata(merge, "out")
    assert json.loads(metadata["hayate.config"]) == {"prediction": "v"}
    assert "secret" not in metadata


def test_no_input_is_written_over_and_none_changes(folder: Path, written: Run) -> None:
    before = [file_sha256(folder / f"{name}.safetensors") for name in "AB"]
    with opened("merge(A, B, 0.5)", folder) as merge, pytest.raises(OutputError, match="one of the models"):
        write_merge(merge, folder / "B.safetensors", may_replace=True)
    written("merge(A, B, 0.5)")
    assert [file_sha256(folder / f"{name}.safetensors") for name in "AB"] == before


LAYERS = {
    "lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q": QUERY,
    "lora_unet_down_blocks_0_resnets_0_conv1": UNET_PREFIX + "input_blocks.1.0.in_layers.2.weight",
    "lora_unet_down_blocks_0_resnets_0_norm1": UNET_PREFIX + "input_blocks.1.0.in_layers.0.weight",
}


@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.title)
def test_loras_of_every_kind_are_added_to_the_clean_weights(
    folder: Path, tmp_path: Path, merged: Run, maker: Maker
) -> None:
    torch.manual_seed(0)
    shutil.copy(folder / "A.safetensors", tmp_path)
    (a,) = arrays(folder, "A")
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


def test_a_lora_inside_an_expression_acts_there_only(folder: Path, tmp_path: Path, merged: Run) -> None:
    for name in "AB":
        shutil.copy(folder / f"{name}.safetensors", tmp_path)
    a, b = arrays(folder, "A", "B")
    change = torch.randn(a[QUERY].shape)
    save(tmp_path / "x.safetensors", {next(iter(LAYERS)): {"diff": change}})
    result = merged("merge(A, lora(B, x, 2), 0.25)", tmp_path, dtype=torch.float32)
    for name, tensor in result.items():
        other = b[name] + (2 * change.double().numpy() if name == QUERY else 0)
        np.testing.assert_allclose(tensor.double().numpy(), 0.75 * a[name] + 0.25 * other, rtol=0, atol=1e-6)


def test_a_lora_for_another_family_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "A.safetensors", tmp_path)
    save(tmp_path / "x.safetensors", {"lora_unet_double_blocks_0_img_attn_qkv": {"diff": torch.zeros(4, 4)}})
    with pytest.raises(TensorMismatch, match="Flux"), opened("lora(A, x, 1)", tmp_path):
        pass


def test_what_is_interrupted_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    def stop(share: float) -> None:
        if share > 0.5:
            raise KeyboardInterrupt

    with opened("merge(A, B, 0.5)", folder) as merge, pytest.raises(KeyboardInterrupt):
        write_merge(merge, tmp_path / "out.safetensors", on_share=stop)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_told(folder: Path, tmp_path: Path) -> None:
    with opened("merge(A, B, 0.5)", folder) as merge, pytest.raises(OutputError, match="no folder"):
        write_merge(merge, tmp_path / "nowhere" / "out.safetensors")


def test_as_many_tensors_are_made_as_there_are(folder: Path, tmp_path: Path) -> None:
    shares: list[float] = []
    with opened("merge(A, B, 0.5)", folder) as merge:
        write_merge(merge, tmp_path / "out.safetensors", on_share=shares.append)
        assert len(shares) == len(merge.names)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


_LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
from hayate.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no such limit")
def test_a_disk_that_is_full_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    assert signal.SIGXFSZ
    words = ["models", "merge", "merge(A, B, 0.5)", "-o", str(tmp_path / "out"), "--models-dir", str(folder)]
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, *words],
        capture_output=True,
        text=True,
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")},
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("*out*"))
