"""What a file holds, and which files hold the same, whatever they are called and however they are ordered."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hayate.errors import BrokenFile
from hayate.models.config import Family
from hayate.weights import contents
from hayate.weights.contents import (
    expected_shapes,
    find_alike,
    find_vae,
    missing_and_extra,
    part_digest,
    part_of_name,
    part_sizes,
)
from hayate.weights.read import read_header
from tests.tiny_models import tiny_config, write_tiny

FAMILIES = [Family.SD1, Family.SD2, Family.SDXL, Family.SDXL_REFINER]
VAE = "first_stage_model."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, name in enumerate("ab"):
        write_tiny(tmp_path / f"{name}.safetensors", Family.SD1, seed=seed, dtype=torch.float16)
    return tmp_path


def rewritten(folder: Path, name: str, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    path = folder / f"{name}.safetensors"
    save_file({key: value.contiguous() for key, value in tensors.items()}, path, metadata=metadata)
    return path


def groups(folder: Path, cache: Path | None = None) -> set[tuple[bool, tuple[str, ...], frozenset[str]]]:
    found = find_alike(sorted(folder.glob("*.safetensors")), cache)
    return {(each.is_whole, each.parts, frozenset(path.stem for path in each.paths)) for each in found}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_whole_checkpoint_lacks_nothing_and_has_nothing_extra(tmp_path: Path, family: Family) -> None:
    write_tiny(tmp_path / "x.safetensors", family)
    tensors, config = read_header(tmp_path / "x.safetensors").tensors, tiny_config(family)
    assert missing_and_extra(tensors, config) == ((), ())
    sizes = part_sizes(tensors)
    assert set(sizes) >= {"unet", "text", "vae"}
    assert sum(each.size_bytes for each in sizes.values()) == sum(info.size_bytes for info in tensors.values())
    assert sum(each.tensors for each in sizes.values()) == len(tensors)
    assert expected_shapes(config).keys() >= {name for name in tensors if name.startswith("model.diffusion_model.")}


def test_what_is_missing_or_extra_is_named_and_known_companions_are_not(folder: Path) -> None:
    tensors = load_file(folder / "a.safetensors")
    gone = "model.diffusion_model.out.2.bias"
    del tensors[gone]
    tensors |= {"junk": torch.zeros(1), "model_ema.decay": torch.zeros(1), "betas": torch.zeros(1)}
    tensors["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(77)
    header = read_header(rewritten(folder, "odd", tensors))
    assert missing_and_extra(header.tensors, tiny_config(Family.SD1)) == ((gone,), ("junk",))
    assert part_sizes(header.tensors)["ema"].tensors == 1


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("model.diffusion_model.out.0.weight", "unet"),
        ("cond_stage_model.model.ln_final.weight", "text"),
        ("conditioner.embedders.1.model.logit_scale", "text"),
        ("first_stage_model.quant_conv.weight", "vae"),
        ("decoder.conv_in.weight", "vae"),
        ("model_ema.decay", "ema"),
        ("alphas_cumprod", "other"),
    ],
)
def test_the_part_of_a_name(name: str, part: str) -> None:
    assert part_of_name(name) == part


def test_the_same_tensors_are_found_in_another_order_and_with_other_metadata(folder: Path) -> None:
    tensors = load_file(folder / "a.safetensors")
    rewritten(folder, "copy", dict(reversed(tensors.items())), {"title": "mine"})
    assert groups(folder) == {(True, ("unet", "text", "vae"), frozenset({"a", "copy"}))}


def test_the_same_unet_with_another_vae_is_told(folder: Path) -> None:
    a, b = (load_file(folder / f"{name}.safetensors") for name in "ab")
    rewritten(folder, "mixed", {name: (b if name.startswith(VAE) else a)[name] for name in a})
    assert groups(folder) == {
        (False, ("unet", "text"), frozenset({"a", "mixed"})),
        (False, ("vae",), frozenset({"b", "mixed"})),
    }


def test_one_bit_is_another_model(folder: Path) -> None:
    tensors = load_file(folder / "a.safetensors")
    name = "model.diffusion_model.out.2.bias"
    tensors[name].view(torch.int16)[0] ^= 1
    rewritten(folder, "near", tensors)
    assert groups(folder) == {(False, ("text", "vae"), frozenset({"a", "near"}))}


def test_another_type_is_no_duplicate_and_a_broken_file_is_passed_over(folder: Path) -> None:
    rewritten(folder, "wide", {name: each.float() for name, each in load_file(folder / "a.safetensors").items()})
    (folder / "page.safetensors").write_text("<!doctype html>")
    assert groups(folder) == set()


def test_a_part_is_read_once_and_then_known(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rewritten(folder, "copy", load_file(folder / "a.safetensors"))
    cache = tmp_path / "cache"
    found = groups(folder, cache)
    monkeypatch.setattr(contents, "open_checkpoint", None)  # nothing could be read any more
    assert groups(folder, cache) == found
    monkeypatch.undo()
    tensors = load_file(folder / "b.safetensors")
    rewritten(folder, "copy", tensors)  # a file that is another one now
    assert groups(folder, cache) == {(True, ("unet", "text", "vae"), frozenset({"b", "copy"}))}


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_the_vae_inside_is_known_by_its_numbers(folder: Path, dtype: torch.dtype) -> None:
    inside = {n.removeprefix(VAE): t for n, t in load_file(folder / "b.safetensors").items() if n.startswith(VAE)}
    alone = rewritten(folder, "alone", {name: each.to(dtype) for name, each in inside.items()})
    (folder / "page.safetensors").write_text("<!doctype html>")
    others = [alone, folder / "a.safetensors", folder / "page.safetensors"]
    assert find_vae(folder / "b.safetensors", others) == (alone,)
    assert find_vae(folder / "a.safetensors", [alone]) == ()


def test_a_broken_file_has_no_digest(folder: Path) -> None:
    (folder / "short.safetensors").write_bytes((folder / "a.safetensors").read_bytes()[:5000])
    with pytest.raises(BrokenFile):
        part_digest(folder / "short.safetensors", "vae")
