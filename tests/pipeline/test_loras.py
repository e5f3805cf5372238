"""LoRAs in prompts: the picture changes and changes back, the infotext names them, nothing is compiled for them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hayate.cli.main import main
from hayate.engines.compiled import CompiledEngine
from hayate.engines.store import ModelStore
from hayate.engines.torch import TorchEngine
from hayate.errors import BrokenFile, HayateError, TensorMismatch, UsageError
from hayate.models.config import Family
from hayate.pipeline.infotext import parse_infotext
from hayate.pipeline.loras import find_loras
from hayate.pipeline.prepared import Prepared, prepare_request
from hayate.pipeline.report import Report
from hayate.pipeline.session import make_pictures
from hayate.pipeline.text2image import text2image
from hayate.pipeline.workspace import Workspace
from hayate.prompt.extra_networks import split_extra_networks
from hayate.request import TextToImage
from hayate.runtime.asked import Asked
from hayate.runtime.compile.compiler import Compiler
from hayate.runtime.compile.spec import Mode
from hayate.settings import Settings, load_settings
from tests.lora_files import MAKERS, save
from tests.runtime.compile_fakes import UNRACED, tools
from tests.runtime.test_graphs import FakeRecorder
from tests.tiny_models import write_tiny

LORA = MAKERS[0]
SDP = Asked(attention="sdp")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    paths = [folder / f"{name}.safetensors" for name in "ab"]
    for seed, path in enumerate(paths):
        write_tiny(path, Family.SD1, seed=seed)
    return paths


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two LoRAs that fit, one for SDXL, one that is cut off."""
    folder = tmp_path_factory.mktemp("Lora")
    (folder / "styles").mkdir()
    for number, name in enumerate(("ink", "styles/oil")):
        torch.manual_seed(number)
        layers = {
            "lora_te_text_model_encoder_layers_0_mlp_fc1": LORA.parts((128, 64)),
            "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q": LORA.parts((32, 32)),
            "lora_unet_up_blocks_1_attentions_1_transformer_blocks_0_attn2_to_v": LORA.parts((64, 64)),
            "lora_unet_mid_block_attentions_0_proj_in": LORA.parts((64, 64, 1, 1)),
        }
        for parts in layers.values():
            parts["lora_up.weight"] *= 10
        save(folder / f"{name}.safetensors", layers, {"ss_output_name": f"the {name[-3:]} of old"})
    save(folder / "xl.safetensors", {"lora_te2_text_model_encoder_layers_0_mlp_fc1": LORA.parts((8, 8))})
    (folder / "cut.safetensors").write_bytes((folder / "ink.safetensors").read_bytes()[:900])
    return folder


@pytest.fixture
def settings(tmp_path: Path, folder: Path) -> Settings:
    places = {"cache_dir": tmp_path / "cache", "outputs_dir": tmp_path / "out", "lora_dir": folder}
    return load_settings(places, environment={})


@pytest.fixture
def workspace(settings: Settings) -> Iterator[Workspace]:
    with Workspace(settings, recorder=lambda device: FakeRecorder()) as made:
        yield made


def request_for(model: Path, prompt: str = "a red sun", **more: object) -> TextToImage:
    words = {"steps": 3, "seed": 7, "width_px": 64, "height_px": 64, "sampler": "Euler"}
    return TextToImage(**{"prompt": prompt, **words, "model": str(model), **more})


def made(
    model: Path, settings: Settings, prompt: str = "a red sun", workspace: Workspace | None = None, **more: object
) -> Report:
    return make_pictures(
        request_for(model, prompt, **more), settings, None, lambda done, rows: None, SDP, workspace=workspace
    )


def pixels(report: Report) -> np.ndarray:
    return np.asarray(Image.open(report.pictures[0].path)).astype(int)


def evidence(report: Report) -> dict[str, dict]:
    return {each["name"]: each for each in report.speed["evidence"]}


def payload_hash(path: Path) -> str:
    """By the format's own description: eight bytes with the header's length, the header, the numbers."""
    data = path.read_bytes()
    return hashlib.sha256(data[8 + int.from_bytes(data[:8], "little") :]).hexdigest()


def test_a_lora_changes_the_picture_and_leaves_nothing_behind(
    models: list[Path], settings: Settings, workspace: Workspace, folder: Path
) -> None:
    plain = pixels(made(models[0], settings, workspace=workspace))
    report = made(models[0], settings, "a red sun<lora:ink:0.8>", workspace)
    inked = pixels(report)
    assert np.abs(inked - plain).max() > 4
    assert evidence(report)["LoRA"]["active"]
    assert "LoRA 4" in evidence(report)["LoRA"]["detail"]
    assert report.notes == made(models[0], settings).notes
    info = parse_infotext(report.pictures[0].infotext)
    assert info.prompt == "a red sun<lora:ink:0.8>"
    assert info.parameters["Lora hashes"] == f"ink: {payload_hash(folder / 'ink.safetensors')[:12]}"
    again = made(models[0], settings, workspace=workspace)
    assert np.array_equal(pixels(again), plain)
    assert "LoRA" not in evidence(again)
    assert "Lora hashes" not in again.pictures[0].infotext
    assert np.array_equal(pixels(made(models[0], settings, "a red sun<lora:ink:0.8>")), inked)


def test_a_mark_is_no_text_and_one_in_the_negative_prompt_does_nothing(models: list[Path], settings: Settings) -> None:
    plain = pixels(made(models[0], settings))
    for prompt, negative in (("a red sun<lora:ink:0>", ""), ("a red sun", "<lora:ink:1>")):
        assert np.array_equal(pixels(made(models[0], settings, prompt, negative_prompt=negative)), plain)


def test_two_loras_give_one_picture_in_either_order_and_one_twice_is_a_sum(
    models: list[Path], settings: Settings, workspace: Workspace
) -> None:
    def of(marks: str) -> np.ndarray:
        return pixels(made(models[0], settings, "a red sun" + marks, workspace))

    both = of("<lora:ink:0.5><lyco:oil:0.4>")
    assert np.array_equal(of("<lora:oil:0.4><lora:ink:0.5>"), both)
    assert not np.array_equal(of("<lora:ink:0.5>"), both)
    assert np.abs(of("<lora:ink:0.25><lora:ink:0.5>") - of("<lora:ink:0.75>")).max() <= 1


@pytest.mark.parametrize("is_poured", [False, True], ids=["seated", "poured"])
def test_models_that_wait_or_are_poured_over_wait_clean(
    is_poured: bool, models: list[Path], settings: Settings, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_poured:  # as on GPUs, where the networks stand
        monkeypatch.setattr(ModelStore, "_pours", lambda store, device: True)
    alone = [pixels(made(model, settings)) for model in models]
    inked = pixels(made(models[0], settings, "a red sun<lora:ink>"))
    for turn, prompt, expected in (
        (0, "a red sun<lora:ink>", inked),
        (1, "a red sun", alone[1]),
        (0, "a red sun", alone[0]),
        (0, "a red sun<lora:ink>", inked),
        (1, "a red sun<lora:oil>", None),
        (0, "a red sun<lora:ink>", inked),
        (1, "a red sun", alone[1]),
    ):
        found = pixels(made(models[turn], settings, prompt, workspace))
        assert expected is None or np.array_equal(found, expected), (turn, prompt)


def prepared(model: Path, settings: Settings, workspace: Workspace, prompt: str, **plan: object) -> Prepared:
    """A request whose plan is changed to what no plan for a CPU would be."""
    found = prepare_request(request_for(model, prompt), settings, SDP, workspace)
    return replace(found, plan=replace(found.plan, **plan))


def picture(work: Prepared, workspace: Workspace) -> tuple[np.ndarray, object]:
    engine = workspace.engine(work.files.model, None, work.plan, work.plan.precision, loras=work.job.loras)
    (batch,) = text2image(engine, work.job, lambda done, rows: None)
    return batch.pictures[0].astype(int), engine


@pytest.mark.parametrize("offload", ["medvram", "lowvram"])
def test_weights_that_wait_on_the_host_are_changed_there(
    offload: str, models: list[Path], settings: Settings, workspace: Workspace
) -> None:
    expected = [pixels(made(models[0], settings, prompt)) for prompt in ("a red sun", "a red sun<lora:ink>")]
    for turn in (0, 1, 0, 1):
        work = prepared(models[0], settings, workspace, ("a red sun", "a red sun<lora:ink>")[turn], offload=offload)
        found, engine = picture(work, workspace)
        assert isinstance(engine, TorchEngine)
        assert engine.offloader is not None
        assert np.abs(found - expected[turn]).max() <= 1


def test_compiled_and_recorded_steps_see_the_loras_and_nothing_is_compiled_again(
    models: list[Path], settings: Settings, workspace: Workspace, tmp_path: Path
) -> None:
    compiler = workspace._compilers[Mode.REDUCE_OVERHEAD] = Compiler(tmp_path / "compiled", UNRACED, tools())
    plan = {"compile": Mode.REDUCE_OVERHEAD, "is_graphed": True, "is_packed": False}
    marks = ("", "<lora:ink>", "<lora:ink><lora:oil:0.5>", "")
    expected = [pixels(made(models[0], settings, f"a red sun{mark}")) for mark in marks]
    engines = []
    for turn in (0, 0, 1, 2, 3, 1):
        work = prepared(models[0], settings, workspace, f"a red sun{marks[turn]}", **plan)
        found, engine = picture(work, workspace)
        assert compiler.wait(60)
        assert np.abs(found - expected[turn]).max() <= 1
        engines.append(engine)
    last = engines[-1]
    assert isinstance(last, CompiledEngine)
    assert all(engine is last for engine in engines)
    assert compiler.compilations == 1
    found = {each.name: each for each in last.evidence()}
    assert "of 1 recordings" in found["CUDA graphs"].detail


def test_a_wider_engine_has_the_loras_too(models: list[Path], settings: Settings, workspace: Workspace) -> None:
    work = prepared(models[0], settings, workspace, "a red sun<lora:ink>")
    expected, engine = picture(work, workspace)
    assert isinstance(engine, TorchEngine)
    for part in ("unet", "text"):
        (batch,) = text2image(engine.widen(part, torch.float64), work.job, lambda done, rows: None)
        assert np.abs(batch.pictures[0].astype(int) - expected).max() <= 1


def test_a_bad_file_is_one_error_and_the_next_job_is_right(
    models: list[Path], settings: Settings, workspace: Workspace
) -> None:
    plain = pixels(made(models[0], settings))
    made(models[0], settings, "a red sun<lora:ink>", workspace)
    cases: list[tuple[str, type[HayateError], str]] = [
        ("xl", TensorMismatch, "seems to be for SDXL.*use a LoRA for SD1"),
        ("cut", BrokenFile, "truncated"),
    ]
    for name, kind, words in cases:
        with pytest.raises(kind, match=words):
            made(models[0], settings, f"a red sun<lora:ink><lora:{name}>", workspace)
        assert np.array_equal(pixels(made(models[0], settings, workspace=workspace)), plain)


def test_a_name_that_is_not_there_is_said_with_the_nearest(models: list[Path], settings: Settings) -> None:
    report = made(models[0], settings, "a red sun<lora:inc:1><hypernet:h:1><who:x>")
    assert np.array_equal(pixels(report), pixels(made(models[0], settings)))
    notes = [note for note in report.notes if note.startswith("<")]
    assert len(notes) == 3
    assert "<lora:inc>" in notes[0]
    assert "nearest: ink" in notes[0]


def test_strengths_are_read_as_a1111_reads_them(folder: Path) -> None:
    def read(mark: str) -> tuple:
        (use,) = find_loras(split_extra_networks(mark)[1], folder, [])
        return use.path.stem, use.text, use.unet, use.rank

    assert read("<lora:ink>") == ("ink", 1, 1, None)
    assert read("<lora:ink:0.8>") == ("ink", 0.8, 0.8, None)
    assert read("<lora:ink:0.8:-0.5:4>") == ("ink", 0.8, -0.5, 4)
    assert read("<lora:ink:te=0.3>") == ("ink", 0.3, 0.3, None)
    assert read("<lora:ink:0.8:unet=0.2:dyn=2>") == ("ink", 0.8, 0.2, 2)
    assert read("<lyco:styles/oil>") == ("oil", 1, 1, None)
    assert read("<lora:the oil of old:0.5>") == ("oil", 0.5, 0.5, None)
    for bad in ("<lora:ink:much>", "<lora:ink:nan>", "<lora:ink:1:1:0>", "<lora:ink:1e9>"):
        with pytest.raises(UsageError):
            read(bad)


def test_the_command_line_makes_a_picture_with_a_lora(
    models: list[Path],
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HAYATE_LORA_DIR", str(folder))
    basic = ["--model", str(models[0]), "--size", "64x64", "--steps", "2", "--seed", "7", "--json"]
    reports = []
    for prompt in ("a red sun <lora:ink:0.9>, <lora:oil:0.2>", "a red sun , "):
        assert main(["generate", prompt, *basic, "-o", str(tmp_path / "out")]) == 0
        reports.append(json.loads(capsys.readouterr().out))
    with Image.open(reports[0]["images"][0]["path"]) as one, Image.open(reports[1]["images"][0]["path"]) as two:
        assert not np.array_equal(np.asarray(one), np.asarray(two))
        parameters = one.info["parameters"]
    files = [folder / "ink.safetensors", folder / "styles" / "oil.safetensors"]
    hashes = [payload_hash(path)[:12] for path in files]
    assert f'Lora hashes: "ink: {hashes[0]}, oil: {hashes[1]}"' in parameters
    assert main(["generate", "a red sun <lora:xl:1>", *basic, "-o", str(tmp_path / "out")]) == 3
    assert "SDXL" in capsys.readouterr().err
