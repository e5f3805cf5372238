"""A picture is made again from its own text, bit for bit, whatever it was made with and whatever the settings say."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, assume, example, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from hayate.cli.main import main
from hayate.errors import UsageError
from hayate.models.config import Family
from hayate.pipeline.infotext import Infotext, parse_infotext
from hayate.pipeline.pasted import paste_picture
from hayate.pipeline.pasted_start import start_files as start_files_of
from hayate.pipeline.players import read_config
from hayate.pipeline.session import make_pictures
from hayate.pipeline.workspace import Workspace
from hayate.request import FILLS, LATENT_UPSCALERS, PIXEL_UPSCALERS, RESIZE_MODES, Hires, StartImage, TextToImage
from hayate.runtime.asked import Asked
from hayate.samplers.catalogue import sampler_names
from hayate.samplers.sigmas import schedule_names
from hayate.settings import Settings, load_settings
from hayate.weights.builtin import builtin_model
from tests.lora_files import MAKERS, save
from tests.tiny_models import write_tiny

FORMATS = ("png", "jpeg", "webp", "avif")
OTHERS = {"clip_skip": 3, "rng": "CPU", "ensd": 31337, "emphasis": "Ignore", "scheduler": "Exponential"}
OTHERS |= {"steps": 9, "cfg": 3.5, "sampler": "Heun", "width_px": 192, "height_px": 64, "batch_size": 2}
"""Settings that would make another picture if any of them acted."""

WORDS = st.sampled_from(
    [
        "a red sun",
        "(sea:1.3)",
        "[fog]",
        "海",
        "BREAK",
        "[dawn:dusk:0.5]",
        "[a|b]",
        "mountains, purple",
        "\n",
        "AND",
        "a\\\\b",
        "<lora:wash:0.6>",
        "(inkmist:1.1)",
    ]
)
PROMPTS = st.lists(WORDS, max_size=6).map(lambda words: re.sub(" *\n *", "\n", " ".join(words)).strip())
"""Without spaces at the ends of lines, which A1111's form of a text drops."""
SIZES = st.sampled_from([64, 72])
NUMBERS = st.floats(0, 1, allow_subnormal=False)
REQUESTS = st.builds(
    TextToImage,
    prompt=PROMPTS,
    negative_prompt=PROMPTS,
    steps=st.integers(1, 4),
    sampler=st.sampled_from(sampler_names()),
    scheduler=st.sampled_from(schedule_names()),
    cfg=st.floats(1, 12),
    width_px=SIZES,
    height_px=SIZES,
    seed=st.integers(0, 2**32),
    subseed=st.none() | st.integers(0, 2**32),
    subseed_strength=st.none() | NUMBERS,
    seed_resize_from_w_px=st.none() | SIZES,
    seed_resize_from_h_px=st.none() | SIZES,
    noise_source=st.sampled_from(["GPU", "CPU", "NV"]),
    ensd=st.sampled_from([0, 1, 31337]),
    clip_skip=st.integers(1, 3),
    emphasis=st.sampled_from(["Original", "No norm", "Ignore", "None"]),
    eta=st.none() | NUMBERS,
    sigma_min=st.none() | st.floats(0.01, 0.5),
    sigma_max=st.none() | st.floats(5, 20),
    rho=st.none() | st.floats(1, 9),
    refiner=st.none() | st.just("other"),
    refiner_switch_at=st.none() | st.floats(0.01, 1),
)
HIRES = st.builds(
    Hires,
    scale=st.sampled_from([1.0, 1.25, 1.5]),
    upscaler=st.sampled_from([*LATENT_UPSCALERS, *PIXEL_UPSCALERS]),
    denoising=NUMBERS,
    steps=st.none() | st.integers(1, 3),
    sampler=st.none() | st.sampled_from(sampler_names()),
    scheduler=st.none() | st.sampled_from(schedule_names()),
    prompt=st.none() | PROMPTS.filter(bool),
    negative_prompt=st.none() | PROMPTS.filter(bool),
    model=st.none() | st.just("other"),
)
STARTS = st.fixed_dictionaries(
    {
        "denoising": NUMBERS,
        "resize_mode": st.sampled_from(RESIZE_MODES),
        "noise_multiplier": st.sampled_from([1.0, 0.9]),
    },
    optional={
        "mask": st.just("mask.png"),
        "mask_blur": st.integers(0, 8),
        "is_mask_inverted": st.booleans(),
        "fill": st.sampled_from(FILLS),
        "padding_px": st.integers(0, 16),
        "extend_px": st.sampled_from([(16, 0, 0, 0), (0, 8, 24, 8)]),
    },
)
LITERAL = TextToImage(prompt="a BREAK b", emphasis="None", steps=1, seed=1)
METHODS = st.builds(
    Asked,
    tome=st.sampled_from([None, 0.3, 0.5]),
    deepcache=st.sampled_from([None, 2]),
    s_min_uncond=st.sampled_from([None, 1.5]),
    guidance_interval=st.sampled_from([None, (0.3, 5.0)]),
)


def plain_settings(folder: Path, **flags: object) -> Settings:
    places = {
        key: folder / key
        for key in ("models_dir", "vae_dir", "outputs_dir", "cache_dir", "data_dir", "lora_dir", "embeddings_dir")
    }
    return load_settings({**places, **flags}, environment={})


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model beside the built-in one."""
    folder = tmp_path_factory.mktemp("models")
    write_tiny(folder / "other.safetensors", Family.SD1)
    return folder


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with Workspace(plain_settings(tmp_path_factory.mktemp("cache"))) as shared:
        yield shared


def made(request: TextToImage, asked: Asked, settings: Settings, workspace: Workspace):
    return make_pictures(request, settings, None, lambda *_: None, asked, workspace=workspace).pictures[0]


def write_networks(settings: Settings) -> None:
    """A LoRA and a textual inversion for the built-in model."""
    if settings.lora_dir.exists():
        return
    settings.lora_dir.mkdir()
    settings.embeddings_dir.mkdir()
    torch.manual_seed(3)
    config = read_config(builtin_model())
    save(
        settings.lora_dir / "wash.safetensors",
        {
            "lora_te_text_model_encoder_layers_0_mlp_fc1": MAKERS[0].parts(
                (config.text[0].mlp_width, config.text[0].width)
            ),
            "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q": MAKERS[0].parts((112, 112)),
        },
    )
    save_file({"emb_params": torch.randn(3, config.text[0].width)}, settings.embeddings_dir / "inkmist.safetensors")


def start_files(folder: Path, more: Mapping[str, Any]) -> dict[str, Any]:
    """A picture, and a mask where one is wanted."""
    pixels = np.random.default_rng(5).integers(0, 256, (80, 96, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "start.png")
    mask = np.zeros((80, 96), np.uint8)
    mask[20:50, 30:70] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    masked = {"mask": str(folder / "mask.png")} if "mask" in more else {}
    return {"path": str(folder / "start.png"), **masked}


@examples(
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # to shrink a failure would take minutes
)
@example(
    request=TextToImage(prompt="a BREAK b", emphasis="None", steps=1, seed=1), more={}, asked=Asked(), format="webp"
)
@example(request=TextToImage(prompt="a\\\\b", emphasis="None", steps=1, seed=1), more={}, asked=Asked(), format="webp")
@example(
    request=replace(LITERAL, prompt="a"), more={"hires": Hires(negative_prompt="(a)")}, asked=Asked(), format="png"
)
@example(
    request=replace(LITERAL, sampler="Heun", eta=0.0, ensd=1, scheduler="Karras"),
    more={"hires": Hires(sampler="DPM++ SDE")},
    asked=Asked(),
    format="png",
)
@example(
    request=replace(LITERAL, sampler="DDIM CFG++", steps=3),
    more={"hires": Hires(sampler="DPM fast")},
    asked=Asked(s_min_uncond=1.5, guidance_interval=(0.3, 5.0)),
    format="png",
)
@given(
    request=REQUESTS,
    more=st.just({}) | HIRES.map(lambda hires: {"hires": hires}) | STARTS,
    asked=METHODS | st.just(Asked()),
    format=st.sampled_from(FORMATS),
)
def test_every_format_is_made_again_to_the_bit(
    tmp_path: Path,
    workspace: Workspace,
    models: Path,
    *,
    request: TextToImage,
    more: dict[str, Any],
    asked: Asked,
    format: str,
) -> None:
    settings = plain_settings(tmp_path, format=format, models_dir=models)
    write_networks(settings)
    files = start_files(tmp_path, more) if "denoising" in more else {}
    request = replace(request, **more) if "hires" in more else request
    request = replace(request, start=StartImage(**{**more, **files})) if files else request
    try:
        first = made(request, asked, settings, workspace)
    except UsageError:
        assume(False)
        raise
    pasted = paste_picture(first.path, replace(settings, **OTHERS), {"start"} if files and format != "png" else ())
    if files and format != "png":  # only a PNG has names in it
        pasted = replace(pasted, request=replace(pasted.request, start=StartImage(**{**pasted.start, **files})))
    second = made(pasted.request, pasted.asked, replace(settings, **OTHERS), workspace)
    assert second.infotext == first.infotext
    assert second.path.suffix == first.path.suffix
    assert np.array_equal(np.asarray(Image.open(first.path)), np.asarray(Image.open(second.path)))
    assert pasted.notes == ()


@pytest.mark.parametrize("strength", [0.0, 0.3])
def test_every_picture_of_a_job_is_made_again_alone(tmp_path: Path, workspace: Workspace, strength: float) -> None:
    settings = plain_settings(tmp_path)
    request = TextToImage(prompt="sea", steps=3, sampler="Euler a", width_px=64, height_px=64, seed=4, batch_count=3)
    request = replace(request, subseed=70, subseed_strength=strength)
    pictures = make_pictures(request, settings, None, lambda *_: None, workspace=workspace).pictures
    pixels = [np.asarray(Image.open(each.path)) for each in pictures]
    assert not np.array_equal(pixels[0], pixels[1])
    for picture, before in zip(pictures, pixels, strict=True):
        again = made(paste_picture(picture.path, settings).request, Asked(), settings, workspace)
        assert np.array_equal(np.asarray(Image.open(again.path)), before)


AWKWARD = ["  spaces  around \n\n lines  ", "x\nNegative prompt: y\nz", "tab\tand \r\n return", "<lora:a:1> sea"]


@pytest.mark.parametrize("prompt", AWKWARD)
def test_a_png_keeps_a_prompt_to_the_letter(tmp_path: Path, workspace: Workspace, prompt: str) -> None:
    settings = plain_settings(tmp_path)
    request = TextToImage(prompt=prompt, negative_prompt=" fog ", steps=1, width_px=64, height_px=64, seed=1)
    first = made(request, Asked(), settings, workspace)
    assert paste_picture(first.path, settings).request.prompt == prompt


def test_a_text_that_was_edited_counts_more_than_the_record(tmp_path: Path, workspace: Workspace) -> None:
    from PIL.PngImagePlugin import PngInfo

    settings = plain_settings(tmp_path)
    first = made(TextToImage(prompt="sea", steps=1, width_px=64, height_px=64), Asked(), settings, workspace)
    with Image.open(first.path) as image:
        texts = PngInfo()
        texts.add_text("parameters", first.infotext.replace("sea", "lake"))
        texts.add_text("hayate", image.info["hayate"])
        image.save(tmp_path / "edited.png", pnginfo=texts)
    assert paste_picture(tmp_path / "edited.png", settings).request.prompt == "lake"


def test_styles_act_once(tmp_path: Path, workspace: Workspace) -> None:
    (tmp_path / "styles.csv").write_text('name,prompt,negative_prompt\nink,"{prompt}, ink drawing",photo\n')
    settings = plain_settings(tmp_path, styles_file=tmp_path / "styles.csv")
    request = TextToImage(prompt="sea", styles=("ink",), steps=1, width_px=64, height_px=64, seed=1)
    first = made(request, Asked(), settings, workspace)
    again = paste_picture(first.path, settings).request
    assert (again.prompt, again.negative_prompt, again.styles) == ("sea, ink drawing", "photo", ())


def test_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["generate", "a red sun", "--negative", "fog", "--steps", "3", "--seed", "5", "-o", "a.png"]) == 0
    assert main(["generate", "--from", "a.png", "-o", "b.png"]) == 0
    assert np.array_equal(np.asarray(Image.open("a.png")), np.asarray(Image.open("b.png")))
    capsys.readouterr()
    changes = ["--seed", "6", "--negative", "", "--cfg", "4"]
    assert main(["generate", "a lake", "--from", "a.png", "--json", "-o", "c.png", *changes]) == 0
    info = parse_infotext(json.loads(capsys.readouterr().out)["images"][0]["infotext"])
    before = parse_infotext(Image.open("a.png").info["parameters"])
    assert (info.prompt, info.negative_prompt) == ("a lake", "")
    assert info.parameters == {**before.parameters, "Seed": "6", "CFG scale": "4"}


@pytest.mark.parametrize("content", ["no picture", None])
def test_a_picture_that_says_nothing_is_one_line(
    tmp_path: Path, content: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is None:
        Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    else:
        (tmp_path / "a.png").write_text(content)
    assert main(["generate", "--from", str(tmp_path / "a.png")]) == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err.count("\n")) == ("", 1)
    assert "a.png" in shown.err


def test_the_picture_that_another_one_began_with_is_found_by_its_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    files = start_files(tmp_path, {"mask": ""})
    options = ["--image", files["path"], "--mask", files["mask"], "--denoising", "0.6", "--mask-blur", "2"]
    assert main(["generate", "sea", *options, "--steps", "4", "--seed", "2", "-o", "a.png"]) == 0
    before = np.asarray(Image.open("a.png"))

    def again(*more: str) -> tuple[np.ndarray, str]:
        capsys.readouterr()
        assert main(["generate", "--from", "a.png", *more]) == 0
        shown = capsys.readouterr()
        return np.asarray(Image.open(shown.out.strip())), shown.err

    made, said = again()
    assert np.array_equal(made, before)
    assert "not honoured" not in said
    Path("elsewhere").mkdir()
    moved = Path("start.png").rename("elsewhere/other name.png")
    made, said = again()
    assert not np.array_equal(made, before)
    assert "not honoured: img2img" in said
    assert "--image" in said
    made, said = again("--image", str(moved), "--mask", "mask.png")
    assert np.array_equal(made, before)
    assert "not honoured" not in said
    Image.new("RGB", (96, 80), "red").save("start.png")  # the name alone is not enough
    assert "not honoured: img2img" in again()[1]
    parameters = parse_infotext(Image.open("a.png").info["parameters"]).parameters
    assert parameters["Init image hash"] == hashlib.md5(Image.open(moved).convert("RGB").tobytes()).hexdigest()


@pytest.mark.parametrize(
    "name", ["//host/share/a.png", "\\\\host\\share\\a.png", "/dev/zero", "../\0", "a/" * 5000, ""]
)
def test_a_recorded_name_leads_to_no_other_host_and_no_device(tmp_path: Path, name: str) -> None:
    info = Infotext(parameters={"Denoising strength": "0.5", "Init image hash": "0" * 32})
    record = {"asked": {"start": {"path": name}}}
    assert start_files_of(info, record, tmp_path / "a.png", tmp_path) == {}


@pytest.mark.parametrize(
    "option", [["--denoising", "0.4"], ["--mask", "m.png"], ["--only-masked", "8"], ["--invert-mask"]]
)
def test_options_of_a_start_need_a_picture(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "sea", *option]) == 2
    assert f"{option[0]} needs the picture" in capsys.readouterr().err
