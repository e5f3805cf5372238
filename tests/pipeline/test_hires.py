"""Hires fix: the latents of a plain loop over diffusers' networks in two passes, sizes, and what is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from hayate.cli.main import main
from hayate.errors import UsageError
from hayate.models.config import Family
from hayate.pipeline.guards import Guard
from hayate.pipeline.resolve import MAX_HIRES_PX, hires_size, resolve
from hayate.pipeline.session import make_pictures
from hayate.pipeline.text2image import LATENT_MODES, upscale
from hayate.request import LATENT_UPSCALERS, PIXEL_UPSCALERS, Hires, TextToImage
from hayate.samplers.catalogue import build
from hayate.samplers.sigmas import scaled_linear
from hayate.settings import Settings, load_settings
from tests.models.reference import relative_error
from tests.pipeline.faulty import file_engine
from tests.pipeline.test_image2image import STEPS, Case
from tests.tiny_models import write_tiny


@pytest.fixture(scope="module")
def case() -> Case:
    return Case()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    write_tiny(path, Family.SD1)
    return str(path)


@pytest.fixture
def own(tmp_path: Path) -> Settings:
    return load_settings({"cache_dir": tmp_path / "cache", "outputs_dir": tmp_path / "out"}, environment={})


def request_for(model: str, **hires: object) -> TextToImage:
    size = {"width_px": 64, "height_px": 64}
    return TextToImage(prompt="a red sun", model=model, steps=4, seed=5, sampler="Euler", hires=Hires(**hires), **size)


def made(model: str, own: Settings, **hires: object) -> tuple[np.ndarray, str]:
    report = make_pictures(request_for(model, **hires), own, None, lambda done, rows: None)
    return np.asarray(Image.open(report.pictures[0].path)), report.pictures[0].infotext


@pytest.mark.parametrize("denoising", [0.5, 1.0])
def test_the_second_pass_takes_all_its_steps_on_the_end_of_a_longer_schedule(denoising: float) -> None:
    """A1111: steps / strength levels are laid out, of which the last `steps` moves are made."""
    longer = int(STEPS / min(denoising, 0.999))
    whole = build("Euler", "Karras", longer, scaled_linear())
    table = build("Euler", "Karras", longer, scaled_linear(), moves=STEPS - 1)
    assert table.steps == STEPS
    np.testing.assert_allclose(table.sigma, whole.sigma[-STEPS:], rtol=1e-12)
    assert table.initial_scale == pytest.approx(whole.sigma[-STEPS])


@pytest.mark.parametrize("upscaler", LATENT_UPSCALERS)
def test_latents_are_interpolated_as_pytorch_does(case: Case, upscaler: str) -> None:
    """Of a picture that changes evenly from left to right every mode but the nearest keeps the slope inside."""
    ramp = torch.arange(8.0).expand(1, 4, 6, 8).contiguous()
    large = upscale(Guard(engine=case.engine), ramp, upscaler, (12, 16))
    assert large.shape == (1, 4, 12, 16)
    inside = large[0, 0, 6, 4:12].diff()
    if "nearest" in upscaler:
        assert set(large.unique().tolist()) == set(range(8))
    else:
        torch.testing.assert_close(inside, torch.full_like(inside, 0.5), atol=0.1, rtol=0)
    assert set(LATENT_MODES) == set(LATENT_UPSCALERS)


@torch.inference_mode()
def test_a_pixel_upscaler_decodes_enlarges_and_encodes(case: Case) -> None:
    latents = torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(0))
    vae = case.references["vae"]
    for name, filter_ in (("Lanczos", Image.Resampling.LANCZOS), ("Nearest", Image.Resampling.NEAREST)):
        expected = []
        for one in latents.split(1):
            pixels = vae.decode(one / case.scale).sample[0].permute(1, 2, 0)
            levels = ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()
            large = np.asarray(Image.fromarray(levels).resize((128, 96), filter_), dtype=np.float32)
            given = torch.from_numpy(large).permute(2, 0, 1)[None] / 127.5 - 1
            expected.append(vae.encode(given).latent_dist.mean * case.scale)
        found = upscale(Guard(engine=case.engine), latents, name, (12, 16))
        assert relative_error(found, torch.cat(expected)) <= 1e-3


def test_a_second_pass_is_img2img_from_the_enlarged_latents(model: str, own: Settings) -> None:
    """What hires fix gives is what the two passes give one after the other, by hand."""
    from hayate.pipeline.denoise import denoise
    from hayate.pipeline.text2image import latent_noise, tell

    request = replace(request_for(model, denoising=0.5), noise_source="CPU")
    guard = Guard(engine=file_engine(Path(model)))
    job = resolve(request, own, guard.config)
    assert job.second is not None
    seeds = next(iter(job.batches()))

    def sampled(of: object, image: Tensor | None) -> Tensor:
        told = tell(guard, of)
        noise = latent_noise(of, of.noise_request(seeds, guard.device), image)
        return denoise(guard, of.table, told.guidance, told.conditions, noise, on_row=lambda *_: None)

    with torch.inference_mode():
        small = sampled(job, None)
        large = sampled(job.second, upscale(guard, small, "Latent", (16, 16)))
        expected = ((guard.decode(large) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)[0].permute(1, 2, 0).numpy()
    report = make_pictures(request, own, None, lambda *_: None)
    found = np.asarray(Image.open(report.pictures[0].path)).astype(int)
    assert np.abs(found - expected).max() <= 1, "another attention, and so another rounding"
    assert report.rows == job.table.rows + job.second.table.rows


@pytest.mark.parametrize("upscaler", [*LATENT_UPSCALERS, *PIXEL_UPSCALERS])
def test_every_upscaler_makes_the_size(model: str, own: Settings, upscaler: str) -> None:
    picture, infotext = made(model, own, upscaler=upscaler, scale=1.5, denoising=0.4, steps=2)
    assert picture.shape == (96, 96, 3)
    assert f"Hires upscaler: {upscaler}" in infotext
    assert "Hires upscale: 1.5" in infotext
    assert "Hires steps: 2" in infotext


def test_strength_0_only_enlarges(model: str, own: Settings) -> None:
    picture, _ = made(model, own, denoising=0.0, upscaler="Nearest")
    other, _ = made(model, own, denoising=0.0, upscaler="Nearest", sampler="DPM++ 2M", prompt="something else")
    assert picture.shape == (128, 128, 3)
    assert np.array_equal(picture, other), "the second pass' prompt and sampler have nothing to do"


def test_the_second_pass_has_its_own_prompt_sampler_and_schedule(model: str, own: Settings) -> None:
    plain, _ = made(model, own)
    told, infotext = made(model, own, prompt="a blue moon", sampler="Heun", scheduler="Karras", negative_prompt="rain")
    assert not np.array_equal(plain, told)
    for words in ("Hires sampler: Heun", "Hires schedule type: Karras", "Hires prompt: a blue moon"):
        assert words in infotext
    assert "Hires negative prompt: rain" in infotext


@given(
    width=st.integers(8, 128).map(lambda n: 8 * n),
    height=st.integers(8, 128).map(lambda n: 8 * n),
    scale=st.floats(1, 4),
)
def test_sizes_are_whole_latents_of_nearly_the_same_shape(width: int, height: int, scale: float) -> None:
    large = hires_size(width, height, Hires(scale=scale))
    assert all(side % 8 == 0 and side <= MAX_HIRES_PX for side in large)
    assert abs(large[0] - width * scale) < 8
    assert abs(large[1] - height * scale) < 8


def test_a_width_alone_brings_the_height_along() -> None:
    assert hires_size(512, 768, Hires(width_px=1024)) == (1024, 1536)
    assert hires_size(512, 768, Hires(height_px=1536)) == (1024, 1536)
    with pytest.raises(UsageError, match="another shape"):
        hires_size(512, 768, Hires(width_px=1024, height_px=1024))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--hires-upscaler", "Latnet"], "nearest: Latent"),
        (["--hires-scale", "0.5"], "--hires-scale takes 1 to 8"),
        (["--hires-size", "128x192"], "another shape"),
        (["--hires-sampler", "Eulre"], "nearest: Euler"),
        (["--hires-denoising", "2"], "--hires-denoising takes 0 to 1"),
        (["--hires-denoising", "0.01"], "steps can't be taken"),
    ],
)
def test_what_can_not_be_is_one_line_with_a_hint(
    model: str, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    command = ["generate", "x", "--model", model, "--size", "64x64", "--hires", *words]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("upscaler", ["Latent (bicubic)", "Lanczos"])
def test_a_picture_of_two_passes_is_made_again_from_its_file(model: str, tmp_path: Path, upscaler: str) -> None:
    first, again = tmp_path / "first.png", tmp_path / "again.png"
    words = [
        "--hires",
        "--hires-scale",
        "1.5",
        "--hires-steps",
        "3",
        "--hires-denoising",
        "0.6",
        "--hires-sampler",
        "Heun",
    ]
    words += ["--hires-prompt", "a blue moon", "--hires-upscaler", upscaler, "--steps", "4", "--seed", "9"]
    assert main(["generate", "a red sun", "--model", model, "--size", "64x64", *words, "-o", str(first)]) == 0
    assert main(["generate", "--from", str(first), "--model", model, "-o", str(again)]) == 0
    assert np.array_equal(np.asarray(Image.open(first)), np.asarray(Image.open(again)))
    assert Image.open(first).info["parameters"] == Image.open(again).info["parameters"]
