"""Scripts by name and positional arguments, as A1111's callers send them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hayate.pipeline.axes import AXES, parse_axis
from hayate.server.a1111.axis_list import axis_title, axis_titles
from hayate.server.a1111.scripts import SCRIPTS
from tests.server.a1111_server import Served, picture, serve

SMALL = {"prompt": "a|b|c", "width": 64, "height": 64, "steps": 2}
IMAGE = {**SMALL, "init_images": [picture()]}
NO_AXIS = [0, "", []]


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return serve(tmp_path)


def _plot(*axes: list[Any]) -> list[Any]:
    padded = [*axes, *[NO_AXIS] * (3 - len(axes))]
    return [*(value for axis in padded for value in axis), True, False, False, False, False, False, False, 0, False]


@pytest.mark.parametrize(
    ("axes", "expected"),
    [
        ([[4, "1,2", []]], {"x": "Steps=1,2"}),
        ([["Steps", "1-3", []], ["CFG Scale", "5,7", []]], {"x": "Steps=1-3", "y": "CFG Scale=5,7"}),
        ([NO_AXIS, [4, "2", []]], {"y": "Steps=2"}),
        ([[9, "", ["Euler a", "DPM++ 2M"]]], {"x": 'Sampler="Euler a", "DPM++ 2M"'}),
    ],
)
def test_a_plots_axes(served: Served, axes: list[list[Any]], expected: dict[str, str]) -> None:
    served.post("txt2img", {**SMALL, "script_name": "X/Y/Z plot", "script_args": _plot(*axes)})

    assert served.last()["script"] == {"name": "x/y/z plot", **expected}


def test_the_numbers_of_axes_depend_on_the_tab() -> None:
    text, image = axis_titles(is_img2img=False), axis_titles(is_img2img=True)

    assert (len(text), len(image)) == (42, 41)
    assert (text[4], text[5], text[6], text[9], text[-1]) == ("Steps", "Hires steps", "CFG Scale", "Sampler", "Size")
    assert (image[4], image[5], image[6], image[9]) == ("Steps", "CFG Scale", "Image CFG Scale", "Sampler")
    for is_img2img, titles in ((False, text), (True, image)):
        known = [axis_title(each, is_img2img=is_img2img) for each in titles if each in AXES]
        assert set(known) <= set(AXES)


def test_what_a_list_names_is_what_the_axis_reads() -> None:
    assert parse_axis('Sampler="Euler a", "DPM++ 2M"').values == ("Euler a", "DPM++ 2M")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (_plot(), "axis"),
        ([], "axis"),
        (_plot([99, "1", []]), "99"),
        (_plot(["Extra noise", "1", []]), "Extra noise"),
        (_plot([4, "many", []]), "Steps"),
        (_plot([None, "1", []]), "None"),
    ],
)
def test_a_plot_that_can_not_be_is_refused(served: Served, arguments: list[Any], word: str) -> None:
    error = served.refused("txt2img", {**SMALL, "script_name": "x/y/z plot", "script_args": arguments})

    assert word in error["detail"]


def test_a_prompt_matrix(served: Served) -> None:
    arguments = [True, False, "negative", "space", 0]
    body = {**SMALL, "negative_prompt": "x|y", "batch_size": 2}

    served.post("txt2img", {**body, "script_name": "prompt matrix", "script_args": arguments})

    assert served.last()["script"] == {
        "name": "prompt matrix",
        "is_at_start": True,
        "has_different_seeds": False,
        "is_negative": True,
        "delimiter": "space",
    }


def test_prompts_from_a_text(served: Served) -> None:
    arguments = [False, True, "start", 'a lake\n--prompt "a hill" --steps 3']
    body = {**SMALL, "prompt": "", "script_name": "Prompts from file or textbox", "script_args": arguments}

    served.post("txt2img", body)

    script = served.last()["script"]
    assert script["text"] == arguments[3]
    assert (script["has_next_seeds"], script["has_one_seed"]) == (False, True)


def test_a_loopback(served: Served) -> None:
    body = {**IMAGE, "script_name": "loopback", "script_args": [3, 0.4, "Lazy", "None"]}

    served.post("img2img", body)

    assert served.last()["script"] == {"name": "loopback", "loops": 3, "final_denoising": 0.4, "curve": "lazy"}
    served.refused("img2img", {**body, "script_args": [3, 0.4, "Lazy", "CLIP"]})
    served.refused("txt2img", {**SMALL, "script_name": "loopback"})


@pytest.mark.parametrize("upscaler", ["Lanczos", 1])
def test_sd_upscale_by_an_upscalers_name_or_number(served: Served, upscaler: str | int) -> None:
    arguments = ["", 8, upscaler, 2.0]

    served.post("img2img", {**IMAGE, "script_name": "SD upscale", "script_args": arguments})

    assert served.last()["script"] == {"name": "sd upscale", "upscaler": "Lanczos", "scale": 2.0, "overlap_px": 8}
    for bad in (["", 8, "gone", 2.0], ["", 8, 99, 2.0], ["", "x", "Lanczos", 2.0], ["", 8, "Lanczos", 100]):
        served.refused("img2img", {**IMAGE, "script_name": "sd upscale", "script_args": bad})


@pytest.mark.parametrize(
    ("name", "arguments", "fill"),
    [
        ("outpainting mk2", ["", 130, 8, ["left", "down"], 1.0, 0.05], "latent noise"),
        ("poor man's outpainting", [128, 8, "original", ["left", "down"]], "original"),
        ("poor man's outpainting", [128, 8, 1, ["left", "down"]], "original"),
    ],
)
def test_outpainting_is_a_larger_canvas(served: Served, name: str, arguments: list[Any], fill: str) -> None:
    served.post("img2img", {**IMAGE, "script_name": name, "script_args": arguments})

    body = served.last()
    assert body["script"] is None
    start = body["request"]["start"]
    assert (start["extend_px"], start["fill"], start["mask_blur"]) == ([128, 0, 0, 128], fill, 8)
    assert "width_px" not in body["request"]


def test_a_direction_that_is_none_is_refused(served: Served) -> None:
    for directions in (["up", "north"], [], "up", [["up"]]):
        arguments = ["", 128, 8, directions, 1.0, 0.05]
        served.refused("img2img", {**IMAGE, "script_name": "outpainting mk2", "script_args": arguments})


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_whatever_a_script_is_sent_is_a_job_or_one_line(served: Served, script: Any) -> None:
    values: list[Any] = [None, True, -1, 1e300, "", "x" * 1000, [], [[]], {}, ["\ud83d"]]
    for number in range(len(script.arguments)):
        for value in values:
            arguments = [each.value for each in script.arguments]
            arguments[:2] = [4, "2"] if script.name == "x/y/z plot" else arguments[:2]
            arguments[number] = value
            body = json.dumps({**IMAGE, "script_name": script.name, "script_args": arguments})
            reply = served.client.post("/sdapi/v1/img2img", content=body, headers={"Content-Type": "application/json"})
            assert reply.status_code in (200, 422), (script.name, number, value)
