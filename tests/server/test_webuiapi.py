"""PyPI's `webuiapi`, unmodified, against the server as its users start it, with the built-in model."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from tests.lora_files import MAKERS, save
from tests.server.a1111_cases import IMAGE, IMAGE_CASES, SIMPLE, TEXT_CASES
from tests.server.real_server import running

webuiapi = pytest.importorskip("webuiapi", reason="the client is not installed")

SMALL: dict[str, Any] = {"width": 64, "height": 64, "steps": 2, "seed": 7}
INFO = {
    *("prompt", "all_prompts", "negative_prompt", "all_negative_prompts", "seed", "all_seeds", "subseed", "notes"),
    *("all_subseeds", "subseed_strength", "width", "height", "sampler_name", "cfg_scale", "steps", "batch_size"),
    *("restore_faces", "face_restoration_model", "sd_model_name", "sd_model_hash", "sd_vae_name", "sd_vae_hash"),
    *("seed_resize_from_w", "seed_resize_from_h", "denoising_strength", "extra_generation_params"),
    *("index_of_first_image", "infotexts", "styles", "job_timestamp", "clip_skip"),
    *("is_using_inpainting_conditioning", "version"),
}
"""A1111's keys and one of Hayate's."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("webui")
    (made / "lora_dir").mkdir()
    torch.manual_seed(0)
    layers = {"lora_unet_mid_block_attentions_0_proj_in": MAKERS[0].parts((112, 112, 1, 1))}
    save(made / "lora_dir" / "tiny.safetensors", layers, {"ss_output_name": "small"})
    (made / "models_dir").mkdir()
    (made / "models_dir" / "broken.safetensors").write_bytes(b"version https://git-lfs")
    return made


@pytest.fixture(scope="module")
def api(folder: Path) -> Iterator[Any]:
    with running(folder) as port:
        yield webuiapi.WebUIApi(host="127.0.0.1", port=port, sampler="Euler a", steps=2)


def test_text_to_image(api: Any) -> None:
    made = api.txt2img(prompt="a lake", **SMALL)

    assert made.image.size == (64, 64)
    assert made.info["seed"] == 7
    assert made.info["sampler_name"] == "Euler a"
    assert made.info["notes"] == []
    assert set(made.info) == INFO
    assert made.parameters["prompt"] == "a lake"
    assert made.image.info["parameters"].startswith("a lake\nSteps: 2, Sampler: Euler a")
    again = api.txt2img(prompt="a lake", **SMALL)
    assert np.array_equal(np.asarray(made.image), np.asarray(again.image))


def test_hires_fix(api: Any) -> None:
    made = api.txt2img(prompt="a lake", enable_hr=True, hr_scale=2, hr_upscaler=webuiapi.HiResUpscaler.Latent, **SMALL)

    assert made.image.size == (128, 128)
    assert made.info["extra_generation_params"]["Hires upscaler"] == "Latent"


def test_batches_count_up(api: Any) -> None:
    made = api.txt2img(prompt="a lake", batch_size=2, n_iter=2, **SMALL)

    assert len(made.images) == 4
    assert made.info["all_seeds"] == [7, 8, 9, 10]


def test_image_to_image(api: Any) -> None:
    start = Image.new("RGB", (64, 64), "navy")

    made = api.img2img(images=[start], prompt="a lake", denoising_strength=0.6, **SMALL)

    assert made.image.size == (64, 64)
    assert made.info["denoising_strength"] == 0.6
    assert "Init image hash" in made.info["infotexts"][0]


def test_inpainting_leaves_what_is_outside_of_the_mask(api: Any) -> None:
    start = Image.effect_noise((64, 64), 80).convert("RGB")
    mask = Image.new("L", (64, 64), 0)
    ImageDraw.Draw(mask).rectangle((32, 0, 63, 63), fill=255)

    made = api.img2img(images=[start], mask_image=mask, mask_blur=0, inpaint_full_res=False, prompt="a lake", **SMALL)

    before, after = np.asarray(start), np.asarray(made.image)
    assert np.array_equal(before[:, :32], after[:, :32])
    assert not np.array_equal(before[:, 32:], after[:, 32:])


def test_sd_upscale_by_its_script(api: Any) -> None:
    start = Image.new("RGB", (64, 64), "navy")
    arguments = ["", 8, "Lanczos", 2.0]

    made = api.img2img(images=[start], prompt="a lake", script_name="sd upscale", script_args=arguments, **SMALL)

    assert made.image.size == (128, 128)


def test_a_plot_by_its_script(api: Any) -> None:
    arguments = [4, "1,2", [], 0, "", [], 0, "", [], True, False, False, False, False, False, False, 0, False]

    sheet = api.txt2img(prompt="a lake", script_name="x/y/z plot", script_args=arguments, **SMALL)
    arguments[10] = True
    whole = api.txt2img(prompt="a lake", script_name="x/y/z plot", script_args=arguments, **SMALL)

    assert [each.size > (128, 64) for each in sheet.images] == [True]
    assert [each.size for each in whole.images] == [sheet.image.size, (64, 64), (64, 64)]


@pytest.mark.parametrize(
    ("name", "arguments", "count"),
    [
        ("prompt matrix", [False, False, "positive", "comma", 0], 5),
        ("prompts from file or textbox", [False, False, "start", "a lake\na hill"], 2),
    ],
)
def test_scripts_of_many_prompts(api: Any, name: str, arguments: list[Any], count: int) -> None:
    made = api.txt2img(prompt="a lake|snow|night", script_name=name, script_args=arguments, **SMALL)

    assert len(made.images) == count


@pytest.mark.parametrize(
    ("name", "arguments", "sizes"),
    [
        ("loopback", [2, 0.5, "Linear", "None"], [(64, 64), (64, 64)]),
        ("outpainting mk2", ["", 64, 8, ["left"], 1.0, 0.05], [(128, 64)]),
        ("poor man's outpainting", [64, 8, "fill", ["up", "down"]], [(64, 192)]),
    ],
)
def test_scripts_of_pictures(api: Any, name: str, arguments: list[Any], sizes: list[tuple[int, int]]) -> None:
    start = Image.effect_noise((64, 64), 80).convert("RGB")

    made = api.img2img(images=[start], prompt="a lake", script_name=name, script_args=arguments, **SMALL)

    assert [each.size for each in made.images] == sizes


def test_extras(api: Any) -> None:
    start = Image.new("RGB", (48, 32), "teal")

    made = api.extra_single_image(start, upscaler_1=webuiapi.Upscaler.Lanczos, upscaling_resize=2)
    sized = api.extra_single_image(start, upscaler_1="Lanczos", resize_mode=1, upscaling_resize_w=64)
    many = api.extra_batch_images([start, start], upscaler_1="Lanczos", upscaling_resize=2)

    assert made.image.size == (96, 64)
    assert sized.image.size == (64, 512)
    assert [each.size for each in many.images] == [(96, 64), (96, 64)]
    assert "Lanczos" in made.info


def test_what_a_picture_says(api: Any) -> None:
    made = api.txt2img(prompt="a lake", **SMALL)

    assert api.png_info(made.image).info == made.info["infotexts"][0]


def test_options_come_back(api: Any) -> None:
    assert api.get_options()["send_seed"] is True
    assert api.set_options({"send_seed": False}) is None
    assert api.get_options()["send_seed"] is False
    whole = api.get_options()
    api.set_options(whole)
    assert api.get_options() == whole


def test_the_model_is_set_by_its_title(api: Any) -> None:
    api.util_set_model("built-in")

    assert api.util_get_current_model().startswith("built-in")


def test_a_lora_acts_and_is_gone_after_its_prompt(api: Any) -> None:
    plain, drawn, after = (
        api.txt2img(prompt=prompt, **SMALL) for prompt in ("a lake", "a lake <lora:tiny:1>", "a lake")
    )

    assert not np.array_equal(np.asarray(plain.image), np.asarray(drawn.image))
    assert np.array_equal(np.asarray(plain.image), np.asarray(after.image))
    assert drawn.info["extra_generation_params"]["Lora hashes"].startswith("tiny: ")


def test_progress_and_interrupt(api: Any) -> None:
    made: list[Any] = []
    long = {**SMALL, "steps": 1000}
    thread = threading.Thread(target=lambda: made.append(api.txt2img(prompt="a lake", n_iter=50, **long)))
    thread.start()
    _until(lambda: api.get_progress()["state"]["sampling_step"] > 0)
    now = api.get_progress()
    assert 0 <= now["progress"] < 1
    assert now["state"]["job_count"] == 50
    assert api.interrupt() == {}
    thread.join(30)
    assert len(made[0].images) < 50
    assert api.get_progress()["state"]["job_count"] == 0
    assert api.skip() is None


def test_lists(api: Any) -> None:
    assert {"Euler a", "DPM++ 2M"} <= set(api.util_get_sampler_names())
    assert {"automatic", "karras"} <= set(api.util_get_scheduler_names())
    assert "built-in" in {name.split(" [")[0] for name in api.util_get_model_names()}
    assert {"None", "Lanczos"} <= {each["name"] for each in api.get_upscalers()}
    assert "Latent" in {each["name"] for each in api.get_latent_upscale_modes()}
    assert [(each["name"], each["alias"]) for each in api.get_loras()] == [("tiny", "small")]
    assert api.get_sd_vae() == []
    assert api.get_hypernetworks() == []
    assert api.get_face_restorers() == []
    assert api.get_prompt_styles() == []
    assert api.get_embeddings() == {"loaded": {}, "skipped": {}}
    assert "sd upscale" in api.get_scripts()["img2img"]
    assert api.get_cmd_flags()["xformers"] is False
    assert set(api.get_memory()) == {"ram", "cuda"}
    assert api.refresh_checkpoints() is None


def test_a_broken_file_is_listed_with_the_reason(api: Any) -> None:
    found = {each["title"]: each["problem"] for each in api.get_sd_models()}

    assert found["broken.safetensors"]
    with pytest.raises(RuntimeError, match="broken"):
        api.txt2img(prompt="x", override_settings={"sd_model_checkpoint": "broken"}, **SMALL)
    assert api.txt2img(prompt="a lake", **SMALL).image.size == (64, 64)


def test_errors_are_told(api: Any) -> None:
    with pytest.raises(RuntimeError, match="Euler") as caught:
        api.txt2img(prompt="x", sampler_name="Eulr", **SMALL)
    assert caught.value.args[0] == 422


def test_nobody_here_describes_pictures(api: Any) -> None:
    with pytest.raises(RuntimeError, match="501"):
        api.interrogate(Image.new("RGB", (8, 8)))


def test_a_call_whose_caller_hangs_up_ends(api: Any) -> None:
    host, port = api.baseurl.split("/")[2].split(":")
    gone = http.client.HTTPConnection(host, int(port))
    body = json.dumps({**SMALL, "prompt": "a lake", "steps": 1000, "n_iter": 50})
    gone.request("POST", "/sdapi/v1/txt2img", body, {"Content-Type": "application/json"})
    _until(lambda: api.get_progress()["state"]["sampling_step"] > 0)

    gone.close()

    _until(lambda: api.get_progress()["state"]["job_count"] == 0)


def _until(is_so: Callable[[], bool], limit_s: float = 60) -> None:
    limit = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < limit, "it did not come to that"
        time.sleep(0.05)


@pytest.mark.parametrize("changes", TEXT_CASES, ids=str)
def test_a1111s_text_cases(api: Any, changes: dict[str, Any]) -> None:
    reply = api.session.post(f"{api.baseurl}/txt2img", json={**SIMPLE, **changes})

    assert reply.status_code == 200, reply.text
    assert len(reply.json()["images"]) == changes.get("n_iter", 1) * changes.get("batch_size", 1)


@pytest.mark.parametrize("changes", IMAGE_CASES.values(), ids=IMAGE_CASES)
def test_a1111s_image_cases(api: Any, changes: dict[str, Any]) -> None:
    reply = api.session.post(f"{api.baseurl}/img2img", json={**IMAGE, **changes})

    assert reply.status_code == 200, reply.text
    assert len(reply.json()["images"]) == 1
