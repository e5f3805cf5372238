"""Extensions in the pipeline: what they change is named, and where they fail the picture is made without them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hayate.errors import Cancelled, UsageError
from hayate.extensions.session import Session
from hayate.pipeline.enlarge import open_enlarger
from hayate.pipeline.infotext import parse_infotext
from hayate.pipeline.pasted import paste_picture
from hayate.pipeline.picture_info import read_picture_info
from hayate.pipeline.report import Report
from hayate.pipeline.session import Maker
from hayate.pipeline.stops import Skipped
from hayate.pipeline.upscale import Larger, redraw_picture
from hayate.pipeline.workspace import Workspace
from hayate.request import Hires, TextToImage
from hayate.settings import Settings, load_settings
from tests.extensions.folders import session_in, write_extension

HEADER = """
import numpy as np
import torch
from hayate.extensions.hooks import PromptTexts, Retouched
"""
ACTING = {
    "prompts": "def act(texts, call): return PromptTexts(prompt=texts.prompt + ', blue', negative_prompt='')",
    "engines": """
class Engine:
    def __init__(self, engine): self.engine = engine
    def __getattr__(self, name): return getattr(self.engine, name)
    def predict(self, *words): return self.engine.predict(*words) * 0.9
def act(engine, call): return Engine(engine)
""",
    "before_sampling": "def act(latents, call): return latents * 0.9",
    "after_sampling": "def act(latents, call): return latents * 0.9",
    "pictures": "def act(picture, call): return Retouched(picture=255 - picture, keys={'Negative': call.number})",
}
IDLE = {
    "prompts": "def act(texts, call): return texts",
    "engines": "def act(engine, call): return engine",
    "before_sampling": "def act(latents, call): return latents",
    "after_sampling": "def act(latents, call): return latents",
    "pictures": "def act(picture, call): return Retouched(picture=picture)",
}
FAILING = {
    **{f"{kind} that raises": (kind, "def act(it, call): raise RuntimeError('no luck')") for kind in ACTING},
    **{f"{kind} that gives nothing": (kind, "def act(it, call): return None") for kind in ACTING if kind != "engines"},
    "an engine that fails later": (
        "engines",
        ACTING["engines"].replace("return self.engine.predict(*words) * 0.9", "raise RuntimeError('no luck')"),
    ),
    "latents that are not finite": ("after_sampling", "def act(latents, call): return latents * float('nan')"),
    "latents of another size": ("before_sampling", "def act(latents, call): return latents[:, :, :4]"),
    "a picture of floats": ("pictures", "def act(picture, call): return Retouched(picture=picture / 2)"),
    "a picture in grey": ("pictures", "def act(picture, call): return Retouched(picture=picture[:, :, 0])"),
    "a key that would break the text": (
        "pictures",
        "def act(p, call): return Retouched(picture=p, keys={'a: b, c': 1})",
    ),
    "an exit": ("pictures", "import sys\ndef act(picture, call): sys.exit(1)"),
}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("own")
    places = {"cache_dir": folder / "cache", "outputs_dir": folder / "out", "data_dir": folder / "data"}
    return load_settings({**places, "threads": 1, "attention": "sdp"}, environment={})


@pytest.fixture(scope="module")
def workspace(own: Settings) -> Iterator[Workspace]:
    with Workspace(own) as made:
        yield made


@pytest.fixture(scope="module")
def plain(own: Settings, workspace: Workspace) -> Report:
    return made(own, workspace)


def made(own: Settings, workspace: Workspace, on_row: Any = lambda done, rows: None, **more: Any) -> Report:
    words = {"prompt": "a red sun", "seed": 7, "steps": 3, "width_px": 64, "height_px": 64, "batch_size": 2}
    maker = Maker(settings=own, workspace=workspace, on_row=on_row)
    return maker.make(TextToImage(**{**words, **more}), keeps_pixels=True)


@contextmanager
def extension(folder: Path, kind: str, code: str, **more: Any) -> Iterator[Session]:
    write_extension(folder, "it", HEADER + code, {kind: {"the hook": "act"}}, **more)
    with session_in(folder, folder / "data") as session:
        yield session


def same(one: Report, other: Report) -> bool:
    return len(one.pixels) == len(other.pixels) and all(map(np.array_equal, one.pixels, other.pixels))


def keys_of(report: Report, index: int = 0) -> Mapping[str, str]:
    return parse_infotext(report.pictures[index].infotext).parameters


@pytest.mark.parametrize("kind", ACTING)
def test_a_hook_acts_and_is_named(
    kind: str, own: Settings, workspace: Workspace, plain: Report, tmp_path: Path
) -> None:
    with extension(tmp_path, kind, ACTING[kind]) as session:
        report = made(own, workspace)
        assert session.timings()[0].calls >= 1
    assert not same(report, plain)
    assert report.notes == plain.notes
    assert keys_of(report, 1)["Extensions"] == "it 1.2.3"
    record = read_picture_info(report.pictures[1].path).record
    assert record is not None
    assert record["extensions"] == [{"name": "it", "version": "1.2.3", "values": {}}]


@pytest.mark.parametrize("kind", IDLE)
def test_a_hook_that_changes_nothing_changes_no_bit_and_is_not_named(
    kind: str, own: Settings, workspace: Workspace, plain: Report, tmp_path: Path
) -> None:
    with extension(tmp_path, kind, IDLE[kind]):
        report = made(own, workspace)
    assert same(report, plain)
    assert keys_of(report) == keys_of(plain)


def test_without_extensions_nothing_is_called_and_no_bit_changes(
    own: Settings, workspace: Workspace, plain: Report, tmp_path: Path
) -> None:
    with session_in(tmp_path / "none", tmp_path / "data") as session:
        report = made(own, workspace)
        assert (session.timings(), session.hooks("pictures")) == ((), ())
    assert same(report, plain)
    assert [picture.infotext for picture in report.pictures] == [picture.infotext for picture in plain.pictures]


@pytest.mark.parametrize("case", FAILING)
def test_where_one_fails_the_picture_is_made_without_it(
    case: str, own: Settings, workspace: Workspace, plain: Report, tmp_path: Path
) -> None:
    kind, code = FAILING[case]
    with extension(tmp_path, kind, code) as session:
        report = made(own, workspace)
        again = made(own, workspace)
        assert session.problems()["it"]
    assert same(report, plain)
    assert same(again, plain)
    for each in (report, again):
        [note] = [note for note in each.notes if "extension it" in note]
        assert "is left out until the next start" in note
    if kind != "engines":
        assert keys_of(report) == keys_of(plain)


def test_one_that_can_not_be_imported_does_not_hold_up_a_picture(
    own: Settings, workspace: Workspace, plain: Report, tmp_path: Path
) -> None:
    write_extension(tmp_path, "hangs", "import time; time.sleep(20)", {"prompts": {"it": "act"}})
    with session_in(tmp_path, tmp_path / "data", limit_s=0.2):
        report = made(own, workspace)
    assert same(report, plain)
    assert "longer than 0.2 s" in report.notes[-1]


def test_a_refusal_in_words_is_the_jobs(own: Settings, workspace: Workspace, tmp_path: Path) -> None:
    code = "from hayate.errors import UsageError\ndef act(texts, call): raise UsageError('no __cat__', hint='cats')"
    with extension(tmp_path, "prompts", code), pytest.raises(UsageError, match="__cat__"):
        made(own, workspace)


def test_a_prompt_may_follow_from_the_seed(own: Settings, workspace: Workspace, tmp_path: Path) -> None:
    code = "def act(texts, call): return PromptTexts(prompt=f'{texts.prompt} {call.seed}', negative_prompt='')"
    with extension(tmp_path, "prompts", code):
        report = made(own, workspace, seed=-1, batch_size=1, hires=Hires(scale=1, prompt="a lake", upscaler="Lanczos"))
    info = parse_infotext(report.pictures[0].infotext)
    assert info.prompt == f"a red sun {report.pictures[0].seed}"
    assert info.parameters["Hires prompt"] == f"a lake {report.pictures[0].seed}"


CONTROLS = """
[[controls]]
key = "factor"
kind = "number"
default = 1.0
low = 0.0
high = 2.0
"""
SCALED = "def act(latents, call):\n    call.note('was here')\n    return latents * call.values['factor']"


def test_one_with_controls_acts_as_it_is_told(
    own: Settings, workspace: Workspace, plain: Report, tmp_path: Path
) -> None:
    with extension(tmp_path, "after_sampling", SCALED, more=CONTROLS):
        unasked = made(own, workspace)
        asked = made(own, workspace, extensions={"it": {"factor": 0.5}})
        pasted = paste_picture(asked.pictures[0].path, own)
        assert pasted.notes == ()
        again = made(own, workspace, extensions=pasted.request.extensions)
    assert same(unasked, plain)
    assert not same(asked, plain)
    assert "it: was here" in asked.notes
    assert pasted.request.extensions == {"it": {"factor": 0.5}}
    assert same(again, asked)
    without = paste_picture(asked.pictures[0].path, own)
    assert without.request.extensions == {}
    assert "the extension it 1.2.3, which is not here" in without.notes[0]


def test_a_value_that_can_not_be_is_found_before_any_work(own: Settings, workspace: Workspace, tmp_path: Path) -> None:
    with extension(tmp_path, "after_sampling", SCALED, more=CONTROLS), pytest.raises(UsageError, match="factor: 3"):
        made(own, workspace, extensions={"it": {"factor": 3}})


def test_a_picture_may_become_larger(own: Settings, workspace: Workspace, tmp_path: Path) -> None:
    code = "def act(picture, call): return Retouched(picture=picture.repeat(2, 0).repeat(2, 1))"
    with extension(tmp_path, "pictures", code):
        report = made(own, workspace)
    assert Image.open(report.pictures[0].path).size == (128, 128)
    assert (report.pictures[0].width_px, report.pixels[0].shape) == (128, (128, 128, 3))


def test_a_key_of_ours_is_not_theirs_to_change(
    own: Settings, workspace: Workspace, plain: Report, tmp_path: Path
) -> None:
    code = "def act(picture, call): return Retouched(picture=255 - picture, keys={'Seed': 1, 'Own key': 'a, b: c'})"
    with extension(tmp_path, "pictures", code):
        report = made(own, workspace)
    assert keys_of(report)["Seed"] == keys_of(plain)["Seed"] == "7"
    assert keys_of(report)["Own key"] == "a, b: c"


PAINTING = """
def act(picture, call):
    mask = np.zeros(picture.shape[:2], np.uint8)
    mask[16:48, 16:48] = 255
    return Retouched(picture=call.paint(picture, mask, denoising=0.6))
"""


@pytest.mark.parametrize("stop", [Skipped, Cancelled])
def test_a_stop_while_they_work_keeps_the_picture_as_it_was(
    stop: type[Exception], own: Settings, workspace: Workspace, plain: Report, tmp_path: Path
) -> None:
    rows: list[int] = []

    def on_row(done: int, _: int) -> None:
        rows.append(done)
        if len(rows) == 4:  # the three rows of the batch, and the first one of the painting
            raise stop("enough")

    with extension(tmp_path, "pictures", PAINTING) as session:
        report = made(own, workspace, on_row)
        assert session.problems() == {}
    assert np.array_equal(report.pixels[0], plain.pixels[0])
    assert len(report.pictures) == 2
    assert report.is_stopped == (stop is Cancelled)
    assert np.array_equal(report.pixels[1], plain.pixels[1]) == (stop is Cancelled)


def test_a_chosen_sampler_is_named(own: Settings, workspace: Workspace, tmp_path: Path) -> None:
    code = """
from hayate.samplers.catalogue import SamplerInfo
from hayate.samplers.singlestep import euler
act = SamplerInfo(name="it", aliases=(), build_rows=lambda grid, tuning: euler(grid.sigmas))
"""
    with extension(tmp_path, "samplers", code):
        report = made(own, workspace, sampler="The hook", scheduler="Uniform")
    theirs = made(own, workspace, sampler="Euler", scheduler="Uniform")
    assert same(report, theirs)
    assert keys_of(report)["Sampler"] == "the hook"
    assert keys_of(report)["Extensions"] == "it 1.2.3"


def test_a_picture_in_tiles_names_what_acted_and_what_did_not(
    own: Settings, workspace: Workspace, tmp_path: Path
) -> None:
    picture = tmp_path / "small.png"
    Image.new("RGB", (64, 64), "teal").save(picture)
    hooks = {"after_sampling": {"it": "act"}, "pictures": {"it": "other"}}
    code = ACTING["after_sampling"] + "\ndef other(picture, call): return Retouched(picture=255 - picture)"
    write_extension(tmp_path / "extensions", "it", HEADER + code, hooks)
    larger = Larger(enlarger=open_enlarger("Lanczos", own), scale=2, overlap_px=16)
    request = TextToImage(prompt="a red sun", seed=7, steps=3, width_px=64, height_px=64)
    with session_in(tmp_path / "extensions", tmp_path / "data"):
        drawn = redraw_picture(picture, request, larger, own, lambda *_: None, workspace=workspace)
    assert parse_infotext(drawn.texts.parameters).parameters["Extensions"] == "it 1.2.3"
    assert "the extension it does not act on a picture that is made in tiles" in drawn.notes
