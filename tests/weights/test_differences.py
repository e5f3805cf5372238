"""Differences of two models against float64 sums by numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from hayate.errors import TensorMismatch
from hayate.models.config import Family
from hayate.weights.differences import Differences, differences
from hayate.weights.merged import find_source, open_source
from hayate.weights.read import open_checkpoint
from tests.tiny_models import write_tiny

UNET = "model.diffusion_model."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate("ab"):
        write_tiny(folder / f"{name}.safetensors", Family.SD1, seed=seed, dtype=torch.float16)
    write_tiny(folder / "x.safetensors", Family.SDXL, seed=3, dtype=torch.float16)
    return folder


def between(a: Path, b: Path) -> Differences:
    with open_checkpoint(a) as ours, open_checkpoint(b) as theirs:
        return differences(ours, theirs)


def reference(folder: Path, starts: tuple[str, ...]) -> float:
    a, b = (load_file(folder / f"{name}.safetensors") for name in "ab")
    names = [name for name in a if name.startswith(starts)]
    ours, theirs = (np.concatenate([m[name].double().numpy().ravel() for name in names]) for m in (a, b))
    return float(np.linalg.norm(theirs - ours) / np.linalg.norm(ours))


def test_blocks_and_parts_are_the_norms_of_numpy(folder: Path) -> None:
    found = between(folder / "a.safetensors", folder / "b.safetensors")
    assert len(found.blocks) == 25
    blocks = {
        "IN00": ("input_blocks.0.", "time_embed."),
        "IN04": ("input_blocks.4.",),
        "M00": ("middle_block.",),
        "OUT03": ("output_blocks.3.",),
    }
    for block, starts in blocks.items():
        wanted = reference(folder, tuple(UNET + start for start in starts))
        assert found.blocks[block].relative == pytest.approx(wanted, rel=1e-6)
    for part, start in (("unet", UNET), ("text", "cond_stage_model."), ("vae", "first_stage_model.")):
        assert found.parts[part].relative == pytest.approx(reference(folder, (start,)), rel=1e-6)
        assert found.parts[part].changed == found.parts[part].tensors > 0


@pytest.mark.parametrize("name", ["a", "x"])
def test_a_model_and_itself_do_not_differ(folder: Path, name: str) -> None:
    found = between(folder / f"{name}.safetensors", folder / f"{name}.safetensors")
    assert found.is_none
    assert {each.relative for each in (*found.blocks.values(), *found.parts.values())} == {0.0}
    assert len(found.blocks) == (25 if name == "a" else 19)


def test_a_merge_is_as_far_from_its_first_model_as_its_ratio_says(folder: Path) -> None:
    source = find_source('merge(a, b, 0, mbw="IN01=0.25")', folder)
    with open_checkpoint(folder / "a.safetensors") as a, open_source(source) as merged:
        found = differences(a, merged)
    assert [block for block, each in found.blocks.items() if each.changed] == ["IN01"]
    whole = reference(folder, (f"{UNET}input_blocks.1.",))
    assert found.blocks["IN01"].relative == pytest.approx(0.25 * whole, rel=2e-3)  # the merge is rounded to fp16


def test_what_only_one_has_or_has_otherwise_is_named(folder: Path, tmp_path: Path) -> None:
    tensors = load_file(folder / "a.safetensors")
    name = UNET + "input_blocks.0.0.weight"
    tensors[name] = torch.cat([tensors[name], tensors[name]], dim=1)
    gone = UNET + "out.2.bias"
    del tensors[gone]
    save_file({**tensors, "more": torch.ones(1)}, tmp_path / "odd.safetensors")
    found = between(folder / "a.safetensors", tmp_path / "odd.safetensors")
    assert (found.only_a, found.only_b, found.other_shape) == ((gone,), ("more",), (name,))
    assert not found.is_none


def test_a_difference_too_small_for_a_square_still_counts(folder: Path, tmp_path: Path) -> None:
    tensors = {name: each.float() for name, each in load_file(folder / "a.safetensors").items()}
    save_file(tensors, tmp_path / "one.safetensors")
    tensors[UNET + "out.2.bias"] = tensors[UNET + "out.2.bias"] * 0 + 1e-30
    save_file(tensors, tmp_path / "two.safetensors")
    tensors[UNET + "out.2.bias"] = tensors[UNET + "out.2.bias"] * 2
    save_file(tensors, tmp_path / "three.safetensors")
    found = between(tmp_path / "two.safetensors", tmp_path / "three.safetensors")
    assert found.blocks["OUT11"].changed == 1
    assert not found.is_none


def test_other_families_are_one_line(folder: Path) -> None:
    with pytest.raises(TensorMismatch, match=r"sdxl.*sd1|sd1.*sdxl"):
        between(folder / "a.safetensors", folder / "x.safetensors")
