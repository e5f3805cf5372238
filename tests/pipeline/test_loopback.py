"""Loopback: the same pictures as img2img commands one after the other, with A1111's seeds and strengths."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from hayate.cli.main import main
from hayate.errors import UnknownName, UsageError
from hayate.models.config import Family
from hayate.pipeline.infotext import parse_infotext
from hayate.pipeline.loopback import loopback
from hayate.pipeline.loops import CURVES, Loops, check_loops
from hayate.pipeline.pictures import IMAGE_HASH, pixel_hash
from hayate.pipeline.session import Maker, make_pictures
from hayate.pipeline.workspace import Workspace
from hayate.request import StartImage, TextToImage
from hayate.settings import Settings, load_settings
from tests.tiny_models import write_tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    write_tiny(path, Family.SD1)
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "start.png"
    drawn = Image.new("RGB", (72, 64), "navy")
    ImageDraw.Draw(drawn).ellipse((10, 10, 50, 50), fill="orange")
    drawn.save(path)
    return path


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings({"cache_dir": tmp_path / "cache", "outputs_dir": tmp_path / "out"}, environment={})


def request_for(model: Path, picture: Path, **more: object) -> TextToImage:
    words = {"prompt": "a red sun", "steps": 4, "seed": 7, "sampler": "Euler a", "model": str(model)}
    start = StartImage(path=str(picture), denoising=0.75)
    return TextToImage(**{**words, "start": start, **more})


def silent(done: int, rows: int) -> None:
    pass


def maker(settings: Settings, workspace: Workspace) -> Maker:
    return Maker(settings=settings, workspace=workspace, on_row=silent)


def test_strengths_are_those_of_the_curves() -> None:
    halfway = {"linear": 0.5, "aggressive": 2**-0.5, "lazy": 1 - 2**-0.5}
    for curve, share in halfway.items():
        loops = Loops(count=5, final_denoising=0.3, curve=curve)
        assert loops.denoising_at(2, 0.7) == pytest.approx(0.7 - 0.4 * share, abs=1e-12)
    assert Loops(count=1).denoising_at(0, 0.9) == 0.9


@given(
    curve=st.sampled_from(sorted(CURVES)),
    count=st.integers(2, 30),
    first=st.floats(0, 1),
    final=st.floats(0, 1),
)
def test_strengths_go_from_the_first_to_the_final_one(curve: str, count: int, first: float, final: float) -> None:
    loops = Loops(count=count, final_denoising=final, curve=curve)
    found = [loops.denoising_at(loop, first) for loop in range(count)]
    assert found[0] == pytest.approx(first, abs=1e-12)
    assert found[-1] == pytest.approx(final, abs=1e-12)
    steps = np.diff(found) * (1 if final >= first else -1)
    assert (steps >= -1e-12).all()


def test_it_equals_img2img_of_each_file_by_hand(model: Path, picture: Path, settings: Settings) -> None:
    loops = Loops(count=3, final_denoising=0.25)
    request = request_for(model, picture)
    with Workspace(settings) as workspace:
        made = list(loopback(request, maker(settings, workspace), loops=loops))
    path = picture
    for each, denoising, seed in zip(made, (0.75, 0.5, 0.25), (7, 8, 9), strict=True):
        start = StartImage(path=str(path), denoising=denoising)
        alone = make_pictures(replace(request, start=start, seed=seed), settings, None, silent)
        path = each.report.pictures[0].path
        assert np.array_equal(np.asarray(Image.open(path)), np.asarray(Image.open(alone.pictures[0].path)))
        info, expected = (parse_infotext(report.pictures[0].infotext) for report in (each.report, alone))
        assert info.parameters[IMAGE_HASH] == expected.parameters[IMAGE_HASH]
        assert info.parameters["Final denoising strength"] == "0.25"
        assert info.parameters["Denoising curve"] == "Linear"


def test_a_picture_is_made_again_from_its_own_text(
    model: Path, picture: Path, tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    with Workspace(settings) as workspace:
        request, loops = request_for(model, picture), Loops(count=2)
        last = list(loopback(request, maker(settings, workspace), loops=loops))[-1]
    again, path = tmp_path / "again", last.report.pictures[0].path
    assert main(["generate", "--from", str(path), "--model", str(model), "-o", str(again)]) == 0
    assert np.array_equal(np.asarray(Image.open(path)), np.asarray(Image.open(next(again.iterdir()))))
    assert "not honoured" not in capsys.readouterr().err


def test_batches_begin_anew_and_seeds_go_on(model: Path, picture: Path, settings: Settings) -> None:
    request = request_for(model, picture, batch_count=2)
    with Workspace(settings) as workspace:
        made = list(loopback(request, maker(settings, workspace), loops=Loops(count=2)))
    assert [(each.batch, each.loop, each.report.pictures[0].seed) for each in made] == [
        (0, 0, 7),
        (0, 1, 8),
        (1, 0, 9),
        (1, 1, 10),
    ]
    hashes = [parse_infotext(each.report.pictures[0].infotext).parameters[IMAGE_HASH] for each in made]
    first = pixel_hash(Image.open(picture).convert("RGB"))
    assert hashes[0] == hashes[2] == first
    assert hashes[1] == pixel_hash(Image.open(made[0].report.pictures[0].path))
    assert hashes[3] == pixel_hash(Image.open(made[2].report.pictures[0].path))


def test_a_lossy_format_loses_nothing_between_loops(model: Path, picture: Path, settings: Settings) -> None:
    request, loops = request_for(model, picture), Loops(count=2)
    hashes = []
    for kind in ("png", "jpeg"):
        with Workspace(settings) as workspace:
            last = list(loopback(request, maker(replace(settings, format=kind), workspace), loops=loops))[-1]
        hashes.append(parse_infotext(last.report.pictures[0].infotext).parameters[IMAGE_HASH])
    assert hashes[0] == hashes[1]


def test_outside_of_the_mask_every_loop_keeps_the_picture(
    model: Path, picture: Path, tmp_path: Path, settings: Settings
) -> None:
    mask = Image.new("L", (72, 64))
    mask.paste(255, (0, 0, 36, 64))
    mask.save(tmp_path / "mask.png")
    start = StartImage(path=str(picture), mask=str(tmp_path / "mask.png"), mask_blur=0, fill="latent noise")
    request = request_for(model, picture, start=start)
    with Workspace(settings) as workspace:
        made = list(loopback(request, maker(settings, workspace), loops=Loops(count=2)))
    given_, last = (np.asarray(Image.open(path)) for path in (picture, made[-1].report.pictures[0].path))
    assert np.array_equal(given_[:, 36:], last[:, 36:])
    assert not np.array_equal(given_[:, :36], last[:, :36])
    contents = [parse_infotext(each.report.pictures[0].infotext).parameters.get("Masked content") for each in made]
    assert contents == ["latent noise", None]


@pytest.mark.parametrize(
    ("loops", "error"),
    [
        (Loops(count=0), UsageError),
        (Loops(final_denoising=1.5), UsageError),
        (Loops(final_denoising=float("nan")), UsageError),
        (Loops(curve="agressive"), UnknownName),
    ],
)
def test_what_can_not_be_is_said(loops: Loops, error: type[UsageError], model: Path, picture: Path) -> None:
    with pytest.raises(error) as raised:
        check_loops(request_for(model, picture), loops)
    assert raised.value.hint


def test_a_canvas_that_would_grow_with_every_loop_is_refused(model: Path, picture: Path) -> None:
    start = StartImage(path=str(picture), extend_px=(8, 0, 0, 0))
    with pytest.raises(UsageError, match="canvas"):
        check_loops(request_for(model, picture, start=start), Loops())


def test_the_command_names_what_is_missing(
    model: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    basic = ["loopback", "a sun", "--model", str(model), "--steps", "2", "--seed", "7", "-o", str(tmp_path / "o")]
    assert main(basic) == 2
    assert "--image" in capsys.readouterr().err
    assert main([*basic, "--image", str(picture), "--loops", "2", "--curve", "lazy"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
