"""What the worker makes for each kind of job, beside what the pipeline makes when it is asked directly."""

from __future__ import annotations

import base64
import io
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from hayate.errors import Cancelled, OutputError, UnknownName, UsageError
from hayate.jobs.bodies import read_body
from hayate.jobs.messages import Ask
from hayate.jobs.records import Progress, Result
from hayate.jobs.signals import Signals
from hayate.jobs.tasks.catalogue import TASKS
from hayate.jobs.tasks.load import pour
from hayate.jobs.tasks.questions import answer
from hayate.jobs.tasks.station import Outcome, Station
from hayate.models.config import Family
from hayate.pipeline.infotext import parse_infotext
from hayate.pipeline.session import make_pictures
from hayate.pipeline.workspace import Workspace
from hayate.request import TextToImage
from hayate.settings import Settings, load_settings
from tests.tiny_models import write_tiny

SMALL = {"prompt": "a red sun", "steps": 3, "seed": 7, "width_px": 64, "height_px": 64, "model": "tiny"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_tiny(folder / "tiny.safetensors", Family.SD1)
    write_tiny(folder / "other.safetensors", Family.SD1, seed=1)
    return folder


@pytest.fixture
def settings(tmp_path: Path, models: Path) -> Settings:
    places = {"cache_dir": "cache", "data_dir": "data", "outputs_dir": "out", "vae_dir": "vae", "lora_dir": "lora"}
    return load_settings(
        {"models_dir": models, **{key: tmp_path / name for key, name in places.items()}}, environment={}
    )


class Bench:
    """A station, and what was told at it."""

    def __init__(self, settings: Settings, workspace: Workspace, results: Path) -> None:
        self.told: list[Progress] = []
        self.shown: list[bytes] = []
        self.signals = Signals()
        self.signals.begin("job")
        self.on_progress: Callable[[Progress], None] = lambda progress: None
        self.station = Station(
            job="job",
            settings=settings,
            workspace=workspace,
            signals=self.signals,
            tell=self.tell,
            show=lambda jpeg: self.shown.append(base64.b64decode(jpeg)),
            results=results,
        )

    def tell(self, progress: Progress) -> None:
        self.told.append(progress)
        self.on_progress(progress)

    def do(self, kind: str, **words: Any) -> Outcome:
        return TASKS[kind](read_body(kind, words), self.station)

    def result(self, kind: str, **words: Any) -> Result:
        outcome = self.do(kind, **words)
        assert not outcome.is_stopped
        json.dumps(dict(outcome.result.facts))
        return outcome.result


@pytest.fixture
def bench(settings: Settings, tmp_path: Path) -> Iterator[Bench]:
    with Workspace(settings) as workspace:
        yield Bench(settings, workspace, tmp_path / "results")


def pixels(path: str | Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


@pytest.fixture
def start(tmp_path: Path) -> str:
    draw = np.random.default_rng(0)
    Image.fromarray(draw.integers(0, 256, (64, 80, 3), np.uint8)).save(tmp_path / "start.png")
    return str(tmp_path / "start.png")


def test_pictures_are_those_of_the_pipeline_to_the_bit(bench: Bench, settings: Settings, models: Path) -> None:
    result = bench.result("generate", request={**SMALL, "batch_count": 2}, wants_grid=True)
    plain = replace(settings, outputs_dir=settings.outputs_dir / "plain")
    request = TextToImage(**{**SMALL, "model": str(models / "tiny.safetensors"), "batch_count": 2})
    expected = make_pictures(request, plain, None, lambda done, rows: None)
    assert [picture.seed for picture in result.pictures] == [7, 8]
    for made, wanted in zip(result.pictures, expected.pictures, strict=True):
        assert np.array_equal(pixels(made.path), pixels(wanted.path))
        assert made.infotext == wanted.infotext
        assert (made.width_px, made.height_px, made.is_saved) == (64, 64, True)
        assert Path(made.path).parent == settings.outputs_dir
    assert result.grid is not None
    assert Path(result.grid).parent == bench.station.results  # wanted, and not saved
    assert np.array_equal(pixels(result.grid)[:, :64], pixels(result.pictures[0].path))
    assert {path.name for path in settings.outputs_dir.glob("*.png")} == {"00000-7.png", "00001-8.png"}


def test_what_is_not_saved_is_with_the_results_alone(bench: Bench, settings: Settings) -> None:
    result = bench.result("generate", request=SMALL, saves_pictures=False)
    (picture,) = result.pictures
    assert not picture.is_saved
    assert Path(picture.path).parent == bench.station.results
    assert not settings.outputs_dir.exists()


def test_a_grid_may_be_saved_without_its_pictures(bench: Bench, settings: Settings) -> None:
    request = {**SMALL, "batch_size": 2}
    result = bench.result("generate", request=request, saves_pictures=False, saves_grid=True)
    assert result.grid is not None
    assert Path(result.grid).parent == settings.outputs_dir
    assert len(list(settings.outputs_dir.iterdir())) == 1


def test_info_has_what_callers_of_a1111_read(bench: Bench) -> None:
    request = {**SMALL, "negative_prompt": "fog", "batch_size": 2, "sampler": "Euler a", "clip_skip": 2, "eta": 0.5}
    result = bench.result("generate", request=request)
    info = result.facts["info"]
    assert (info["prompt"], info["negative_prompt"], info["all_seeds"]) == ("a red sun", "fog", [7, 8])
    assert (info["sampler_name"], info["steps"], info["cfg_scale"]) == ("Euler a", 3, 7.0)
    assert (info["width"], info["height"], info["batch_size"], info["clip_skip"]) == (64, 64, 2, 2)
    assert info["infotexts"] == [picture.infotext for picture in result.pictures]
    assert info["extra_generation_params"]["Eta"] == "0.5"
    assert info["sd_model_name"] == "tiny"
    assert len(info["sd_model_hash"]) == 10
    assert info["all_prompts"] == ["a red sun"] * 2


def test_phases_come_in_order_and_the_share_reaches_its_end(bench: Bench) -> None:
    bench.result("generate", request={**SMALL, "hires": {"scale": 1.5, "steps": 2, "denoising": 1.0}})
    phases = list(dict.fromkeys(told.phase for told in bench.told))
    assert phases == ["loading", "encoding", "sampling", "upscaling", "decoding"]
    assert bench.told[-1].share == 1
    assert all(told.job == "job" for told in bench.told)


def test_previews_are_small_jpegs_and_made_only_for_somebody(bench: Bench) -> None:
    bench.do("generate", request=SMALL, preview_every=1)
    assert bench.shown == []
    bench.signals.is_watched = True
    bench.do("generate", request=SMALL)
    assert bench.shown == []
    bench.do("generate", request={**SMALL, "width_px": 640}, preview_every=1)
    assert bench.shown
    with Image.open(io.BytesIO(bench.shown[-1])) as picture:
        assert picture.format == "JPEG"
        assert max(picture.size) == 512


def test_a_tiny_decoder_of_the_vae_folder_makes_previews(bench: Bench, settings: Settings) -> None:
    tiny = pytest.importorskip("diffusers").AutoencoderTiny()
    settings.vae_dir.mkdir()
    tensors = {name: tensor.contiguous().clone() for name, tensor in tiny.state_dict().items()}
    save_file(tensors, settings.vae_dir / "taesd.safetensors")
    bench.signals.is_watched = True
    result = bench.result("generate", request=SMALL, preview_every=1, preview_vae="taesd")
    assert bench.shown
    evidence = {each["name"]: each for each in result.facts["speed"]["evidence"]}["previews"]
    assert evidence["requested"] == "taesd.safetensors, every 1"
    assert evidence["active"]
    with pytest.raises(UnknownName):
        read_body("generate", {"request": SMALL, "preview_vae": "none"}).check(settings, settings.data_dir)


def test_a_cancel_comes_at_the_next_row_and_keeps_what_is_finished(bench: Bench) -> None:
    def cancel(progress: Progress) -> None:
        if progress.picture == 1 and progress.phase == "sampling":
            bench.signals.cancel("job")

    bench.on_progress = cancel
    outcome = bench.do("generate", request={**SMALL, "batch_count": 4})
    assert outcome.is_stopped
    assert [picture.seed for picture in outcome.result.pictures] == [7]
    assert bench.told[-1].picture == 1
    bench.signals.begin("job")
    bench.on_progress = lambda progress: None
    assert bench.result("generate", request=SMALL).pictures[0].seed == 7


def cancel_at(bench: Bench, picture: int, row: int, phase: str = "sampling") -> None:
    def cancel(progress: Progress) -> None:
        if (progress.picture, progress.row, progress.phase) == (picture, row, phase):
            bench.signals.cancel("job")

    bench.on_progress = cancel


def test_the_half_made_picture_is_shown_and_says_so(bench: Bench, settings: Settings) -> None:
    cancel_at(bench, 1, 1)
    outcome = bench.do("generate", request={**SMALL, "batch_count": 3}, half_made="shown", wants_grid=True)
    assert outcome.is_stopped
    whole, half = outcome.result.pictures
    assert (whole.seed, half.seed) == (7, 8)
    assert whole.is_saved
    assert not half.is_saved
    assert Path(half.path).parent == bench.station.results
    assert "Interrupted" not in whole.infotext
    assert parse_infotext(half.infotext).parameters["Interrupted"] == "1/3"
    assert outcome.result.facts["rows"] == 4
    assert outcome.result.grid is None
    assert len(list(settings.outputs_dir.rglob("*.png"))) == 1


def test_a_half_made_picture_is_what_the_model_takes_the_finished_one_to_be(bench: Bench) -> None:
    request = {**SMALL, "sampler": "Euler"}
    whole = bench.result("generate", request=request).pictures[0]
    cancel_at(bench, 0, 3, "decoding")  # the last row of Euler is the denoised latents themselves
    half = bench.do("generate", request=request, half_made="saved").result.pictures[0]
    assert half.is_saved
    assert np.array_equal(pixels(half.path), pixels(whole.path))


def test_a_second_pass_is_interrupted_at_its_own_size(bench: Bench) -> None:
    hires = {"scale": 1.5, "steps": 2, "denoising": 1.0}
    cancel_at(bench, 0, 2, "decoding")
    (half,) = bench.do("generate", request={**SMALL, "hires": hires}, half_made="shown").result.pictures
    assert (half.width_px, half.height_px) == (96, 96)
    assert parse_infotext(half.infotext).parameters["Interrupted"] == "5/5"


@pytest.mark.parametrize(
    "script",
    [{"name": "X/Y/Z plot", "x": "Steps=3,4,5"}, {"name": "Prompts from file", "text": "a\nb\nc"}],
    ids=["plot", "prompts"],
)
def test_a_script_that_is_interrupted_has_the_half_made_picture_last(bench: Bench, script: dict[str, str]) -> None:
    def cancel(progress: Progress) -> None:
        if progress.picture == 1 and progress.phase == "sampling":
            bench.signals.cancel("job")

    bench.on_progress = cancel
    outcome = bench.do("generate", request=SMALL, script=script, half_made="shown", wants_grid=True)
    assert outcome.is_stopped
    assert ["Interrupted" in picture.infotext for picture in outcome.result.pictures] == [False, True]


def test_an_unknown_use_of_half_made_pictures_is_refused(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="half-made"):
        read_body("generate", {"request": SMALL, "half_made": "show"}).check(settings, tmp_path)


def test_a_cancel_before_the_first_row_has_nothing_to_keep(bench: Bench) -> None:
    bench.signals.cancel("job")
    with pytest.raises(Cancelled):
        bench.do("generate", request=SMALL)


def test_a_cancel_while_the_model_is_loaded_has_an_empty_result(bench: Bench) -> None:
    bench.on_progress = lambda progress: bench.signals.cancel("job")
    outcome = bench.do("generate", request=SMALL)
    assert outcome.is_stopped
    assert outcome.result.pictures == ()
    assert outcome.result.facts["info"]["all_seeds"] == []


def test_a_skipped_batch_leaves_the_others_bit_for_bit(bench: Bench) -> None:
    whole = bench.result("generate", request={**SMALL, "batch_count": 3})
    seen = []

    def skip(progress: Progress) -> None:
        if progress.picture == 1 and not seen:
            seen.append(progress)
            bench.signals.skip("job")

    bench.on_progress = skip
    left = bench.result("generate", request={**SMALL, "batch_count": 3})
    assert [picture.seed for picture in left.pictures] == [7, 9]
    for made, wanted in zip(left.pictures, (whole.pictures[0], whole.pictures[2]), strict=True):
        assert np.array_equal(pixels(made.path), pixels(wanted.path))


def test_a_skipped_batch_is_shown_as_far_as_it_was_made(bench: Bench) -> None:
    whole = bench.result("generate", request={**SMALL, "batch_count": 3})
    seen = []

    def skip(progress: Progress) -> None:
        if (progress.picture, progress.row) == (1, 1) and not seen:
            seen.append(progress)
            bench.signals.skip("job")

    bench.on_progress = skip
    outcome = bench.do("generate", request={**SMALL, "batch_count": 3}, half_made="shown", wants_grid=True)
    assert not outcome.is_stopped
    assert [picture.seed for picture in outcome.result.pictures] == [7, 8, 9]
    half = outcome.result.pictures[1]
    assert parse_infotext(half.infotext).parameters["Interrupted"] == "1/3"
    assert Path(half.path).parent == bench.station.results
    assert not np.array_equal(pixels(half.path), pixels(whole.pictures[1].path))
    for place in (0, 2):
        assert np.array_equal(pixels(outcome.result.pictures[place].path), pixels(whole.pictures[place].path))
    assert outcome.result.facts["rows"] == 7
    grid = outcome.result.grid
    assert grid is not None
    assert pixels(grid).shape == (64, 128, 3)  # of the two that are whole


def skip_once(bench: Bench, run: int) -> None:
    """Skips what is made in a run after its first row."""
    seen = []

    def skip(progress: Progress) -> None:
        if progress.picture == run and progress.row == 1 and not seen:
            seen.append(progress)
            bench.signals.skip("job")

    bench.on_progress = skip


def test_a_grid_has_the_text_of_a_picture_that_is_whole(bench: Bench) -> None:
    skip_once(bench, 0)
    result = bench.result("generate", request={**SMALL, "batch_count": 3}, half_made="shown", wants_grid=True)
    assert ["Interrupted" in picture.infotext for picture in result.pictures] == [True, False, False]
    assert result.grid is not None
    with Image.open(result.grid) as grid:
        assert grid.text["parameters"] == result.pictures[1].infotext  # pyright: ignore[reportAttributeAccessIssue]


def test_a_plots_sheet_shows_what_was_skipped_in_its_place(bench: Bench) -> None:
    skip_once(bench, 1)
    script = {"name": "X/Y/Z plot", "x": "Steps=3,4,5"}
    result = bench.result("generate", request=SMALL, script=script, half_made="shown", wants_grid=True)
    assert ["Interrupted" in picture.infotext for picture in result.pictures] == [False, True, False]
    assert result.grid is not None


def test_a_loop_that_is_skipped_ends_its_batch(bench: Bench, tmp_path: Path) -> None:
    skip_once(bench, 1)
    start = tmp_path / "start.png"
    Image.new("RGB", (64, 64), "navy").save(start)
    request = {**SMALL, "start": {"path": str(start), "denoising": 1.0}}
    result = bench.result("generate", request=request, script={"name": "Loopback", "loops": 4}, half_made="shown")
    assert ["Interrupted" in picture.infotext for picture in result.pictures] == [False, True]


def test_a_skipped_batch_is_saved_where_that_is_wanted(bench: Bench) -> None:
    seen = []

    def skip(progress: Progress) -> None:
        if progress.row == 3 and not seen:
            seen.append(progress)
            bench.signals.skip("job")

    request = {**SMALL, "sampler": "Euler"}
    whole = bench.result("generate", request=request).pictures[0]
    bench.on_progress = skip
    half = bench.result("generate", request=request, half_made="saved").pictures[0]
    assert half.is_saved
    assert np.array_equal(pixels(half.path), pixels(whole.path))  # the last row of Euler is the denoised latents


def test_a_folder_that_can_not_be_written_costs_no_picture(bench: Bench, settings: Settings) -> None:
    settings.outputs_dir.parent.mkdir(exist_ok=True)
    settings.outputs_dir.write_text("a file where the folder should be")
    result = bench.result("generate", request={**SMALL, "batch_size": 2}, saves_grid=True)
    assert all(Path(picture.path).parent == bench.station.results for picture in result.pictures)
    assert not any(picture.is_saved for picture in result.pictures)
    assert any("not where they should be" in note for note in result.notes)


def test_a_disk_that_fills_while_saving_costs_no_picture_either(
    bench: Bench, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hayate.pipeline import saving

    real = saving.save_picture

    def full(image: Any, target: Any, **more: Any) -> Path:
        if target.folder == settings.outputs_dir:
            raise OutputError("can't write: No space left on device", hint="make room")
        return real(image, target, **more)

    monkeypatch.setattr(saving, "save_picture", full)
    result = bench.result("generate", request={**SMALL, "batch_count": 2})
    assert len(result.pictures) == 2
    assert not any(picture.is_saved for picture in result.pictures)
    assert [note for note in result.notes if "No space left" in note] == [
        "pictures are not where they should be: can't write: No space left on device (make room)"
    ]
    assert list(settings.outputs_dir.iterdir()) == []


def test_a_plot_is_a_picture_for_each_cell_and_a_sheet(bench: Bench) -> None:
    result = bench.result(
        "generate", request=SMALL, script={"name": "x/y/z plot", "x": "Steps=1,2,3", "y": "CFG Scale=2,7"}
    )
    steps = [parse_infotext(picture.infotext).parameters["Steps"] for picture in result.pictures]
    assert sorted(steps) == ["1", "1", "2", "2", "3", "3"]
    assert result.grid is not None
    width, height = Image.open(result.grid).size
    assert width > 3 * 64
    assert height > 2 * 64
    shares = [told.share for told in bench.told]
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_a_matrix_and_prompts_of_a_file_have_their_own_seeds(bench: Bench) -> None:
    matrix = bench.result("generate", request={**SMALL, "prompt": "a|b|c"}, script={"name": "prompt matrix"})
    assert [parse_infotext(each.infotext).prompt for each in matrix.pictures] == ["a", "a, b", "a, c", "a, b, c"]
    assert {each.seed for each in matrix.pictures} == {7}
    assert matrix.grid is not None
    text = "first\n--prompt second --steps 2\n"
    lines = bench.result(
        "generate", request=SMALL, script={"name": "prompts from file", "text": text, "has_next_seeds": True}
    )
    assert [(parse_infotext(each.infotext).prompt, each.seed) for each in lines.pictures] == [
        ("first", 7),
        ("second", 8),
    ]


def test_a_cancelled_script_keeps_its_finished_pictures(bench: Bench) -> None:
    def cancel(progress: Progress) -> None:
        if progress.picture >= 2:
            bench.signals.cancel("job")

    bench.on_progress = cancel
    outcome = bench.do("generate", request=SMALL, script={"name": "x/y/z plot", "x": "Seed=1-6"})
    assert outcome.is_stopped
    assert [picture.seed for picture in outcome.result.pictures] == [1, 2]
    assert outcome.result.grid is None


def test_loopback_and_sd_upscale_begin_with_the_picture(bench: Bench, start: str) -> None:
    request = {**SMALL, "start": {"path": start, "denoising": 0.5}}
    looped = bench.result("generate", request=request, script={"name": "loopback", "loops": 2}, wants_grid=True)
    assert [picture.seed for picture in looped.pictures] == [7, 8]
    assert looped.grid is not None
    larger = bench.result("generate", request=request, script={"name": "sd upscale", "scale": 2, "overlap_px": 16})
    (picture,) = larger.pictures
    assert (picture.width_px, picture.height_px) == (160, 128)
    assert parse_infotext(picture.infotext).parameters["SD upscale overlap"] == "16"


def test_outpainting_is_a_larger_canvas(bench: Bench, start: str) -> None:
    sides = {"left_px": 16, "top_px": 0, "right_px": 8, "bottom_px": 0}
    begun = {**SMALL, "width_px": 64, "start": {"path": start, "denoising": 0.5}}
    (ours,) = bench.result("generate", request=begun, script={"name": "outpainting", **sides}).pictures
    plain = {**SMALL, "start": {"path": start, "denoising": 0.5, "extend_px": [16, 0, 8, 0]}}
    plain = {key: value for key, value in plain.items() if key not in ("width_px", "height_px")}
    (theirs,) = bench.result("generate", request=plain).pictures
    assert np.array_equal(pixels(ours.path), pixels(theirs.path))
    assert parse_infotext(ours.infotext).parameters["Outpaint"] == "left=16 right=8"


def test_extras_are_pillows_resizing_and_keep_the_text(bench: Bench, start: str) -> None:
    result = bench.result("upscale", images=[start, start], scale=1.5, upscaler_1="Lanczos", saves_pictures=False)
    expected = Image.open(start).resize((120, 96), Image.Resampling.LANCZOS)
    for picture in result.pictures:
        assert np.array_equal(pixels(picture.path), np.asarray(expected))
        assert not picture.is_saved
    (cut,) = bench.result("upscale", images=[start], upscaler_1="Nearest", width_px=96, height_px=96).pictures
    large = Image.open(start).resize((120, 96), Image.Resampling.NEAREST).crop((12, 0, 108, 96))
    assert np.array_equal(pixels(cut.path), np.asarray(large))
    keys = parse_infotext(cut.infotext).parameters
    assert (keys["Postprocess upscale to"], keys["Postprocess upscaler"]) == ("96x96", "Nearest")
    both = bench.result("upscale", images=[start], upscaler_1="Lanczos", upscaler_2="Nearest", visibility_2=0.25)
    size = (160, 128)
    one, two = (Image.open(start).resize(size, mode) for mode in (Image.Resampling.LANCZOS, Image.Resampling.NEAREST))
    assert np.array_equal(pixels(both.pictures[0].path), np.asarray(Image.blend(one, two, 0.25)))


def test_a_merge_is_half_of_each_and_leaves_nothing_when_cancelled(
    bench: Bench, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = bench.result("merge", recipe="merge(tiny, other, 0.25)", output_name="half")
    try:
        name = "model.diffusion_model.out.2.weight"
        with (
            safe_open(result.facts["path"], "np") as made,
            safe_open(models / "tiny.safetensors", "np") as first,
            safe_open(models / "other.safetensors", "np") as second,
        ):
            expected = 0.75 * first.get_tensor(name) + 0.25 * second.get_tensor(name)
            assert np.allclose(made.get_tensor(name), expected, atol=1e-3)
        with pytest.raises(OutputError):
            bench.do("merge", recipe="merge(tiny, other, 0.5)", output_name="half")
    finally:
        (models / "half.safetensors").unlink()
    before = set(models.iterdir())
    monkeypatch.setattr("hayate.jobs.meter.TOLD_EVERY_S", 0.0)  # a tiny merge is over before the second is due
    bench.on_progress = lambda progress: bench.signals.cancel("job") if progress.share > 0.2 else None
    with pytest.raises(Cancelled):
        bench.do("merge", recipe="merge(tiny, other, 0.5)", output_name="never")
    assert set(models.iterdir()) == before


def test_a_merge_takes_another_models_vae(bench: Bench, models: Path, settings: Settings) -> None:
    settings.vae_dir.mkdir()
    write_tiny(settings.vae_dir / "soft.safetensors", Family.SD1, seed=5)
    result = bench.result("merge", recipe="merge(tiny, other, 0.5)", output_name="baked", vae="soft")
    try:
        name = "first_stage_model.decoder.conv_in.weight"
        with (
            safe_open(result.facts["path"], "np") as made,
            safe_open(settings.vae_dir / "soft.safetensors", "np") as vae,
        ):
            assert np.array_equal(made.get_tensor(name), vae.get_tensor(name))
        assert [path for path in models.iterdir() if path.name.startswith(".")] == []
    finally:
        (models / "baked.safetensors").unlink()


def test_a_conversion_is_of_the_type_that_was_asked_for(bench: Bench, models: Path) -> None:
    result = bench.result("convert", model="tiny", output_name="small", dtype="bf16")
    try:
        with safe_open(result.facts["path"], "pt") as made:
            assert str(made.get_tensor("model.diffusion_model.out.2.weight").dtype) == "torch.bfloat16"
    finally:
        (models / "small.safetensors").unlink()


def test_duplicates_are_found_by_what_is_in_them_and_stay(bench: Bench, models: Path) -> None:
    copy, link = models / "copy.safetensors", models / "link.safetensors"
    shutil.copy(models / "tiny.safetensors", copy)
    link.symlink_to(models / "tiny.safetensors")
    try:
        facts = bench.result("duplicates").facts
        assert [group["names"] for group in facts["groups"] if group["is_whole"]] == [
            ["copy.safetensors", "tiny.safetensors"]
        ]
        assert facts["files"] == 3
        assert 0 < facts["spare_bytes"] <= copy.stat().st_size
        assert copy.exists()
        bench.signals.cancel("job")
        with pytest.raises(Cancelled):
            bench.do("duplicates")
    finally:
        copy.unlink()
        link.unlink()


def test_a_measurement_is_kept_and_a_cancelled_one_is_not(bench: Bench, settings: Settings) -> None:
    words = {"model": "tiny", "steps": 1, "width_px": 64, "height_px": 64, "rounds": 1, "time_s": 1.0}
    result = bench.result("bench", **words, is_compared=False, label="mine")
    assert result.facts["label"] == "mine"
    assert result.facts["summary"]["it_per_s"]["median"] > 0
    assert "first picture" in {told.details.get("doing") for told in bench.told}
    kept = {path: path.read_bytes() for path in settings.data_dir.rglob("*") if path.is_file()}
    bench.on_progress = lambda progress: bench.signals.cancel("job")
    with pytest.raises(Cancelled):
        bench.do("bench", **words)
    assert {path: path.read_bytes() for path in settings.data_dir.rglob("*") if path.is_file()} == kept
    with pytest.raises(UnknownName, match="nearest: quick"):
        bench.do("bench", preset="quik")


def test_a_cancel_in_the_middle_of_a_trial_ends_the_search_with_what_is_known(bench: Bench, settings: Settings) -> None:
    timer = threading.Timer(1.0, bench.signals.cancel, ("job",))  # while the trial's process imports torch
    timer.start()
    outcome = bench.do("tune", model="tiny", width_px=64, height_px=64, budget_s=60.0)
    timer.join()
    assert outcome.is_stopped
    assert outcome.result.facts["is_interrupted"] is True
    assert outcome.result.facts["rows"] == []
    assert not list(settings.data_dir.glob("profiles/*"))


def test_models_are_loaded_and_given_up(bench: Bench, settings: Settings) -> None:
    outcome = bench.do("load", model="tiny")
    assert outcome.model is not None
    assert outcome.model.startswith("tiny [")
    assert outcome.model == pour("tiny", None, settings, bench.station.workspace)
    assert bench.do("unload").model == ""
    with pytest.raises(UnknownName):
        bench.do("load", model="tyni")


def test_questions_are_answered_as_json(bench: Bench, settings: Settings) -> None:
    def ask(question: str, **arguments: Any) -> dict[str, Any]:
        found = answer(Ask(number=1, question=question, arguments=arguments), settings, bench.station.workspace)
        json.dumps(found)
        return found

    plan = ask("plan", request={"model": "tiny", "width_px": 64}, changes={"steps": 3})
    assert "attention" in plan["choices"]
    assert set(ask("memory")["ram"]) == {"free", "used", "total"}
    assert {"torch", "python", "device", "attention"} <= set(ask("facts"))
    assert ask("inspect", model="tiny")["family"] == "sd1"
    assert "evidence" in ask("evidence")
    with pytest.raises(UnknownName, match="nearest: plan"):
        ask("plna")
    with pytest.raises(UsageError, match="other arguments"):
        ask("plan", modle="x")
    with pytest.raises(UnknownName):
        ask("inspect", model="/etc/passwd")
    with pytest.raises(UsageError, match="can't be changed"):
        ask("plan", changes={"models_dir": "/"})
