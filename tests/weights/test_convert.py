"""What a conversion keeps, changes and drops, in safetensors and in pickled files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from hayate.errors import HayateError, OutputError, RefusedFormat, UnknownName, UsageError
from hayate.models.config import Family
from hayate.weights.convert import Conversion, Ema, Treatment, part_name
from hayate.weights.narrowing import cast, loss_of
from hayate.weights.read import open_checkpoint
from hayate.weights.rewrite import convert_file, extract_part, models_in, replace_part
from tests.tiny_models import write_tiny

UNET = "model.diffusion_model.out.2.weight"
TEXT = "cond_stage_model.transformer.text_model.final_layer_norm.weight"
IDS = "cond_stage_model.transformer.text_model.embeddings.position_ids"
VAE = "first_stage_model.quant_conv.weight"


def small() -> dict[str, torch.Tensor]:
    return {
        UNET: torch.randn(4, 4),
        TEXT: torch.randn(8),
        VAE: torch.randn(8, 8, 1, 1),
        "alphas_cumprod": torch.rand(1000),
    }


def made(path: Path, conversion: Conversion) -> dict[str, torch.Tensor]:
    target = path.with_name("made.safetensors")
    convert_file(path, target, conversion)
    return load_file(target)


@pytest.mark.parametrize(
    ("name", "is_zip"), [("a.ckpt", True), ("a.pt", False), ("a.SafeTensors", True), ("a", False)], ids=str
)
def test_pickles_become_safetensors_with_every_bit(name: str, is_zip: bool, tmp_path: Path) -> None:
    tensors = small() | {"half": torch.randn(3).half(), "strided": torch.randn(4, 3).T}
    path = tmp_path / name
    torch.save({"state_dict": tensors, "epoch": 3}, path, _use_new_zipfile_serialization=is_zip)
    before = path.read_bytes()
    found = made(path, Conversion())
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[key], each) and found[key].dtype == each.dtype for key, each in tensors.items())
    assert path.read_bytes() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted([name, "made.safetensors"])


def test_a_checkpoint_of_a_trainer_loses_its_optimizer(tmp_path: Path) -> None:
    """As Stable Diffusion 1.4's own, whose pickle names a class of PyTorch Lightning; it is not installed, nor run."""
    import pickle
    import sys
    import types

    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    callback = type("ModelCheckpoint", (), {"__module__": module.__name__})
    module.ModelCheckpoint = callback  # type: ignore[attr-defined]
    packages = ["pytorch_lightning", "pytorch_lightning.callbacks", module.__name__]
    path = tmp_path / "sd-v1-4.ckpt"
    try:
        for package in packages:
            sys.modules[package] = module if package == module.__name__ else types.ModuleType(package)
        state = {"state_dict": small(), "callbacks": {callback: {"best": torch.ones(3)}}}
        state["optimizer_states"] = [{"state": {0: {"exp_avg": torch.ones(10)}}}]  # type: ignore[assignment]
        state["loops"] = np.float64(0.5)  # type: ignore[assignment]
        torch.save(state, path, pickle_module=pickle)
    finally:
        for package in packages:
            sys.modules.pop(package, None)
    assert made(path, Conversion()).keys() == small().keys()


def test_a_pickle_that_would_run_something_is_refused_whatever_its_name(tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {canary}",)

    for name, is_zip in (("a.ckpt", True), ("a.pt", False), ("a.SafeTensors", True), ("renamed.safetensors", False)):
        path = tmp_path / name
        torch.save({"state_dict": small(), "evil": Evil()}, path, _use_new_zipfile_serialization=is_zip)
        with pytest.raises(RefusedFormat, match="it asks for"):
            convert_file(path, tmp_path / "made.safetensors", Conversion())
        assert [each.name for each in tmp_path.iterdir()] == [name]
        path.unlink()
    assert not canary.exists()


def test_averages_take_the_weights_place_or_go(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    average = torch.randn(4, 4)
    tensors = small() | {"model_ema.diffusion_modelout2weight": average, "model_ema.decay": torch.tensor(0.9)}
    save_file(tensors, path)
    only = made(path, Conversion(ema=Ema.ONLY))
    assert only.keys() == small().keys()
    assert torch.equal(only[UNET], average)
    assert torch.equal(only[TEXT], tensors[TEXT])
    (tmp_path / "made.safetensors").unlink()
    dropped = made(path, Conversion(ema=Ema.DROP))
    assert dropped.keys() == small().keys()
    assert torch.equal(dropped[UNET], tensors[UNET])
    (tmp_path / "made.safetensors").unlink()
    assert made(path, Conversion(ema=Ema.NONE)).keys() == tensors.keys()
    save_file(small(), path)
    with pytest.raises(UsageError, match="no averages"):
        convert_file(path, tmp_path / "b.safetensors", Conversion(ema=Ema.ONLY))


def test_each_part_has_its_own_treatment(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file(small(), path)
    parts = {"unet": Treatment.CONVERT, "text": Treatment.COPY, "vae": Treatment.DELETE, "other": Treatment.DELETE}
    found = made(path, Conversion(dtype="fp16", parts=parts))
    assert {name: each.dtype for name, each in found.items()} == {UNET: torch.float16, TEXT: torch.float32}
    with pytest.raises(UsageError, match="nothing"):
        convert_file(path, tmp_path / "b.safetensors", Conversion(parts=dict.fromkeys(parts, Treatment.DELETE)))


@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.int64])
def test_position_ids_are_whole_again(kind: torch.dtype, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file(small() | {IDS: (torch.arange(77)[None] * 0.9).to(kind)}, path)
    found = made(path, Conversion())[IDS]
    assert found.dtype is torch.int64
    assert found.tolist() == [list(range(77))]


@pytest.mark.parametrize(
    ("dtype", "kind"), [("fp32", torch.float32), ("fp16", torch.float16), ("bf16", torch.bfloat16)]
)
def test_weights_are_rounded_as_torch_rounds(dtype: str, kind: torch.dtype, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    tensors = small() | {"model.diffusion_model.count": torch.arange(3)}
    save_file(tensors, path)
    found = made(path, Conversion(dtype=dtype))
    for name in (UNET, TEXT, VAE):
        assert torch.equal(found[name], tensors[name].to(kind))
    assert torch.equal(found["model.diffusion_model.count"], torch.arange(3)), "whole numbers stay"


def test_fp8_is_for_the_large_matrices(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file(small(), path)
    found = made(path, Conversion(dtype="fp8"))
    assert found[UNET].dtype is torch.float8_e4m3fn
    assert (found[TEXT].dtype, found[VAE].dtype) == (torch.float16, torch.float16)
    convert_file(tmp_path / "made.safetensors", tmp_path / "wide.safetensors", Conversion(dtype="fp32"))
    assert torch.equal(load_file(tmp_path / "wide.safetensors")[UNET], found[UNET].float())


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.floats(width=32) | st.sampled_from([65504.0, 65519.9, 65520.0, 1e-8, 2.98e-8, 6e-8, -1e9, 0.0]), min_size=1
    )
)
def test_what_narrowing_loses_is_counted_as_numpy_counts_it(numbers: list[float]) -> None:
    wide = np.array(numbers, dtype=np.float32)
    with np.errstate(all="ignore"):
        narrow = wide.astype(np.float16)
    overflown = int((np.isfinite(wide) & ~np.isfinite(narrow)).sum())
    vanished = int(((wide != 0) & (narrow == 0)).sum())
    tensor = torch.from_numpy(wide)
    loss = loss_of("t", tensor, cast(tensor, "F16"))
    assert (overflown, vanished) == (0, 0) if loss is None else (loss.overflown, loss.vanished) == (overflown, vanished)


def test_losses_are_told_with_their_tensor(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    tensors = small()
    tensors[UNET] = torch.tensor([[1e6, 1e-9], [1.0, 0.0]])
    save_file(tensors, path)
    losses = convert_file(path, tmp_path / "b.safetensors", Conversion(dtype="fp16", parts={"other": Treatment.COPY}))
    assert [(loss.name, loss.overflown, loss.vanished) for loss in losses if loss.name == UNET] == [(UNET, 1, 1)]


@pytest.mark.parametrize(
    ("name", "part"),
    [
        (UNET, "unet"),
        ("model_ema.diffusion_modelout2weight", "unet"),
        (TEXT, "text"),
        ("conditioner.embedders.1.model.ln_final.bias", "text"),
        (VAE, "vae"),
        ("decoder.conv_in.weight", "vae"),
        ("alphas_cumprod", "other"),
        ("v_pred", "other"),
    ],
)
def test_names_tell_their_part(name: str, part: str) -> None:
    assert part_name(name) == part


def test_a_vae_is_baked_and_taken_out_again(tmp_path: Path) -> None:
    model, other, baked = tmp_path / "a.safetensors", tmp_path / "b.safetensors", tmp_path / "baked.safetensors"
    write_tiny(model, Family.SD1, seed=1)
    write_tiny(other, Family.SD1, seed=2)
    extract_part(other, "vae", tmp_path / "b.vae.safetensors")
    alone = load_file(tmp_path / "b.vae.safetensors")
    assert "decoder.conv_in.weight" in alone
    torch.save({"state_dict": alone}, tmp_path / "b.vae.pt")
    for giver in ("b.vae.safetensors", "b.vae.pt", "b.safetensors"):
        replace_part(model, "vae", tmp_path / giver, baked)
        found, own, theirs = load_file(baked), load_file(model), load_file(other)
        assert found.keys() == own.keys()
        for name, tensor in found.items():
            assert torch.equal(tensor, (theirs if part_name(name) == "vae" else own)[name])
        baked.unlink()


def test_a_part_of_another_architecture_is_refused(tmp_path: Path) -> None:
    write_tiny(tmp_path / "a.safetensors", Family.SD1)
    write_tiny(tmp_path / "b.safetensors", Family.SD2)
    for part in ("text", "unet"):
        with pytest.raises(UsageError, match=part):
            replace_part(tmp_path / "a.safetensors", part, tmp_path / "b.safetensors", tmp_path / "x.safetensors")
    extract_part(tmp_path / "a.safetensors", "text", tmp_path / "text.safetensors")
    with pytest.raises(UsageError, match="has no vae"):
        replace_part(tmp_path / "a.safetensors", "vae", tmp_path / "text.safetensors", tmp_path / "x.safetensors")
    assert not (tmp_path / "x.safetensors").exists()


def test_bad_targets_are_refused_and_nothing_changes(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file(small(), path)
    before = path.read_bytes()
    for target in (path, tmp_path / "none" / "b.safetensors"):
        with pytest.raises(OutputError):
            convert_file(path, target, Conversion())
    with pytest.raises(UsageError, match="there is no file"):
        convert_file(tmp_path / "none.ckpt", tmp_path / "b.safetensors", Conversion())
    with pytest.raises(UsageError, match="no diffusers folder"):
        convert_file(tmp_path, tmp_path / "b.safetensors", Conversion())
    for wrong in ({"dtype": "fp17"}, {"parts": {"unett": Treatment.COPY}}):
        with pytest.raises(UnknownName):
            Conversion(**wrong)  # type: ignore[arg-type]
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02", b"<html>", b"GGUF"])
def test_what_is_no_model_is_a_clean_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    path.write_bytes(content)
    with pytest.raises(HayateError) as caught:
        convert_file(path, tmp_path / "b.safetensors", Conversion())
    assert "\n" not in str(caught.value)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_folder_s_models_are_found_with_its_diffusers_folders(tmp_path: Path) -> None:
    write_tiny(tmp_path / "a.safetensors", Family.SD1)
    (tmp_path / "sub").mkdir()
    convert_file(tmp_path / "a.safetensors", tmp_path / "sub" / "folder", Conversion())
    torch.save(small(), tmp_path / "sub" / "b.ckpt")
    assert models_in(tmp_path) == [tmp_path / "a.safetensors", tmp_path / "sub" / "b.ckpt", tmp_path / "sub" / "folder"]


def test_metadata_stays_except_what_was_said_of_types(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file(small(), path, metadata={"modelspec.title": "x", "hayate.safe_types": '{"vae": "fp32"}'})
    made(path, Conversion(dtype="fp32"))
    with open_checkpoint(tmp_path / "made.safetensors") as checkpoint:
        assert dict(checkpoint.metadata) == {"format": "pt", "modelspec.title": "x"}
