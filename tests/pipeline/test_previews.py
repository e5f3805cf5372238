"""Previews: asked for they are there and cost the picture nothing; not asked for there is nothing at all."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from hayate.cli.main import main
from hayate.errors import HayateError, UsageError
from hayate.models.config import Family
from hayate.pipeline import text2image
from hayate.pipeline.denoise import denoise
from hayate.pipeline.previews import SD1, SDXL, Preview, Previewer, file_publisher, linear_pictures
from hayate.pipeline.report import Report
from hayate.pipeline.session import make_pictures
from hayate.request import Hires, TextToImage
from hayate.settings import Settings, load_settings
from tests.tiny_models import write_tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    write_tiny(path, Family.SD1)
    return path


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings({"cache_dir": tmp_path / "cache", "outputs_dir": tmp_path / "out"}, environment={})


def made(model: Path, settings: Settings, previewer: Previewer | None = None, **more: object) -> Report:
    words = {"prompt": "a red sun", "steps": 6, "seed": 7, "width_px": 64, "height_px": 72, "sampler": "DPM++ SDE"}
    request = TextToImage(**{**words, "model": str(model), **more})
    return make_pictures(request, settings, None, lambda done, rows: None, previewer=previewer, keeps_pixels=True)


def test_latents_and_picture_are_the_same_bit_for_bit(model: Path, settings: Settings, monkeypatch) -> None:
    latents: list[torch.Tensor] = []

    def kept(*args: Any, **words: Any) -> torch.Tensor:
        latents.append(denoise(*args, **words).clone())
        return latents[-1]

    monkeypatch.setattr(text2image, "denoise", kept)
    seen: list[Preview] = []
    more = {"batch_size": 2, "hires": Hires(scale=1.5, steps=3)}
    plain, watched = (made(model, settings, each, **more) for each in (None, Previewer(seen.append, every=1)))
    assert len(latents) == 4  # two passes each
    assert torch.equal(latents[0], latents[2])
    assert torch.equal(latents[1], latents[3])
    for one, other in zip(plain.pixels, watched.pixels, strict=True):
        assert np.array_equal(one, other)
    assert {preview.picture.shape for preview in seen} <= {(72, 128, 3), (104, 192, 3)}
    assert len(seen) >= 1
    assert [row["name"] for row in watched.speed["evidence"] if row["name"] == "previews"] == ["previews"]
    assert not any(row["name"] == "previews" for row in plain.speed["evidence"])


def test_a_preview_is_the_denoised_picture_of_its_row(model: Path, settings: Settings, monkeypatch) -> None:
    seen: list[Preview] = []
    latents: dict[int, torch.Tensor] = {}
    show = Previewer.show

    def remember(self: Previewer, row: int, rows: int, denoised: torch.Tensor) -> None:
        latents[row] = denoised.clone()
        show(self, row, rows, denoised)
        if self._pending is not None:
            self._pending.result()

    monkeypatch.setattr(Previewer, "show", remember)
    made(model, settings, Previewer(seen.append, every=2), sampler="Euler")
    assert [(preview.row, preview.rows) for preview in seen] == [(2, 6), (4, 6), (6, 6)]
    for preview in seen:
        assert np.array_equal(preview.picture, linear_pictures(latents[preview.row], SD1)[0])


def test_a_slow_preview_is_not_waited_for_and_none_queue_up(model: Path, settings: Settings) -> None:
    may_end, seen = threading.Event(), []

    def slow(preview: Preview) -> None:
        seen.append(preview.row)
        assert may_end.wait(60)

    rows = []

    def on_row(done: int, of: int) -> None:
        rows.append(done)
        if done == of:
            may_end.set()  # only now can the first preview end: the loop has not waited for it

    request = TextToImage(
        prompt="x", steps=5, seed=1, width_px=64, height_px=64, sampler="Euler", model=str(model), batch_count=1
    )
    previewer = Previewer(slow, every=1)
    make_pictures(request, settings, None, on_row, previewer=previewer)
    assert rows == [1, 2, 3, 4, 5]
    assert seen[0] == 1
    assert len(seen) == 1
    assert "4 left out" in previewer.evidence().detail


def test_without_previews_the_loop_is_shown_to_nobody(model: Path, settings: Settings, monkeypatch) -> None:
    shown_to = []

    def watched(*args: Any, **words: Any) -> torch.Tensor:
        shown_to.append(words["on_denoised"])
        return denoise(*args, **words)

    monkeypatch.setattr(text2image, "denoise", watched)
    made(model, settings)
    previewer = Previewer(lambda preview: None)
    made(model, settings, previewer)
    assert shown_to == [None, previewer.show]


def test_an_interrupted_job_leaves_no_thread(model: Path, settings: Settings) -> None:
    def interrupt(*_: int) -> None:
        assert any(thread.name.startswith("preview") for thread in threading.enumerate())
        raise KeyboardInterrupt

    request = TextToImage(prompt="x", steps=3, width_px=64, height_px=64, model=str(model))
    with pytest.raises(KeyboardInterrupt):
        make_pictures(request, settings, None, interrupt, previewer=Previewer(lambda preview: None, every=1))
    assert not any(thread.name.startswith("preview") for thread in threading.enumerate())


def test_a_preview_that_fails_is_a_note_and_the_picture_is_made(model: Path, settings: Settings) -> None:
    def full(_: Preview) -> None:
        raise OSError(28, "No space left on device")

    previewer = Previewer(full, every=1)
    report = made(model, settings, previewer)
    assert len(report.pixels) == 1
    assert any("No space left" in note for note in report.notes)
    assert not previewer.evidence().active


@given(seed=st.integers(0, 1000))
def test_linear_pictures_equal_the_published_sums(seed: int) -> None:
    latents = torch.randn(1, 4, 1, 1, generator=torch.Generator().manual_seed(seed))
    weights = np.array([[60, -60, 25, -70], [60, -5, 15, -50], [60, 10, -5, -35]], dtype=np.float64)
    expected = weights @ latents[0, :, 0, 0].double().numpy() + np.array([150, 140, 130])  # as the SDXL page has it
    found = linear_pictures(latents, SDXL)
    assert found.shape == (1, 8, 8, 3)
    assert np.abs(found[0, 4, 4] - np.clip(expected, 0, 255)).max() <= 0.51


def test_latents_that_are_not_numbers_are_black() -> None:
    assert linear_pictures(torch.full((2, 4, 3, 2), float("nan")), SD1).max() == 0


def test_a_tiny_decoder_makes_them(model: Path, settings: Settings, tmp_path: Path) -> None:
    torch.manual_seed(4)
    reference = AutoencoderTiny().eval()
    path = tmp_path / "taesd.safetensors"
    save_file({name: tensor.contiguous().clone() for name, tensor in reference.state_dict().items()}, path)
    taken: list[torch.Tensor] = []
    seen: list[Preview] = []

    class Watching(Previewer):
        def show(self, row: int, rows: int, denoised: torch.Tensor) -> None:
            taken.append(denoised.clone())
            super().show(row, rows, denoised)

    made(model, settings, Watching(seen.append, every=6, tiny_vae=path), sampler="Euler")
    with torch.inference_mode():
        expected = ((reference.decode(taken[-1]).sample + 1) * 127.5).clamp(0, 255)[0].permute(1, 2, 0)
    assert np.abs(seen[-1].picture - expected.numpy()).max() <= 1
    with pytest.raises(HayateError):
        Previewer(seen.append, tiny_vae=model)


def test_a_file_is_whole_at_every_moment(tmp_path: Path) -> None:
    path = tmp_path / "now.png"
    publish = file_publisher(path)
    is_done, broken, looks = threading.Event(), [], []

    def look() -> None:
        while not is_done.is_set():
            if path.exists():
                try:
                    with Image.open(path) as picture:
                        picture.load()
                        looks.append(picture.size)
                except OSError as error:
                    broken.append(error)

    viewer = threading.Thread(target=look)
    viewer.start()
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    for number in range(40):
        publish(Preview(row=number, rows=40, picture=noise))
    is_done.set()
    viewer.join()
    assert not broken
    assert looks
    assert [each.name for each in tmp_path.iterdir()] == ["now.png"]
    file_publisher(tmp_path / "now.jpg")(Preview(row=1, rows=1, picture=noise))
    assert Image.open(tmp_path / "now.jpg").format == "JPEG"


@pytest.mark.parametrize("name", ["now.gif", "now", "nowhere/now.png"])
def test_a_place_that_can_not_be_is_said_before_the_work(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as raised:
        file_publisher(tmp_path / name)
    assert raised.value.hint


def test_the_command_leaves_the_last_preview(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    basic = ["generate", "x", "--model", str(model), "--size", "64x64", "--steps", "4", "--seed", "7", "--json"]
    place = ["-o", str(tmp_path / "out"), "--preview", str(tmp_path / "now.png")]
    assert main([*basic, *place, "--preview-every", "4"]) == 0
    assert Image.open(tmp_path / "now.png").size == (64, 64)
    evidence = {row["name"]: row for row in json.loads(capsys.readouterr().out)["speed"]["evidence"]}
    assert evidence["previews"]["active"]
    assert main([*basic, *place, "--preview-every", "0"]) == 2
    assert main([*basic, "--preview-vae", str(model)]) == 2
