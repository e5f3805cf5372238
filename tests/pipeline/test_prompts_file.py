"""A file of prompts: A1111's options per line, mistakes by their line, and one model for all of them."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hayate.cli.main import main
from hayate.engines.networks import Loaders
from hayate.errors import UsageError
from hayate.models.config import Family
from hayate.pipeline import workspace
from hayate.pipeline.infotext import parse_infotext
from hayate.pipeline.prompts_file import read_line, read_prompts_file
from hayate.request import TextToImage
from hayate.runtime.prepare import Preparation
from tests.tiny_models import write_tiny

BASE = TextToImage(prompt="", negative_prompt="fog", steps=3, seed=5)


def test_a_plain_line_is_a_prompt_even_with_dashes_inside() -> None:
    assert read_line("a cat -- or a --dog", BASE).prompt == "a cat -- or a --dog"
    assert read_line("a cat", BASE) == TextToImage(prompt="a cat", negative_prompt="fog", steps=3, seed=5)


def test_every_option_of_a1111_is_read() -> None:
    line = (
        '--prompt "a (cat:1.2), sea" at dawn --negative_prompt rain and "snow" --styles "ink, oil" --sd_model m '
        "--seed -1 --subseed 4 --subseed_strength 0.5 --seed_resize_from_w 512 --seed_resize_from_h 640 "
        "--sampler_name 'Euler a' --batch_size 2 --n_iter 3 --steps 7 --cfg_scale 4.5 --width 64 --height 72"
    )
    assert read_line(line, BASE) == TextToImage(
        prompt="a (cat:1.2), sea at dawn",
        negative_prompt="rain and snow",
        styles=("ink", "oil"),
        model="m",
        seed=-1,
        subseed=4,
        subseed_strength=0.5,
        seed_resize_from_w_px=512,
        seed_resize_from_h_px=640,
        sampler="Euler a",
        batch_size=2,
        batch_count=3,
        steps=7,
        cfg=4.5,
        width_px=64,
        height_px=72,
    )


@given(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1))
def test_a_quoted_prompt_comes_through(prompt: str) -> None:
    if not prompt.startswith("--"):
        assert read_line(f"--prompt {shlex.quote(prompt)} --steps 9", BASE).prompt == prompt


@given(st.text(max_size=80))
def test_any_line_is_read_or_refused_in_one_line(line: str) -> None:
    try:
        read_line(f"--{line}", BASE)
    except UsageError as error:
        assert str(error)  # noqa: PT017 - no error is fine as well


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--prompt x --stps 3", "nearest: --steps"),
        ("--steps many", "no number"),
        ("--steps", "no value"),
        ('--prompt "x', "quote is not closed"),
        ("--steps 3 4", "'4' belongs to no option"),
        ("--sampler_index 3", "--sampler_name"),
        ("--outpath_samples /etc", "-o"),
        ("--tiling true", "tile"),
        ("--prompt x --sampler_name Eulr", "unknown sampler"),
        ("--prompt x --width 65", "multiple of 8"),
        ("--prompt x --sd_model nobody", "unknown model"),
        ("--prompt x --styles nobody", "style"),
    ],
)
def test_a_bad_line_says_its_number_before_anything_is_made(
    line: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("p.txt").write_text(f"a fine prompt\n\n{line}\nanother\n")
    Path("styles.csv").write_text("name,prompt,negative_prompt\nink,ink,\n")
    assert main(["generate", "--prompts-from-file", "p.txt", "--steps", "1"]) == 2
    shown = capsys.readouterr().err
    assert "p.txt, line 3: " in shown
    assert said in shown
    assert shown.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.txt", "styles.csv"]


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe\x00", None])
def test_a_file_without_prompts_is_refused(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "p.txt").write_bytes(content)
    with pytest.raises(UsageError, match=r"p\.txt"):
        read_prompts_file(tmp_path / "p.txt", BASE)


def test_windows_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_bytes(b"\xef\xbb\xbfa cat\r\n\r\na dog\r\n")
    assert [(line, job.prompt) for line, job in read_prompts_file(tmp_path / "p.txt", BASE)] == [
        (1, "a cat"),
        (3, "a dog"),
    ]


def test_jobs_follow_each_other_and_the_model_is_loaded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_tiny(tmp_path / "tiny.safetensors", Family.SD1)
    loads: list[object] = []
    loaders_for = workspace.loaders_for

    def counted(preparation: Preparation) -> Loaders:
        loaders = loaders_for(preparation)
        return replace(loaders, networks=lambda *a: loads.append(a) or loaders.networks(*a))

    monkeypatch.setattr(workspace, "loaders_for", counted)
    Path("p.txt").write_text("a cat\n--prompt a dog --seed 9 --steps 2\na hen\n")
    words = ["--model", "./tiny.safetensors", "--size", "64x64", "--steps", "1", "--seed", "4", "-o", "out"]
    assert main(["generate", "--prompts-from-file", "p.txt", "--json", *words]) == 0
    jobs = json.loads(capsys.readouterr().out)["jobs"]
    assert [job["line"] for job in jobs] == [1, 2, 3]
    infos = [parse_infotext(job["images"][0]["infotext"]) for job in jobs]
    assert [info.prompt for info in infos] == ["a cat", "a dog", "a hen"]
    assert [info.parameters["Steps"] for info in infos] == ["1", "2", "1"]
    assert [Path(job["images"][0]["path"]).name for job in jobs] == ["00000-4.png", "00001-9.png", "00002-4.png"]
    assert len(loads) == 1


def test_a_prompt_beside_a_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.txt").write_text("a cat\n")
    assert main(["generate", "a dog", "--prompts-from-file", str(tmp_path / "p.txt")]) == 2
    assert "leave one of them out" in capsys.readouterr().err
