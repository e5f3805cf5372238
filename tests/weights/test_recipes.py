"""Saved recipes as names of models: from files, from merged models' metadata, inside each other; what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hayate.errors import BrokenFile, HayateError, OutputError, UnknownName, UsageError
from hayate.models.config import Family
from hayate.weights.merge_recipe import parse_recipe
from hayate.weights.merged import MergedModel, find_source, open_merged, source_hash
from hayate.weights.recipes import MODELS, RECIPE, full_recipe, read_recipe, save_recipe, text_in
from tests.tiny_models import write_tiny

HALF = "merge(one, two v1.5, 0.5)"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, name in enumerate(("one", "two v1.5")):
        write_tiny(tmp_path / f"{name}.safetensors", Family.SD1, seed=seed, dtype=torch.float16)
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "half.recipe").write_text(f"  {HALF}\n", encoding="utf-8")
    return tmp_path


def found(name: str, folder: Path, **how: bool) -> MergedModel:
    source = find_source(name, folder, **how)
    assert isinstance(source, MergedModel)
    return source


@pytest.mark.parametrize("name", ["half", "HALF", "inner/half", "half.recipe", "inner\\half.recipe"])
def test_a_recipe_is_found_by_the_names_that_a_model_would_be(folder: Path, name: str) -> None:
    assert found(name, folder) == found(HALF, folder)
    assert source_hash(found(name, folder)) == source_hash(found(HALF, folder))


def test_a_recipe_is_found_by_its_path_but_not_for_a_servers_callers(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    path = elsewhere / "x.recipe"
    save_recipe(parse_recipe(HALF), path)
    assert found(str(path), folder) == found(HALF, folder)
    for name in (str(path), "../x", "../elsewhere/x.recipe"):
        with pytest.raises(UnknownName):
            find_source(name, folder / "inner", allows_paths=False)
    with pytest.raises(UnknownName, match="'one'"):  # its models are looked for in the folder
        find_source(str(path), folder / "inner")


def test_recipes_stand_in_recipes_and_are_written_out(folder: Path) -> None:
    (folder / "both.recipe").write_text('add_difference(half, one, "half", 0.5, mbw="IN01=0.2")', encoding="utf-8")
    wanted = f'scale( add_difference({HALF}, one, {HALF}, 0.5, mbw="IN01=0.2") , 2)'
    full = full_recipe("scale( both , 2)", folder)
    assert full == parse_recipe(full.text)
    assert full.root == parse_recipe(wanted).root
    assert found("scale(both, 2)", folder).inputs == (folder / "one.safetensors", folder / "two v1.5.safetensors")


def test_a_model_goes_before_a_recipe_of_its_name(folder: Path) -> None:
    (folder / "one.recipe").write_text(HALF, encoding="utf-8")
    assert find_source("one", folder) == folder / "one.safetensors"
    assert found("one.recipe", folder).text == HALF
    assert full_recipe("merge(one, half, 0.5)", folder).text == f"merge(one, {HALF}, 0.5)"


def test_the_tensors_are_those_of_the_expression(folder: Path) -> None:
    with open_merged(found("half", folder)) as ours, open_merged(found(HALF, folder)) as theirs:
        name = "model.diffusion_model.out.2.weight"
        assert torch.equal(ours.get(name), theirs.get(name))


def annotated(folder: Path, name: str, recipe: object, models: object = None) -> Path:
    texts = {RECIPE: recipe, MODELS: models}
    path = folder / f"{name}.safetensors"
    metadata = {key: value if isinstance(value, str) else json.dumps(value) for key, value in texts.items()}
    save_file(load_file(folder / "one.safetensors"), path, metadata=metadata)
    return path


A1111 = {
    "type": "webui",
    "primary_model_hash": "a" * 64,
    "secondary_model_hash": "b" * 64,
    "tertiary_model_hash": None,
    "interp_method": "Weighted sum",
    "multiplier": 0.5,
    "bake_in_vae": None,
    "discard_weights": "",
}
THEIR_MODELS = {"a" * 64: {"name": "old\\one.safetensors"}, "b" * 64: {"name": "two v1.5.safetensors"}}


def test_what_a_merged_model_says_of_itself_is_a_recipe(folder: Path) -> None:
    annotated(folder, "ours", {"type": "hayate", "expression": HALF})
    assert found("recipe(ours)", folder) == found(HALF, folder)
    assert full_recipe("merge(recipe( ours ), one, 0.25)", folder).text == f"merge({HALF}, one, 0.25)"
    annotated(folder, "theirs", A1111, THEIR_MODELS)
    source = found("recipe(theirs)", folder)
    assert source.text == "merge(one.safetensors, two v1.5.safetensors, 0.5)"
    assert source.inputs == found(HALF, folder).inputs


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bake_in_vae": "x.vae.pt"}, "bake"),
        ({"discard_weights": "text.*"}, "discard_weights"),
        ({"interp_method": "by heart"}, "does not tell"),
        ({"secondary_model_hash": "c" * 64}, "does not tell"),
        ({"multiplier": None}, "merge"),
        ({"multiplier": {"x": 1}}, "character"),
    ],
)
def test_a_recipe_of_a1111_that_no_expression_can_say_is_one_line(folder: Path, change: dict, said: str) -> None:
    annotated(folder, "theirs", A1111 | change, THEIR_MODELS)
    with pytest.raises(HayateError, match=said) as caught:
        find_source("recipe(theirs)", folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("recipe", ["no JSON {", "[1]", '"text"', "null"])
def test_a_model_without_a_recipe_says_so(folder: Path, recipe: str) -> None:
    path = annotated(folder, "plain", recipe)
    with pytest.raises(UsageError, match="no recipe in its metadata"):
        text_in(path)


@pytest.mark.parametrize(
    ("content", "kind", "said"),
    [
        (b"", BrokenFile, "is empty"),
        (b"\xff\xfe\x00", BrokenFile, "is no text"),
        (b"merge(one, tow v1.5, 0.5)", UnknownName, "two v1.5"),
        (b"merge(one, hlf, 0.5)", UnknownName, "inner/half"),
        (b"merge(one, 0.5", UsageError, "bracket"),
        (b"merge(one, wrong, 0.5)", UsageError, "itself"),
        (b"merge(wrong, wrong, 0.5)", UsageError, "itself"),
        (b"x" * 30_000, UsageError, "characters"),
    ],
)
def test_a_wrong_recipe_is_one_line(folder: Path, content: bytes, kind: type[HayateError], said: str) -> None:
    (folder / "wrong.recipe").write_bytes(content)
    with pytest.raises(kind, match=said) as caught:
        find_source("wrong", folder)
    assert "\n" not in str(caught.value)


def test_a_misspelt_name_is_told_the_recipes_too(folder: Path) -> None:
    with pytest.raises(UnknownName) as caught:
        find_source("hall", folder)
    assert "inner/half" in caught.value.nearest


def test_a_recipe_is_saved_whole_and_over_nothing(folder: Path) -> None:
    path = folder / "new.recipe"
    save_recipe(parse_recipe(HALF), path)
    assert read_recipe(path) == HALF
    with pytest.raises(OutputError, match="is there already"):
        save_recipe(parse_recipe("one"), path)
    with pytest.raises(OutputError, match="ending"):
        save_recipe(parse_recipe("one"), folder / "new.txt")
    assert read_recipe(path) == HALF
