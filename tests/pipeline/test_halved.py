"""A halved model is tried out; what it needs is in its header, and the next load goes by it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hayate.engines.base import Part
from hayate.models.config import Family
from hayate.pipeline.halved import probe_halved
from hayate.pipeline.safe_types import SafeTypes
from hayate.runtime.precision import Precision
from hayate.weights.convert import Conversion
from hayate.weights.learnt_types import SAFE_TYPES
from hayate.weights.read import read_header
from hayate.weights.rewrite import convert_file
from tests.pipeline.faulty import write_overflowing
from tests.tiny_models import write_tiny

HALF = Precision(unet=torch.float16, text=torch.float16, vae=torch.float16, reason="a test")
FP16 = Conversion(dtype="fp16")


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_a_part_that_overflows_is_loaded_in_a_type_that_does_not(part: Part, tmp_path: Path) -> None:
    wide, half = tmp_path / "wide.safetensors", tmp_path / "half.safetensors"
    write_overflowing(wide, part)
    losses = convert_file(wide, half, FP16, finish=lambda path: probe_halved(path).metadata)
    assert not any(loss.overflown for loss in losses), "the weights themselves fit into fp16"
    said = json.loads(read_header(half).metadata[SAFE_TYPES])
    assert said.keys() == {part}
    files: dict[Part, Path] = {"unet": half, "text": half, "vae": half}
    precision, notes = SafeTypes(path=tmp_path / "none.json", files=files).applied_to(HALF)
    for each in ("unet", "text", "vae"):
        assert (getattr(precision, each) is torch.float16) == (each != part)
    assert len(notes) == 1
    assert all("says so" in note for note in notes)


def test_weights_out_of_reach_are_counted_and_the_probe_says_that_no_type_helps(tmp_path: Path) -> None:
    wide, half = tmp_path / "wide.safetensors", tmp_path / "half.safetensors"
    write_overflowing(wide, "text")
    tensors = load_file(wide)
    name = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
    expected = int((tensors[name].abs() >= 65520).sum())
    assert expected > 0
    losses = convert_file(wide, half, FP16)
    assert {loss.name: loss.overflown for loss in losses if loss.overflown} == {name: expected}
    assert probe_halved(half).broken == ("text",)


def test_a_sound_model_stays_as_it_was_asked_for(tmp_path: Path) -> None:
    write_tiny(tmp_path / "a.safetensors", Family.SDXL)
    found = probe_halved(tmp_path / "a.safetensors")
    assert (found.safe, found.broken) == ({}, ())
    assert all(0 < difference < 0.02 for difference in found.differences.values())


@pytest.mark.parametrize("content", ["", "[]", "{", '{"vae": 3}', '{"vae": "fp99"}', "[" * 100_000])
def test_a_header_that_makes_no_sense_says_nothing(content: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"w": torch.ones(1)}, path, metadata={SAFE_TYPES: content})
    safe = SafeTypes(path=tmp_path / "none.json", files={"vae": path})
    assert safe.applied_to(HALF) == (HALF, [])
