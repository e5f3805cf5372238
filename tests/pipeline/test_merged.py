"""Recipes as models: the picture of the written file to the bit, under LoRAs and in plots too, and found again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hayate.errors import UsageError
from hayate.pipeline.axes import Cell, cells, parse_axis
from hayate.pipeline.infotext import parse_infotext
from hayate.pipeline.pasted import paste_picture
from hayate.pipeline.players import model_paths
from hayate.pipeline.prepared import check_request
from hayate.pipeline.session import make_pictures
from hayate.pipeline.workspace import Workspace
from hayate.runtime.asked import Asked
from hayate.settings import Settings
from hayate.weights.merge import open_merge
from hayate.weights.merge_file import write_merge
from hayate.weights.merge_recipe import parse_recipe
from hayate.weights.merged import MergedModel
from tests.pipeline.several import SDP, made, pixels, request_for, same

HALF = "merge(base, other, 0.5)"
BLOCKS = 'merge(base, other, 0.3, mbw="IN01=0.9, OUT03-05=0, BASE=0.6")'
NESTED = "add_difference(base, merge(base, other, 0.4), copy, 0.7)"
WAYS = (
    HALF,
    BLOCKS,
    NESTED,
    'merge(base, other, 0.4, calc="cosineA")',
    "slerp(base, other, 0.25)",
    "lora(base, ink, 0.7)",
)


def written(recipe: str, own: Settings, path: Path) -> Path:
    """The merge as a file of float32."""
    files = {name: own.models_dir / f"{name}.safetensors" for name in ("base", "other", "copy")}
    loras = {"ink": own.lora_dir / "ink.safetensors"}
    with open_merge(parse_recipe(recipe), files.__getitem__, loras.__getitem__) as merge:
        write_merge(merge, path, dtype=torch.float32)
    return path


@pytest.mark.parametrize("recipe", WAYS)
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_recipe_makes_the_picture_of_the_file_to_the_bit(own: Settings, tmp_path: Path, recipe, dtype) -> None:
    path = written(recipe, own, tmp_path / "merged.safetensors")
    theirs = pixels(made(own, model=str(path), dtype=dtype))
    assert same(pixels(made(own, model=recipe, dtype=dtype)), theirs)
    assert not same(theirs, pixels(made(own, dtype=dtype)))


def test_every_ratio_of_a_plot_is_the_picture_of_its_own_file_and_nothing_is_written(
    own: Settings, workspace: Workspace, tmp_path: Path
) -> None:
    ratios = ("0", "0.25", "0.5", "1")
    axis = parse_axis("Checkpoint name=" + ",".join(f'"merge(base, other, {ratio})"' for ratio in ratios))
    assert axis.values == tuple(f"merge(base, other, {ratio})" for ratio in ratios)
    nothing = parse_axis(None)
    before = set(own.models_dir.rglob("*"))
    pictures = [
        pixels(make_pictures(cell.request, own, None, lambda *_: None, SDP, workspace=workspace))
        for _, cell in cells(Cell(request=request_for(), asked=Asked()), axis, nothing, nothing)
    ]
    for ratio, picture in zip(ratios, pictures, strict=True):
        path = written(f"merge(base, other, {ratio})", own, tmp_path / f"{ratio}.safetensors")
        assert same(picture, pixels(made(own, model=str(path))))
    assert same(pictures[0], pixels(made(own, model="base")))
    assert same(pictures[-1], pixels(made(own, model="other")))
    assert set(own.models_dir.rglob("*")) == before
    assert any(each.name == "merge" and each.active for each in workspace.evidence())


def test_a_lora_over_a_merge_is_one_over_its_file_and_leaves_no_trace(
    own: Settings, workspace: Workspace, tmp_path: Path
) -> None:
    files = {
        ratio: written(f"merge(base, other, {ratio})", own, tmp_path / f"{ratio}.safetensors") for ratio in (0.2, 0.8)
    }
    ink = ("sun <lora:ink:1>", "sun <lora:ink:0.5>")
    for ratio, prompt in [(0.2, ink[0]), (0.8, ink[0]), (0.2, ink[1]), (0.8, "sun")]:
        ours = made(own, workspace, model=f"merge(base, other, {ratio})", prompt=prompt)
        assert same(pixels(ours), pixels(made(own, model=str(files[ratio]), prompt=prompt)))


def test_the_text_names_the_recipe_and_the_picture_is_made_again_from_it(own: Settings) -> None:
    for recipe in (HALF, BLOCKS, 'merge(base, other, 0.5, mbw="' + ",".join(["0.25"] * 25) + '")'):
        report = made(own, model=recipe)
        path = report.pictures[0].path
        keys = parse_infotext(report.pictures[0].infotext).parameters
        assert len(keys["Model"]) <= 80
        assert keys.get("Merge recipe", keys["Model"]) == recipe
        assert len(keys["Model hash"]) == 10
        pasted = paste_picture(path, own)
        assert (pasted.request.model, pasted.notes) == (recipe, ())
        again = make_pictures(pasted.request, own, None, lambda *_: None, SDP)
        assert same(pixels(again), pixels(report))
        assert parse_infotext(again.pictures[0].infotext).parameters["Model hash"] == keys["Model hash"]


def test_a_picture_whose_inputs_are_other_files_now_says_so(own: Settings, tmp_path: Path, folder: Path) -> None:
    path = made(own, model=HALF).pictures[0].path
    elsewhere = tmp_path / "models"
    elsewhere.mkdir()
    (elsewhere / "base.safetensors").write_bytes((folder / "other.safetensors").read_bytes())
    (elsewhere / "other.safetensors").write_bytes((folder / "base.safetensors").read_bytes())
    pasted = paste_picture(path, replace(own, models_dir=elsewhere))
    assert pasted.request.model is None
    assert any("merge(base, other, 0.5)" in note for note in pasted.notes)


def test_a_merge_is_a_refiner_and_a_model_of_the_second_pass_too(own: Settings, workspace: Workspace) -> None:
    report = made(own, workspace, refiner=HALF, batch_count=2)
    assert parse_infotext(report.pictures[0].infotext).parameters["Refiner"].startswith(HALF + " [")
    assert same(pixels(report), pixels(made(own, refiner=HALF, batch_count=2)))
    ours = pixels(made(own, workspace, model="merge(base, other, 0.9)", refiner=HALF, batch_count=2))
    assert same(ours, pixels(made(own, model="merge(base, other, 0.9)", refiner=HALF, batch_count=2)))


@pytest.mark.parametrize(
    ("recipe", "near"),
    [("merg(base, other, 0.5)", "merge"), ("merge(base, othr, 0.5)", "other"), ("merge(base, other, 0.5", "bracket")],
)
def test_a_wrong_recipe_is_one_line_with_what_is_near(own: Settings, recipe: str, near: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_request(request_for(model=recipe), own, SDP)
    assert near in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_called_like_a_recipe_is_the_file(own: Settings, tmp_path: Path) -> None:
    path = tmp_path / "merge(base, other, 0.5).safetensors"
    path.write_bytes(b"")
    assert model_paths(request_for(model=HALF), replace(own, models_dir=tmp_path)) == {"base": path}
    assert isinstance(model_paths(request_for(model=HALF), own)["base"], MergedModel)
