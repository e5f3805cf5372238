"""Pictures from pictures: the latents of a plain loop over diffusers' networks, and pixels that must not move."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from hayate.cli.main import main
from hayate.errors import UsageError
from hayate.models.config import SD1, Family
from hayate.pipeline.denoise import LatentNoise, denoise, project_conditions
from hayate.pipeline.encode import TextStyle
from hayate.pipeline.guards import Guard
from hayate.pipeline.guidance import GuidanceScale, build_guidance
from hayate.pipeline.pictures import crop_box, read_start, resize
from hayate.pipeline.resolve import resolve
from hayate.pipeline.session import make_pictures
from hayate.pipeline.text2image import show_around
from hayate.pipeline.tiles import decode_tiled, encode_tiled
from hayate.prompt.schedule import parse_prompt
from hayate.prompt.tokenizer import load_tokenizer
from hayate.request import StartImage, TextToImage, validate
from hayate.samplers.catalogue import SAMPLERS, build
from hayate.samplers.grid import moves_of
from hayate.samplers.sigmas import scaled_linear
from hayate.settings import Settings, load_settings
from tests.models.reference import relative_error
from tests.pipeline.test_latents import (
    NEGATIVE,
    NEGATIVE_IDS,
    PROMPT,
    PROMPT_IDS,
    engine_and_references,
    reference_embeddings,
    tiny,
)
from tests.tiny_models import random_tensors, tiny_config, write, write_tiny

STEPS = 10


def karras_sigmas() -> Tensor:
    """Karras et al. 2022, equation 5, between the ends of Stable Diffusion's schedule, and zero."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alphas = (1 - betas).cumprod(0)
    levels = ((1 - alphas) / alphas).sqrt()
    ramp = torch.linspace(0, 1, STEPS, dtype=torch.float64)
    low, high = levels[0] ** (1 / 7), levels[-1] ** (1 / 7)
    return torch.cat([(high + ramp * (low - high)) ** 7, torch.zeros(1, dtype=torch.float64)])


class Case:
    """A tiny model as Hayate's engine and as diffusers' networks, a picture, noise, and perhaps a mask."""

    def __init__(self, in_channels: int = 4) -> None:
        config = tiny(SD1)
        config = replace(config, unet=replace(config.unet, in_channels=in_channels))
        self.engine, self.references = engine_and_references(config)
        self.scale = config.vae.scale
        generator = torch.Generator().manual_seed(3)
        self.pixels = torch.rand((1, 3, 64, 96), generator=generator) * 2 - 1
        self.noise = torch.randn((1, 4, 8, 12), generator=generator)
        self.mask = (torch.rand((1, 1, 8, 12), generator=generator) > 0.5).float()
        self.contexts = [reference_embeddings(self.references, config, ids)[0] for ids in (PROMPT_IDS, NEGATIVE_IDS)]

    def expected(self, strength: float, mask: Tensor | None, beside: Tensor | None = None) -> Tensor:
        """Euler's method on the last steps, from the encoded picture and noise; outside of the mask the picture."""
        image = self.references["vae"].encode(self.pixels).latent_dist.mean * self.scale
        sigmas = karras_sigmas()[STEPS - int(min(strength, 0.999) * STEPS) - 1 :]
        levels = self.training_levels()
        x = image + self.noise * float(sigmas[0])
        keep = None if mask is None else 1 - mask
        for sigma, sigma_next in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
            timestep = torch.from_numpy(np.interp(np.log([sigma]), np.log(levels), np.arange(1000.0)))
            given = x / (sigma**2 + 1) ** 0.5
            given = torch.cat([given if beside is None else torch.cat([given, beside], dim=1)] * 2)
            guided, negative = self.references["unet"](given, timestep.float(), torch.cat(self.contexts)).sample.split(
                1
            )
            denoised = x - sigma * (negative + 7.0 * (guided - negative))
            denoised = denoised if keep is None else denoised * mask + image * keep
            x = x + (x - denoised) / sigma * (sigma_next - sigma)
        return x if keep is None else x * mask + image * keep

    @staticmethod
    def training_levels() -> np.ndarray:
        betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
        alphas = np.cumprod(1 - betas)
        return np.sqrt((1 - alphas) / alphas)

    def found(self, strength: float, mask: Tensor | None, beside: Tensor | None = None) -> Tensor:
        table = build("Euler", "Karras", STEPS, scaled_linear(), moves=moves_of(STEPS, strength))
        style = TextStyle(tokenizer=load_tokenizer(), width_px=96, height_px=64)
        prompts = (parse_prompt(PROMPT, STEPS), parse_prompt(NEGATIVE, STEPS, is_negative=True))
        guidance = build_guidance(self.engine, prompts, style, GuidanceScale(scale=7.0), table.rows)
        conditions = project_conditions(self.engine, table, guidance)
        noise = LatentNoise(
            first=self.noise,
            draw=lambda _: self.noise,
            image=self.engine.encode(self.pixels),
            mask=mask,
            beside=beside,
        )
        return denoise(self.engine, table, guidance, conditions, noise, on_row=lambda done, rows: None)


@pytest.fixture(scope="module")
def case() -> Case:
    return Case()


@pytest.mark.parametrize("is_masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
@torch.inference_mode()
def test_latents_are_those_of_a_plain_loop(case: Case, strength: float, is_masked: bool) -> None:
    mask = case.mask if is_masked else None
    assert relative_error(case.found(strength, mask), case.expected(strength, mask)) <= 1e-3


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
@torch.inference_mode()
def test_an_inpainting_model_is_shown_mask_and_surroundings(tmp_path: Path, strength: float) -> None:
    """By its own nine channels in diffusers' U-Net; what it is shown is encoded by diffusers' VAE."""
    case = Case(in_channels=9)
    levels = ((case.pixels[0].permute(1, 2, 0) + 1) * 127.5).round().to(torch.uint8).numpy()
    Image.fromarray(levels).save(tmp_path / "picture.png")
    hole = np.zeros((64, 96), np.uint8)
    hole[16:48, 24:64] = 255
    Image.fromarray(hole).save(tmp_path / "mask.png")
    asked = StartImage(path=str(tmp_path / "picture.png"), mask=str(tmp_path / "mask.png"), mask_blur=0)
    case.pixels = torch.from_numpy(levels.astype(np.float32)).permute(2, 0, 1)[None] / 127.5 - 1
    request = TextToImage(prompt=PROMPT, width_px=96, height_px=64, start=asked)
    job = resolve(request, load_settings({}, environment={}), case.engine.config)
    beside = show_around(Guard(engine=case.engine), job.with_start(read_start(asked, 96, 64)))
    assert beside is not None
    mask = torch.from_numpy(hole[::8, ::8] / 255.0).float()[None, None]
    masked = case.pixels * (1 - torch.from_numpy(hole / 255.0).float())
    around = case.references["vae"].encode(masked).latent_dist.mean * case.scale
    reference = torch.cat([mask, around], dim=1)
    assert relative_error(beside, reference) <= 1e-4
    assert relative_error(case.found(strength, mask, beside), case.expected(strength, mask, reference)) <= 1e-3


def test_an_inpainting_model_without_a_picture_paints_on_grey() -> None:
    case = Case(in_channels=9)
    request = TextToImage(prompt=PROMPT, width_px=96, height_px=64)
    job = resolve(request, load_settings({}, environment={}), case.engine.config)
    beside = show_around(Guard(engine=case.engine), job)
    assert beside is not None
    grey = case.references["vae"].encode(torch.zeros((1, 3, 64, 96))).latent_dist.mean * case.scale
    assert (beside[:, 0] == 1).all()
    assert relative_error(beside[:, 1:], grey) <= 1e-4
    assert show_around(Guard(engine=Case().engine), job) is None


@pytest.mark.parametrize("info", SAMPLERS, ids=lambda info: info.name)
@pytest.mark.parametrize("strength", [0.3, 0.75, 1.0])
def test_every_sampler_walks_the_end_of_its_schedule_back_to_the_picture(info, strength: float) -> None:
    """To a model that always answers with the picture every sampler gives it back, whatever the noise was."""
    whole = build(info.name, "Automatic", 20, scaled_linear())
    table = build(info.name, "Automatic", 20, scaled_linear(), moves=moves_of(20, strength))
    assert table.steps <= whole.steps
    assert table.sigma.max() <= whole.sigma.max()
    rng = np.random.default_rng(1)
    image, noise = rng.standard_normal((2, 3, 4))
    made = table.run(lambda *_: (image, image), noise, lambda _: rng.standard_normal((3, 4)), image)
    assert np.abs(made - image).max() <= 4 * table.sigma_end + 0.07


@pytest.fixture
def own(tmp_path: Path) -> Settings:
    return load_settings({"cache_dir": tmp_path / "cache", "outputs_dir": tmp_path / "out"}, environment={})


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """A model, a picture, and a mask that is white in a corner of it."""
    write_tiny(tmp_path / "tiny.safetensors", Family.SD1)
    pixels = np.random.default_rng(0).integers(0, 256, (96, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    mask = np.zeros((96, 64), np.uint8)
    mask[8:40, 8:32] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    return {name: str(tmp_path / name) for name in ("tiny.safetensors", "picture.png", "mask.png")}


def made(files: dict[str, str], own: Settings, **start: object) -> np.ndarray:
    begin = StartImage(path=files["picture.png"], **start)
    request = TextToImage(prompt="a red sun", model=files["tiny.safetensors"], steps=4, seed=5, start=begin)
    report = make_pictures(request, own, None, lambda done, rows: None)
    return np.asarray(Image.open(report.pictures[0].path))


@pytest.mark.parametrize("padding_px", [None, 0, 16])
@pytest.mark.parametrize("fill", ["fill", "original", "latent noise", "latent nothing"])
def test_what_the_mask_does_not_touch_keeps_every_bit(
    files: dict[str, str], own: Settings, fill: str, padding_px: int | None
) -> None:
    before = np.asarray(Image.open(files["picture.png"]))
    after = made(files, own, mask=files["mask.png"], mask_blur=0, fill=fill, padding_px=padding_px, denoising=0.9)
    changed = (before != after).any(axis=2)
    mask = np.asarray(Image.open(files["mask.png"])) > 0
    assert not changed[~mask].any()
    assert changed[mask].mean() > 0.9


@pytest.mark.parametrize("has_picture", [True, False])
def test_an_inpainting_checkpoint_paints_from_its_file(
    files: dict[str, str], own: Settings, tmp_path: Path, has_picture: bool
) -> None:
    config = tiny_config(Family.SD1)
    config = replace(config, unet=replace(config.unet, in_channels=9))
    write(tmp_path / "inpainting.safetensors", dict(random_tensors(config, 0)))
    start = StartImage(path=files["picture.png"], mask=files["mask.png"], mask_blur=0) if has_picture else None
    request = TextToImage(prompt="x", model=str(tmp_path / "inpainting.safetensors"), steps=2, seed=1, start=start)
    request = request if has_picture else replace(request, width_px=64, height_px=96)
    report = make_pictures(request, own, None, lambda done, rows: None)
    after = np.asarray(Image.open(report.pictures[0].path))
    assert after.shape == (96, 64, 3)
    assert after.std() > 1
    if has_picture:
        before, mask = np.asarray(Image.open(files["picture.png"])), np.asarray(Image.open(files["mask.png"])) > 0
        assert np.array_equal(after[~mask], before[~mask])
        assert (after[mask] != before[mask]).any()


def test_an_inverted_mask_keeps_the_rest(files: dict[str, str], own: Settings) -> None:
    before, mask = np.asarray(Image.open(files["picture.png"])), np.asarray(Image.open(files["mask.png"])) > 0
    after = made(files, own, mask=files["mask.png"], mask_blur=0, is_mask_inverted=True, denoising=0.9)
    assert np.array_equal(after[mask], before[mask])


def test_a_soft_edge_goes_further_than_the_mask_and_ends(files: dict[str, str], own: Settings) -> None:
    before = np.asarray(Image.open(files["picture.png"]))
    after = made(files, own, mask=files["mask.png"], mask_blur=2, denoising=0.9)
    changed = (before != after).any(axis=2)
    assert changed[41, 20]
    assert not changed[60:].any()


def test_the_fills_start_from_different_things(files: dict[str, str], own: Settings) -> None:
    fills = ("fill", "original", "latent noise", "latent nothing")
    pictures = [made(files, own, mask=files["mask.png"], fill=fill, denoising=0.5) for fill in fills]
    assert len({picture.tobytes() for picture in pictures}) == 4


def test_more_strength_is_more_change(files: dict[str, str], own: Settings) -> None:
    before = made(files, own, denoising=0.0).astype(int)
    changes = [np.abs(made(files, own, denoising=strength) - before).mean() for strength in (0.0, 0.3, 0.6, 1.0)]
    assert changes == sorted(changes)
    assert changes[0] == 0 < changes[1]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    given_size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    mode=st.sampled_from(["just resize", "crop", "fill"]),
)
def test_every_mode_fills_the_whole_size(given_size: tuple[int, int], size: tuple[int, int], mode: str) -> None:
    wanted = (8 * size[0], 8 * size[1])
    picture = resize(Image.new("RGB", given_size, "white"), wanted, mode)
    assert picture.size == wanted
    assert np.asarray(picture).min() >= 254, "nothing is left black"


def test_crop_keeps_the_middle_and_fill_the_proportions() -> None:
    picture = Image.new("RGB", (200, 100), "red")
    picture.paste("blue", (50, 0, 150, 100))
    cropped = np.asarray(resize(picture, (64, 64), "crop"))
    assert (cropped[:, 2:-2, 2] > 200).all()
    filled = np.asarray(resize(picture, (64, 64), "fill"))
    assert (filled[:, 32, 2] > 200).all(), "the edge's colours go on above and below"
    assert (filled[:, 2, 0] > 200).all()


@given(
    corner=st.tuples(st.integers(0, 99), st.integers(0, 79)),
    extent=st.tuples(st.integers(1, 100), st.integers(1, 80)),
    padding=st.integers(0, 64),
    size=st.tuples(st.integers(8, 32), st.integers(8, 32)),
)
def test_the_part_that_is_made_holds_the_mask_and_stays_inside(
    corner: tuple[int, int], extent: tuple[int, int], padding: int, size: tuple[int, int]
) -> None:
    mask = Image.new("L", (100, 80))
    mask.paste(255, (*corner, corner[0] + extent[0], corner[1] + extent[1]))
    left, top, right, bottom = crop_box(mask, padding, size)
    inner = mask.getbbox()
    assert inner is not None
    assert 0 <= left <= inner[0] < inner[2] <= right <= 100
    assert 0 <= top <= inner[1] < inner[3] <= bottom <= 80


def test_tiles_of_an_encoder_and_a_decoder_fade_into_one_picture() -> None:
    """Of a linear map without borders tiles make no difference at all."""
    pixels = torch.rand((1, 3, 200, 264), generator=torch.Generator().manual_seed(0))

    def encode(part: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(torch.cat([part, part[:, :1]], dim=1), 8)

    whole = encode(pixels)
    torch.testing.assert_close(encode_tiled(encode, pixels, 64), whole)
    decoded = decode_tiled(lambda part: torch.nn.functional.interpolate(part[:, :3], scale_factor=8), whole, 64)
    torch.testing.assert_close(torch.nn.functional.avg_pool2d(decoded, 8), whole[:, :3])


def test_a_picture_is_turned_and_put_on_white(tmp_path: Path) -> None:
    picture = Image.new("RGBA", (40, 24), (255, 0, 0, 0))
    picture.paste((0, 0, 255, 255), (0, 0, 40, 12))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    picture.save(tmp_path / "p.png", exif=exif)
    start = read_start(StartImage(path=str(tmp_path / "p.png")), 40, 24)
    pixels = np.asarray(start.picture)
    assert (pixels[:11] == 255).all()
    assert (pixels[13:, :, 2] == 255).all()
    assert (pixels[13:, :, 0] == 0).all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--image", "nothing.png"], "no such file: nothing.png"),
        (["--mask", "m.png"], "--mask needs the picture"),
        (["--image", "{picture.png}", "--mask", "nothing.png"], "no such file: the mask nothing.png"),
        (["--image", "{picture.png}", "--denoising", "1.5"], "--denoising takes 0 to 1"),
        (["--image", "{picture.png}", "--resize-mode", "corp"], "nearest: crop"),
        (["--image", "{picture.png}", "--fill", "noise"], "nearest: latent noise"),
        (["--image", "{tiny.safetensors}"], "can't be read as a picture"),
        (["--image", "{picture.png}", "--sampler", "DDIM", "--denoising", "0.01"], "more steps"),
    ],
)
def test_what_can_not_be_is_one_line_with_a_hint(
    files: dict[str, str], capsys: pytest.CaptureFixture[str], words: list[str], message: str, tmp_path: Path
) -> None:
    words = [files.get(word.strip("{}"), word) for word in words]
    assert main(["generate", "x", "--model", files["tiny.safetensors"], "-o", str(tmp_path / "o.png"), *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_mask_of_another_size_is_stretched_with_a_note(files: dict[str, str], tmp_path: Path) -> None:
    with Image.open(files["mask.png"]) as mask:
        mask.convert("L").resize((mask.width * 2, mask.height), Image.Resampling.NEAREST).save(tmp_path / "wide.png")
        size, wide = mask.size, f"{mask.width * 2}x{mask.height}"
    start = read_start(StartImage(path=files["picture.png"], mask=str(tmp_path / "wide.png")), *size)
    assert start.notes == (f"the mask is {wide} and was stretched over the picture's {size[0]}x{size[1]}",)
    assert read_start(StartImage(path=files["picture.png"], mask=files["mask.png"]), *size).notes == ()


def test_an_empty_mask_is_refused(files: dict[str, str], own: Settings, tmp_path: Path) -> None:
    Image.new("L", (64, 96)).save(tmp_path / "black.png")
    with pytest.raises(UsageError, match="nothing to make anew"):
        made(files, own, mask=str(tmp_path / "black.png"))


def test_the_infotext_says_how_it_was_started(files: dict[str, str], own: Settings) -> None:
    begin = StartImage(
        path=files["picture.png"], mask=files["mask.png"], padding_px=8, fill="latent noise", denoising=0.4
    )
    request = TextToImage(prompt="x", model=files["tiny.safetensors"], steps=4, seed=5, start=begin)
    validate(replace(request, start=replace(begin, noise_multiplier=0.9)))
    report = make_pictures(request, own, None, lambda done, rows: None)
    line = report.pictures[0].infotext.splitlines()[-1]
    for words in ("Denoising strength: 0.4", "Inpaint area: Only masked", "Masked area padding: 8", "latent noise"):
        assert words in line
