"""What a merged file says of how it was made, and that it can be read again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from hayate.weights.hashes import file_sha256, legacy_hash
from hayate.weights.merge import Merge, open_merge
from hayate.weights.merge_file import write_merge
from hayate.weights.merge_metadata import merge_metadata
from hayate.weights.merge_recipe import parse_recipe
from tests.weights.merges import opened


def test_the_metadata_are_a1111s(three: Path, tmp_path: Path) -> None:
    def described(merge: Merge, name: str) -> Mapping[str, str]:
        metadata = merge_metadata(merge, name, torch.float16)
        write_merge(merge, tmp_path / f"{name}.safetensors", metadata=metadata)
        with safe_open(tmp_path / f"{name}.safetensors", "pt") as file:
            return file.metadata()

    text = f'add_difference({three / "A.safetensors"}, "B", C, 0.35)'
    recipe = parse_recipe(text)
    with open_merge(recipe, lambda name: three / f"{Path(name).stem}.safetensors", Path) as merge:
        metadata = described(merge, "first")
    recipe, models = (json.loads(metadata[key]) for key in ("sd_merge_recipe", "sd_merge_models"))
    files = [three / f"{name}.safetensors" for name in "ABC"]
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


def test_an_unusual_models_declaration_is_kept(three: Path, tmp_path: Path) -> None:
    for name in "AB":
        declared = {"hayate.config": json.dumps({"prediction": "v"}), "secret": "x"}
        save_file(load_file(three / f"{name}.safetensors"), tmp_path / f"{name}.safetensors", metadata=declared)
    with opened("merge(A, B, 0.5)", tmp_path) as merge:
        metadata = merge_metadata(merge, "out")
    assert json.loads(metadata["hayate.config"]) == {"prediction": "v"}
    assert "secret" not in metadata
