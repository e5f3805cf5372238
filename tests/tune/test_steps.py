"""The step-saver: its pictures are generate's, its winner is within the bound, and fewer is never worse than told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from hayate.bench.equivalence import compare
from hayate.cli.main import main
from hayate.errors import UsageError
from hayate.models.config import Family
from hayate.pipeline.session import make_pictures
from hayate.request import TextToImage
from hayate.runtime.asked import Asked
from hayate.settings import Settings, load_settings
from hayate.tune.steps import LADDER, Saved, Saving, curve, described, save_steps, sheet
from tests.tiny_models import write_tiny


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return load_settings({"cache_dir": tmp_path_factory.mktemp("cache")}, environment={})


@pytest.fixture(scope="module")
def saving(tmp_path_factory: pytest.TempPathFactory) -> Saving:
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    write_tiny(path, Family.SD1)
    request = TextToImage(prompt="a red sun", model=str(path), width_px=64, height_px=64, seed=5, sampler="Euler")
    return Saving(request=request, reference_steps=24, min_ssim=0.8)


@pytest.fixture(scope="module")
def saved(saving: Saving, settings: Settings) -> Saved:
    return save_steps(saving, settings, Asked())


def test_every_picture_is_the_one_that_generate_makes(
    saved: Saved, saving: Saving, settings: Settings, tmp_path: Path
) -> None:
    reference = np.asarray(saved.reference.picture)
    for each in (saved.reference, saved.tried[0], saved.tried[-1]):
        request = replace(saving.request, sampler=each.sampler, scheduler=each.schedule, steps=each.steps)
        report = make_pictures(request, settings, tmp_path / f"{each.steps}-{each.title}", lambda *_: None, Asked())
        expected = np.asarray(Image.open(report.pictures[0].path))
        assert np.array_equal(np.asarray(each.picture), expected)
        assert each.difference == compare(expected[None], reference[None])


def test_the_best_is_within_the_bound_and_nothing_cheaper_was(saved: Saved, saving: Saving) -> None:
    within = [each for each in saved.tried if each.difference.ssim >= saving.min_ssim]
    if not within:
        assert saved.best is None
        return
    assert saved.best is not None
    assert saved.best.evaluations == min(each.evaluations for each in within)
    assert saved.best.evaluations < saved.reference.evaluations


def test_a_bound_that_all_pictures_meet_gives_the_fewest_steps(saving: Saving, settings: Settings) -> None:
    found = save_steps(replace(saving, min_ssim=1e-6, has_rivals=False), settings, Asked())
    assert found.best is not None
    assert found.best.steps == LADDER[0]
    assert len(found.tried) == 1


def test_a_sampler_with_fresh_noise_has_no_rivals(saving: Saving, settings: Settings) -> None:
    request = replace(saving.request, sampler="Euler a")
    found = save_steps(replace(saving, request=request, reference_steps=6), settings, Asked())
    assert {each.sampler for each in found.tried} == {"Euler a"}


def test_a_spent_budget_ends_the_search_and_is_said(saving: Saving, settings: Settings) -> None:
    found = save_steps(replace(saving, budget_s=1e-9), settings, Asked())
    assert found.is_cut_short
    assert not found.tried
    assert any("budget" in line for line in described(found, saving))


def test_sheet_and_curve_show_every_picture(saved: Saved) -> None:
    count = 1 + len(saved.tried)
    picture = sheet(saved)
    assert picture.width * picture.height >= count * 64 * 64
    text = "".join(ElementTree.fromstring(curve(saved)).itertext())
    assert all(title in text for title in {each.title for each in saved.tried})


@pytest.mark.parametrize("change", [{"min_ssim": 0.0}, {"min_ssim": 1.0}, {"reference_steps": 4}])
def test_what_can_not_be_is_refused(saving: Saving, settings: Settings, change: dict) -> None:
    with pytest.raises(UsageError):
        save_steps(replace(saving, **change), settings, Asked())


def test_the_command_writes_both_and_refuses_another_kind_of_file(
    saving: Saving, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["tune", "steps", "a red sun", "--model", str(saving.request.model), "--size", "64x64", "--no-rivals"]
    words += ["--reference-steps", "6"]
    assert main([*words, "-o", str(tmp_path / "s.jpg")]) == 2
    assert ".png" in capsys.readouterr().err
    assert main([*words, "-o", str(tmp_path / "s.png")]) == 0
    assert Image.open(tmp_path / "s.png").format == "PNG"
    assert (tmp_path / "s.svg").exists()
