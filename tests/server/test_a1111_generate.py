"""txt2img and img2img: A1111's own API cases, written anew from what they ask, and the quirks of its callers."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hayate.errors import EngineError, QueueFull
from hayate.jobs.records import State
from tests.server.a1111_cases import IMAGE, IMAGE_CASES, SIMPLE, TEXT_CASES
from tests.server.a1111_server import Served, opened, picture, serve


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return serve(tmp_path)


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Served:
    """One whose desk makes nothing."""
    served = serve(tmp_path_factory.mktemp("idle"))
    served.desk.makes_pictures = False
    return served


@pytest.mark.parametrize("changes", TEXT_CASES, ids=str)
def test_a1111s_text_cases(served: Served, changes: dict[str, Any]) -> None:
    reply = served.post("txt2img", {**SIMPLE, **changes})

    count = changes.get("n_iter", 1) * changes.get("batch_size", 1)
    assert [opened(each).size for each in reply["images"]] == [(64, changes.get("height", 64))] * count
    assert reply["parameters"]["steps"] == 3
    info = json.loads(reply["info"])
    assert info["all_seeds"] == list(range(info["seed"], info["seed"] + count))


@pytest.mark.parametrize("changes", IMAGE_CASES.values(), ids=IMAGE_CASES)
def test_a1111s_image_cases(served: Served, changes: dict[str, Any]) -> None:
    reply = served.post("img2img", {**IMAGE, **changes})

    assert len(reply["images"]) == 1
    start = served.last()["request"]["start"]
    assert Path(start["path"]).read_bytes() == base64.b64decode(picture())
    assert start.get("is_mask_inverted", False) == changes.get("inpainting_mask_invert", False)
    assert ("mask" in start) == ("mask" in changes)


def test_the_pictures_are_the_files_themselves_with_all_that_they_say(served: Served) -> None:
    reply = served.post("txt2img", {**SIMPLE, "seed": 7})

    made = next((served.desk.folder / "results").rglob("0.png"))
    assert base64.b64decode(reply["images"][0]) == made.read_bytes()
    assert opened(reply["images"][0]).info["parameters"].startswith("example prompt\nSteps: 3, Sampler: Euler a")


def test_info_has_all_of_a1111s_keys(served: Served) -> None:
    info = json.loads(served.post("txt2img", {**SIMPLE, "seed": 5})["info"])

    assert set(info) - {"notes"} == {
        *("prompt", "all_prompts", "negative_prompt", "all_negative_prompts", "seed", "all_seeds", "subseed"),
        *("all_subseeds", "subseed_strength", "width", "height", "sampler_name", "cfg_scale", "steps", "batch_size"),
        *("restore_faces", "face_restoration_model", "sd_model_name", "sd_model_hash", "sd_vae_name", "sd_vae_hash"),
        *("seed_resize_from_w", "seed_resize_from_h", "denoising_strength", "extra_generation_params"),
        *("index_of_first_image", "infotexts", "styles", "job_timestamp", "clip_skip"),
        *("is_using_inpainting_conditioning", "version"),
    }
    assert (info["seed"], info["sampler_name"], info["sd_model_name"]) == (5, "Euler a", "fake")
    assert info["job_timestamp"].isdigit()
    assert len(info["job_timestamp"]) == 14


def test_every_default_is_a1111s(served: Served) -> None:
    said = served.post("txt2img", {})["parameters"]

    assert {key: said[key] for key in ("steps", "cfg_scale", "width", "height", "sampler_index", "seed")} == {
        "steps": 50,
        "cfg_scale": 7.0,
        "width": 512,
        "height": 512,
        "sampler_index": "Euler",
        "seed": -1,
    }
    asked = served.last()["request"]
    assert (asked["steps"], asked["sampler"], asked["width_px"]) == (50, "Euler", 512)


def test_null_is_what_was_not_sent_and_unknown_fields_are_passed_over(served: Served) -> None:
    nothing = dict.fromkeys(served.post("txt2img", {})["parameters"])

    plain = served.last()
    served.post("txt2img", {**nothing, "an_extension": {"a": [1]}})
    assert served.last() == plain


@pytest.mark.parametrize(
    ("sampler", "scheduler", "expected"),
    [
        ("Euler a", "automatic", ("Euler a", "Automatic")),
        ("DPM++ 2M Karras", None, ("DPM++ 2M", "Karras")),
        ("DPM++ 2M Karras", "Exponential", ("DPM++ 2M", "Karras")),
        ("DPM++ 2M", "karras", ("DPM++ 2M", "Karras")),
        ("k_euler_a", "sgm_uniform", ("Euler a", "SGM Uniform")),
    ],
)
def test_samplers_and_schedules_by_all_of_their_names(
    served: Served, sampler: str, scheduler: str | None, expected: tuple[str, str]
) -> None:
    served.post("txt2img", {**SIMPLE, "sampler_name": sampler, "scheduler": scheduler})

    asked = served.last()["request"]
    assert (asked["sampler"], asked["scheduler"]) == expected


def test_sampler_name_wins_over_the_old_field(served: Served) -> None:
    served.post("txt2img", {**SIMPLE, "sampler_name": "Heun", "sampler_index": "DDIM"})

    assert served.last()["request"]["sampler"] == "Heun"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sampler_name": "Eulr"}, ("sampler", "Euler")),
        ({"scheduler": "Karas"}, ("schedule", "Karras")),
        ({"enable_hr": True, "hr_upscaler": "Latnet"}, ("upscaler", "Latent")),
        ({"override_settings": {"sd_model_checkpoint": "bild-in"}}, ("model", "built-in")),
        ({"refiner_checkpoint": "gone", "refiner_switch_at": 0.8}, ("model", "built-in")),
        ({"script_name": "x/y/z plott"}, ("script", "x/y/z plot")),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(
    served: Served, changes: dict[str, Any], words: tuple[str, str]
) -> None:
    error = served.refused("txt2img", {**SIMPLE, **changes})

    assert error["error"] == "UnknownName"
    assert words[0] in error["errors"]
    assert words[1] in error["detail"]


def test_the_compatibility_switch_takes_what_a1111_takes_and_says_so(tmp_path: Path) -> None:
    served = serve(tmp_path, a1111_unknown_names="substitute")

    overrides = {"sd_model_checkpoint": "nobody's"}
    names = {"sampler_name": "Eulr", "scheduler": "no", "styles": ["gone"], "override_settings": overrides}
    reply = served.post("txt2img", {**SIMPLE, **names})

    asked = served.last()["request"]
    assert (asked["sampler"], asked["scheduler"]) == ("DPM++ 2M", "Automatic")
    notes = " ".join(json.loads(reply["info"])["notes"])
    assert all(word in notes for word in ("Eulr", "DPM++ 2M", "'no'", "gone", "nobody's"))


@pytest.mark.parametrize("sampler", ["Euler", "Euler a", "DDIM", "DPM++ 2M"])
def test_eta_is_sent_with_every_sampler_and_acts_where_there_is_one(served: Served, sampler: str) -> None:
    served.post("txt2img", {**SIMPLE, "sampler_name": sampler, "eta": 1.0})

    assert served.last()["request"].get("eta") == (None if sampler in ("Euler", "DPM++ 2M") else 1.0)


@pytest.mark.parametrize("nothing", [-1, 0])
def test_seed_resize_is_off_at_minus_one_and_at_nought(served: Served, nothing: int) -> None:
    served.post("txt2img", {**SIMPLE, "seed_resize_from_h": nothing, "seed_resize_from_w": nothing})

    assert not [key for key in served.last()["request"] if key.startswith("seed_resize")]


def test_churn_that_is_off_is_no_note_and_churn_that_is_on_is_one(served: Served) -> None:
    quiet = json.loads(served.post("txt2img", {**SIMPLE, "s_tmax": 0})["info"])["notes"]
    loud = json.loads(served.post("txt2img", {**SIMPLE, "s_churn": 5, "s_noise": 1.1})["info"])["notes"]

    assert [note for note in quiet if note.startswith("s_")] == []
    assert [note.split()[0] for note in loud if note.startswith("s_")] == ["s_churn", "s_noise"]


def test_faces_and_tiling_are_made_without_and_said(served: Served) -> None:
    notes = json.loads(served.post("txt2img", {**SIMPLE, "restore_faces": True, "tiling": True})["info"])["notes"]

    assert {note.split()[0] for note in notes} >= {"restore_faces", "tiling"}


def test_sizes_become_whole_latents_with_a_note(served: Served) -> None:
    reply = served.post("txt2img", {**SIMPLE, "width": 70, "height": 500})

    assert opened(reply["images"][0]).size == (64, 496)
    assert any("70x500 became 64x496" in note for note in json.loads(reply["info"])["notes"])


def test_hires_fix_with_all_of_its_fields(served: Served) -> None:
    served.post(
        "txt2img",
        {
            **SIMPLE,
            "enable_hr": True,
            "hr_scale": 1.5,
            "denoising_strength": 0.4,
            "hr_second_pass_steps": 2,
            "hr_sampler_name": "DPM++ 2M Karras",
            "hr_scheduler": "Use same scheduler",
            "hr_checkpoint_name": "Use same checkpoint",
            "hr_prompt": "closer",
        },
    )

    assert served.last()["request"]["hires"] == {
        "scale": 1.5,
        "upscaler": "Latent",
        "denoising": 0.4,
        "steps": 2,
        "sampler": "DPM++ 2M",
        "scheduler": "Karras",
        "prompt": "closer",
    }


def test_the_old_way_to_ask_for_hires_fix_gives_the_first_size_apart(served: Served) -> None:
    served.post(
        "txt2img",
        {**SIMPLE, "enable_hr": True, "width": 128, "height": 192, "firstphase_width": 64, "firstphase_height": 96},
    )

    asked = served.last()["request"]
    assert (asked["width_px"], asked["height_px"]) == (64, 96)
    assert (asked["hires"]["width_px"], asked["hires"]["height_px"]) == (128, 192)


def test_the_grid_comes_first_where_pictures_are_saved(served: Served) -> None:
    saved = served.post("txt2img", {**SIMPLE, "batch_size": 2, "save_images": True})
    unsaved = served.post("txt2img", {**SIMPLE, "batch_size": 2})
    without = served.post("txt2img", {**SIMPLE, "batch_size": 2, "save_images": True, "do_not_save_grid": True})

    assert [len(each["images"]) for each in (saved, unsaved, without)] == [3, 2, 2]
    info = json.loads(saved["info"])
    assert info["index_of_first_image"] == 1
    assert len(info["infotexts"]) == 3
    assert json.loads(unsaved["info"])["index_of_first_image"] == 0


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, False), ({"save_images": True}, True), ({"save_images": True, "do_not_save_samples": True}, False)],
)
def test_pictures_are_saved_where_that_is_asked(served: Served, changes: dict[str, Any], expected: bool) -> None:
    served.post("txt2img", {**SIMPLE, **changes})

    assert served.last()["saves_pictures"] is expected


def test_no_pictures_are_sent_where_none_are_wanted(served: Served) -> None:
    assert served.post("txt2img", {**SIMPLE, "send_images": False})["images"] == []


def test_override_settings_act_on_one_call(served: Served) -> None:
    served.post(
        "txt2img",
        {
            **SIMPLE,
            "override_settings": {
                "CLIP_stop_at_last_layers": 2,
                "eta_noise_seed_delta": 31337,
                "randn_source": "CPU",
                "emphasis": "No norm",
                "sd_model_checkpoint": "built-in [0123456789]",
                "sd_vae": "None",
                "s_min_uncond": 1.5,
                "token_merging_ratio": 0.4,
                "sigma_max": 10,
            },
        },
    )

    body = served.last()
    assert body["settings"] == {"clip_skip": 2, "ensd": 31337, "rng": "CPU", "emphasis": "No norm"}
    assert body["asked"] == {"s_min_uncond": 1.5, "tome": 0.4}
    assert body["request"]["model"] == "built-in"
    assert "vae" not in body["request"]
    assert body["request"]["sigma_max"] == 10
    served.post("txt2img", SIMPLE)
    assert served.last()["settings"] == {}


def test_override_settings_hold_where_they_are_not_to_be_restored(served: Served) -> None:
    override = {"override_settings": {"randn_source": "CPU"}, "override_settings_restore_afterwards": False}

    served.post("txt2img", {**SIMPLE, **override})

    assert served.get("options")["randn_source"] == "CPU"


def test_places_are_not_set_by_a_call(served: Served, tmp_path: Path) -> None:
    overrides = {"outdir_samples": str(tmp_path / "x"), "samples_filename_pattern": "../../x", "unheard_of": 1}

    reply = served.post("txt2img", {**SIMPLE, "override_settings": overrides})

    assert served.last()["settings"] == {}
    notes = " ".join(json.loads(reply["info"])["notes"])
    assert all(key in notes for key in overrides)


@pytest.mark.parametrize(
    ("content", "status"),
    [({}, 200), ({"args": []}, 200), ({"args": [False]}, 200), ({"args": [True, {"ad_model": "face"}]}, 422)],
)
def test_an_extension_that_is_told_to_act_is_missed(served: Served, content: Any, status: int) -> None:
    reply = served.client.post("/sdapi/v1/txt2img", json={**SIMPLE, "alwayson_scripts": {"ADetailer": content}})

    assert reply.status_code == status
    assert status == 200 or "ADetailer" in reply.json()["detail"]


def test_a1111s_own_always_on_scripts_are_fields(served: Served) -> None:
    scripts = {
        "Sampler": {"args": [7, "Heun", "Karras"]},
        "Seed": {"args": [5, True, 6, 0.25, 0, 0]},
        "Refiner": {"args": [False, "gone", 0.8]},
        "Comments": {"args": []},
        "Extra options": {"args": ["x"]},
    }

    served.post("txt2img", {**SIMPLE, "alwayson_scripts": scripts})

    asked = served.last()["request"]
    assert (asked["steps"], asked["sampler"], asked["scheduler"]) == (7, "Heun", "Karras")
    assert (asked["seed"], asked["subseed"], asked["subseed_strength"]) == (5, 6, 0.25)
    for bad in ({"Sampler": {"args": ["many"]}}, {"Seed": {"args": 5}}, {"Refiner": {"args": [True, "gone"]}}):
        served.refused("txt2img", {**SIMPLE, "alwayson_scripts": bad})


def test_an_infotext_fills_what_the_call_does_not_set(served: Served) -> None:
    text = "a hill\nNegative prompt: fog\nSteps: 7, Sampler: Heun, CFG scale: 3, Seed: 9, Size: 128x64, Clip skip: 2"

    served.post("txt2img", {"infotext": text, "steps": 4, "override_settings": {"randn_source": "CPU"}})

    body = served.last()
    asked = body["request"]
    assert (asked["prompt"], asked["negative_prompt"], asked["steps"], asked["sampler"]) == ("a hill", "fog", 4, "Heun")
    assert (asked["cfg"], asked["seed"], asked["width_px"], asked["height_px"]) == (3, 9, 128, 64)
    assert body["settings"]["clip_skip"] == 2
    assert body["settings"]["rng"] == "CPU"


def test_an_infotexts_model_is_taken_where_it_is_here(served: Served) -> None:
    text = "x\nSteps: 2, Sampler: Euler, Seed: 1, Size: 64x64, Model hash: 0123456789, Model: "

    served.post("txt2img", {"infotext": text + "built-in"})
    assert served.last()["request"]["model"] == "built-in"
    reply = served.post("txt2img", {"infotext": text + "gone"})
    assert "model" not in served.last()["request"]
    assert any("'gone' is not here" in note for note in json.loads(reply["info"])["notes"])


def test_an_infotext_with_a_second_pass_asks_for_one(served: Served) -> None:
    text = "x\nSteps: 2, Sampler: Euler, Seed: 1, Size: 64x64, Denoising strength: 0.4, Hires upscale: 2, "

    served.post("txt2img", {"infotext": text + "Hires upscaler: Lanczos"})

    hires = served.last()["request"]["hires"]
    assert (hires["upscaler"], hires["denoising"]) == ("Lanczos", 0.4)


def test_styles_are_known_by_name(served: Served) -> None:
    served.settings.styles_file.write_text("name,prompt,negative_prompt\nOil,oil painting,photo\n")

    served.post("txt2img", {**SIMPLE, "styles": ["Oil"]})

    assert served.last()["request"]["styles"] == ["Oil"]
    assert "Oil" in served.refused("txt2img", {**SIMPLE, "styles": ["Oill"]})["detail"]


def test_networks_are_taken_out_of_the_prompt_where_that_is_asked(served: Served) -> None:
    served.post("txt2img", {**SIMPLE, "prompt": "a <lora:x:1> b", "disable_extra_networks": True})

    assert served.last()["request"]["prompt"] == "a  b"


def test_a_call_without_a_picture_is_a_404_as_there(served: Served) -> None:
    for images in ([], None):
        assert served.refused("img2img", {**IMAGE, "init_images": images}, 404)["detail"] == "Init image not found"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x.png", "HTTPS://example.invalid/x.png", "file:///etc/passwd"])
def test_nothing_is_fetched(served: Served, url: str) -> None:
    for changes in ({"init_images": [url]}, {"mask": url}):
        assert "nothing is fetched" in served.refused("img2img", {**IMAGE, **changes})["detail"]
    assert (
        "nothing is fetched" in served.refused("extra-single-image", {"image": url, "upscaler_1": "Lanczos"})["detail"]
    )
    assert "nothing is fetched" in served.refused("png-info", {"image": url})["detail"]


@pytest.mark.parametrize("text", ["no base64!", "data:text/html;base64,AAAA", "AAAA", "data:image/png;base64,"])
def test_what_is_no_picture_is_refused(served: Served, text: str) -> None:
    served.refused("img2img", {**IMAGE, "init_images": [text]})


def test_img2img_with_all_of_its_fields(served: Served) -> None:
    served.post(
        "img2img",
        {
            **IMAGE,
            "init_images": [picture(has_prefix=True)],
            "mask": picture(colour="white", has_prefix=True),
            "resize_mode": 2,
            "denoising_strength": 0.3,
            "mask_blur": None,
            "mask_blur_x": 6,
            "mask_blur_y": 6,
            "inpainting_fill": 2,
            "inpaint_full_res": True,
            "inpaint_full_res_padding": 16,
            "inpainting_mask_invert": 1,
            "initial_noise_multiplier": 0.9,
        },
    )

    start = served.last()["request"]["start"]
    expected = {
        "denoising": 0.3,
        "resize_mode": "fill",
        "noise_multiplier": 0.9,
        "mask_blur": 6,
        "is_mask_inverted": True,
        "fill": "latent noise",
        "padding_px": 16,
    }
    assert {key: start[key] for key in expected} == expected


def test_without_a_mask_the_whole_picture_is_made(served: Served) -> None:
    served.post("img2img", {**IMAGE, "inpaint_full_res": True, "inpaint_full_res_padding": 32})

    assert "padding_px" not in served.last()["request"]["start"]


def test_the_pictures_come_back_only_where_that_is_asked(served: Served) -> None:
    asked = {**IMAGE, "mask": picture(colour="white")}

    quiet = served.post("img2img", asked)["parameters"]
    loud = served.post("img2img", {**asked, "include_init_images": True})["parameters"]

    assert (quiet["init_images"], quiet["mask"]) == (None, None)
    assert (loud["init_images"], loud["mask"]) == (asked["init_images"], asked["mask"])


@pytest.mark.parametrize(("field", "value"), [("resize_mode", 9), ("inpainting_fill", -1), ("mask_blur", 1000)])
def test_numbers_that_mean_nothing_are_refused(served: Served, field: str, value: int) -> None:
    served.refused("img2img", {**IMAGE, "mask": picture(), field: value})


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 0},
        {"width": 1_000_000},
        {"cfg_scale": 1e9},
        {"batch_size": 0},
        {"seed": 2**70},
        {"prompt": "x" * 200_000},
        {"prompt": "a\0b"},
        {"steps": "many"},
        {"subseed_strength": 3},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_can_not_be_is_one_line_with_a_hint_and_no_job(served: Served, changes: dict[str, Any]) -> None:
    error = served.refused("txt2img", {**SIMPLE, **changes})

    assert error["detail"]
    assert len(json.dumps(error)) < 1000
    assert served.desk.handed_in == []


@pytest.mark.parametrize(
    "body", ['{"prompt": "\\ud83d"}', '{"script_args": ["\\ud83d"]}', '{"override_settings": {"\\ud83d": 1}}']
)
def test_half_a_character_comes_back_as_it_came(served: Served, body: str) -> None:
    reply = served.client.post("/sdapi/v1/txt2img", content=body, headers={"Content-Type": "application/json"})

    assert reply.status_code == 200
    assert "\\ud83d" in reply.text


@pytest.mark.parametrize("body", ["{", '{"override_settings": {"x": NaN}}', "[1]", '"x"', "[" * 100_000])
def test_what_is_no_json_object_is_the_callers_mistake(served: Served, body: str) -> None:
    reply = served.client.post("/sdapi/v1/txt2img", content=body, headers={"Content-Type": "application/json"})

    assert reply.status_code in (400, 422)
    assert set(reply.json()) >= {"error", "detail", "body", "errors"}


def test_every_reply_says_how_long_it_took(served: Served) -> None:
    for reply in (served.client.get("/sdapi/v1/samplers"), served.client.post("/sdapi/v1/txt2img", json={"steps": 0})):
        assert float(reply.headers["X-Process-Time"]) >= 0


def test_a_full_queue_says_when_to_come_again(served: Served) -> None:
    served.desk.refusal = QueueFull("1000 jobs wait")

    reply = served.client.post("/sdapi/v1/txt2img", json=SIMPLE)

    assert reply.status_code == 503
    assert int(reply.headers["Retry-After"]) > 0


def test_a_job_that_fails_is_the_calls_error(served: Served) -> None:
    served.desk.is_held = True

    def fail() -> None:
        job = served.desk.wait_for(1)[0]
        served.desk.fail(job.id, EngineError("memory does not suffice", hint="make it smaller"))

    thread = threading.Thread(target=fail)
    thread.start()
    error = served.refused("txt2img", SIMPLE, 500)
    thread.join()
    assert error["error"] == "EngineError"
    assert error["detail"] == "memory does not suffice (make it smaller)"


def test_an_interrupted_call_has_what_was_finished(served: Served) -> None:
    served.desk.is_held = True

    def interrupt() -> None:
        job = served.desk.wait_for(1)[0]
        served.desk.begin(job.id)
        assert served.client.post("/sdapi/v1/interrupt").json() == {}

    thread = threading.Thread(target=interrupt)
    thread.start()
    reply = served.post("txt2img", SIMPLE)
    thread.join()
    assert reply["images"] == []
    assert json.loads(reply["info"])["prompt"] == "example prompt"
    assert served.desk.jobs()[0].state is State.CANCELLED


@settings(max_examples=60)
@given(
    body=st.fixed_dictionaries(
        {},
        optional={
            "prompt": st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20),
            "steps": st.integers(1, 1000),
            "cfg_scale": st.floats(0, 100),
            "width": st.integers(64, 4096),
            "height": st.integers(64, 4096),
            "batch_size": st.integers(1, 3),
            "seed": st.integers(-1, 2**63 - 1),
            "denoising_strength": st.floats(0, 1),
            "enable_hr": st.booleans(),
            "hr_scale": st.floats(1, 8),
            "subseed_strength": st.floats(0, 1),
        },
    )
)
def test_whatever_is_within_bounds_is_a_job_that_the_desk_takes(idle: Served, body: dict[str, Any]) -> None:
    idle.post("txt2img", body)

    assert idle.last()["request"]["prompt"] == body.get("prompt", "")


def test_nothing_of_it_needs_torch() -> None:
    code = "import hayate.server.a1111.router, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0


def test_pictures_of_several_starts_are_refused(served: Served) -> None:
    assert "2 pictures" in served.refused("img2img", {**IMAGE, "init_images": [picture(), picture()]})["detail"]


def test_bytes_of_a_reply_are_ascii(served: Served) -> None:
    reply = served.client.post("/sdapi/v1/txt2img", json={**SIMPLE, "prompt": "疾風"})

    assert reply.content.isascii()
    assert json.loads(reply.json()["info"])["prompt"] == "疾風"
    assert io.BytesIO(base64.b64decode(reply.json()["images"][0])).getbuffer().nbytes > 0
