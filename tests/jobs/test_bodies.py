"""What jobs may be told: every kind, held to the user's folders, and nothing that names a path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hayate.errors import UnknownName, UsageError
from hayate.jobs.bodies import KINDS, body_object, read_body
from hayate.jobs.scripts import SCRIPTS
from hayate.settings import Settings, load_settings
from hayate.weights.builtin import builtin_model

REQUEST = {"prompt": "a|b", "steps": 2}


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    (tmp_path / "inputs").mkdir()
    (tmp_path / "inputs" / "a.png").touch()
    return tmp_path / "inputs"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    for name in ("models", "vae", "lora", "upscalers"):
        (tmp_path / name).mkdir()
    for name in ("models/one.safetensors", "models/sub/two.safetensors", "vae/soft.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(builtin_model().read_bytes())
    (tmp_path / "secret.safetensors").touch()
    return load_settings(
        {
            "models_dir": tmp_path / "models",
            "vae_dir": tmp_path / "vae",
            "lora_dir": tmp_path / "lora",
            "upscalers_dir": tmp_path / "upscalers",
        },
        environment={},
    )


def good(inputs: Path) -> list[tuple[str, dict[str, Any]]]:
    picture = str(inputs / "a.png")
    started = {**REQUEST, "start": {"path": picture, "mask": picture}}
    return [
        ("generate", {"request": {"prompt": ""}}),
        ("generate", {"request": {**REQUEST, "model": "one", "vae": "soft", "refiner": "two"}}),
        ("generate", {"request": {**REQUEST, "model": "merge(one, built-in, 0.3)"}}),
        ("generate", {"request": {**REQUEST, "hires": {"upscaler": "Latent", "sampler": "Heun"}}}),
        ("generate", {"request": started, "settings": {"clip_skip": 2}, "preview_every": 3, "wants_grid": True}),
        ("generate", {"request": REQUEST, "asked": {"tiny_vae": "soft", "tome": 0.5, "guidance_interval": [0.3, 5]}}),
        ("generate", {"request": REQUEST, "script": {"name": "X/Y/Z plot", "x": "Steps=1-3", "z": "Sampler=Euler"}}),
        ("generate", {"request": REQUEST, "script": {"name": "Prompt matrix", "delimiter": "space"}}),
        ("generate", {"request": started, "script": {"name": "Loopback", "loops": 2}}),
        ("generate", {"request": started, "script": {"name": "SD upscale", "scale": 3}}),
        ("generate", {"request": started, "script": {"name": "Outpainting", "left_px": 64, "top_px": 0}}),
        ("generate", {"request": REQUEST, "script": {"name": "Prompts from file", "text": "a\n--prompt b --steps 3"}}),
        ("upscale", {"images": [picture], "upscaler_2": "Nearest", "visibility_2": 0.5, "width_px": 9, "height_px": 9}),
        ("merge", {"recipe": "merge(one, two, 0.5)", "output_name": "three", "dtype": "fp16", "vae": "soft"}),
        ("convert", {"model": "one", "output_name": "four", "dtype": "fp16", "parts": {"vae": "copy"}}),
        ("bench", {"preset": "quick", "model": "one"}),
        ("tune", {"model": "one", "budget_s": 30.0}),
        ("load", {"model": "one", "vae": "soft"}),
        ("duplicates", {}),
        ("unload", {}),
    ]


def test_every_kind_is_read_checked_and_written_back(settings: Settings, inputs: Path) -> None:
    kinds, scripts = set(), set()
    for kind, words in good(inputs):
        body = read_body(kind, words)
        body.check(settings, inputs)
        assert read_body(kind, body_object(body)) == body
        assert all(Path(path).parent == inputs for path in body.inputs())
        kinds.add(kind)
        scripts.add(body_object(body).get("script", {}).get("name"))
    assert kinds == set(KINDS)
    assert scripts == {*SCRIPTS, None}


def test_two_ways_to_say_the_same_are_one_body() -> None:
    short = read_body("generate", {"request": {"prompt": "a"}})
    long = read_body(
        "generate", {"request": {"prompt": "a", "negative_prompt": "", "steps": None}, "saves_grid": False}
    )
    assert body_object(short) == body_object(long)


PATHS = [
    "/etc/passwd",
    "../secret",
    "../secret.safetensors",
    "..\\secret",
    "%2e%2e/secret",
    "sub/../../secret",
    "a\0b",
    "CON",
    "x" * 300,
    "",
    ".",
]


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("field", ["model", "vae", "refiner", "hires", "tiny_vae", "lora", "recipe"])
def test_no_name_leads_out_of_the_folders(settings: Settings, inputs: Path, name: str, field: str) -> None:
    quoted = name.replace('"', "")
    words: dict[str, Any] = {"request": dict(REQUEST)}
    if field == "hires":
        words["request"]["hires"] = {"model": name}
    elif field == "tiny_vae":
        words["asked"] = {"tiny_vae": name}
    elif field == "recipe":
        words["request"]["model"] = f'merge("{quoted}", one, 0.5)'
    elif field == "lora":
        words["request"]["model"] = f'lora(one, "{quoted}", 0.5)'
    else:
        words["request"][field] = name
    with pytest.raises(UsageError):
        read_body("generate", words).check(settings, inputs)


def test_a_path_of_a_file_that_is_there_is_no_name(settings: Settings, inputs: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "secret.safetensors", tmp_path / "models" / "one.safetensors"):
        with pytest.raises(UnknownName):
            read_body("generate", {"request": {**REQUEST, "model": str(path)}}).check(settings, inputs)


@pytest.mark.parametrize("path", ["/etc/passwd", "a.png", "inputs/../secret.safetensors", "\0"])
def test_jobs_start_from_pictures_that_were_handed_in_only(settings: Settings, inputs: Path, path: str) -> None:
    for words in ({"path": path}, {"path": str(inputs / "a.png"), "mask": path}):
        with pytest.raises(UsageError, match="handed in"):
            read_body("generate", {"request": {**REQUEST, "start": words}}).check(settings, inputs)
    with pytest.raises(UsageError, match="handed in"):
        read_body("upscale", {"images": [path]}).check(settings, inputs)


@pytest.mark.parametrize("key", ["outputs_dir", "models_dir", "styles_file", "data_dir", "cache_dir", "lora_dir"])
def test_settings_that_are_paths_stay(settings: Settings, inputs: Path, key: str) -> None:
    with pytest.raises(UsageError, match=f"the setting {key} can't be changed from here"):
        read_body("generate", {"request": REQUEST, "settings": {key: "/tmp/x"}}).check(settings, inputs)


@pytest.mark.parametrize("name", ["../up", "a/b", "a\\b", "", "con:", "x" * 200, ".hidden", "name.", "a\nb", "one"])
def test_a_merge_is_written_into_the_models_folder_over_nothing(settings: Settings, inputs: Path, name: str) -> None:
    with pytest.raises(UsageError):
        read_body("merge", {"recipe": "merge(one, two, 0.5)", "output_name": name}).check(settings, inputs)


@pytest.mark.parametrize(
    ("kind", "words", "message"),
    [
        ("generat", {}, "unknown kind of job 'generat' .nearest: generate"),
        ("generate", {"request": REQUEST, "sript": None}, "nearest: script"),
        ("generate", {"request": {"prompt": "x", "sampler": "Eulr"}}, "unknown sampler 'Eulr' .nearest: Euler"),
        ("generate", {"request": {"prompt": "x", "steps": 0}}, "steps 0 is out of range"),
        ("generate", {"request": {"prompt": "x", "cfg": float("nan")}}, "cfg nan is out of range"),
        ("generate", {"request": REQUEST, "settings": {"stps": 2}}, "unknown setting 'stps' .nearest: steps"),
        ("generate", {"request": REQUEST, "script": {"name": "x/y plot"}}, "unknown script 'x/y plot' .nearest: x/y/z"),
        ("generate", {"request": REQUEST, "script": {"name": "x/y/z plot"}}, "needs an axis"),
        ("generate", {"request": REQUEST, "script": {"name": "x/y/z plot", "x": "Sampler=Eulr"}}, "unknown sampler"),
        ("generate", {"request": REQUEST, "script": {"name": "loopback"}}, "needs a picture"),
        ("generate", {"request": REQUEST, "script": {"name": "prompts from file", "text": "a\n--stps 3"}}, "line 2"),
        ("generate", {"request": REQUEST, "preview_every": 0}, "preview every 0"),
        ("upscale", {"images": []}, "0 pictures"),
        ("bench", {"rounds": 0}, "out of range"),
        ("tune", {"budget_s": 1.0}, "out of range"),
        ("convert", {"model": "one", "output_name": "z", "parts": {"unett": "copy"}}, "unknown part"),
    ],
)  # fmt: skip
def test_a_slip_is_told_before_the_job_is_queued(
    settings: Settings, inputs: Path, kind: str, words: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        read_body(kind, words).check(settings, inputs)
