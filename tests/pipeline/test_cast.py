"""Several models in one job: each batch begins with the first again, and each model is whole, mended and alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from hayate.cli.main import main
from hayate.engines.base import Part
from hayate.engines.compiled import CompiledEngine
from hayate.engines.store import ModelStore
from hayate.errors import EngineError, TensorMismatch, UnknownName, UsageError
from hayate.models.config import Family
from hayate.pipeline.cast import Cast
from hayate.pipeline.guards import TITLES
from hayate.pipeline.infotext import parse_infotext
from hayate.pipeline.pasted import paste_picture
from hayate.pipeline.prepared import Prepared, prepare_request
from hayate.pipeline.session import Report, make_pictures
from hayate.pipeline.text2image import text2image
from hayate.pipeline.workspace import Workspace
from hayate.request import Hires, TextToImage
from hayate.runtime.asked import Asked
from hayate.runtime.compile.compiler import Compiler
from hayate.runtime.compile.spec import Mode
from hayate.settings import Settings, load_settings
from hayate.weights.hashes import file_sha256
from tests.lora_files import MAKERS, save
from tests.pipeline.faulty import write_overflowing
from tests.runtime.compile_fakes import UNRACED, tools
from tests.runtime.test_graphs import FakeRecorder
from tests.tiny_models import random_tensors, tiny_config, write, write_tiny

SDP = Asked(attention="sdp")
LORA = MAKERS[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SD1 twice, one of them under two names and for inpainting too, and SDXL with its refiner."""
    folder = tmp_path_factory.mktemp("models")
    for name, family, seed in (
        ("base", Family.SD1, 0),
        ("copy", Family.SD1, 0),
        ("other", Family.SD1, 1),
        ("xl", Family.SDXL, 2),
        ("xl refiner", Family.SDXL_REFINER, 3),
    ):
        write_tiny(folder / f"{name}.safetensors", family, seed=seed)
    tensors = dict(random_tensors(tiny_config(Family.SD1), 0))
    name = "model.diffusion_model.input_blocks.0.0.weight"
    tensors[name] = torch.cat([tensors[name], torch.zeros_like(tensors[name])], dim=1)
    tensors[name] = torch.cat([tensors[name], torch.zeros_like(tensors[name][:, :1])], dim=1)
    write(folder / "nine.safetensors", tensors)
    return folder


@pytest.fixture(scope="module")
def loras(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One LoRA for SD1, one for SDXL."""
    folder = tmp_path_factory.mktemp("Lora")
    torch.manual_seed(0)
    for name, width, more in (
        ("ink", 64, {"lora_unet_mid_block_attentions_0_proj_in": (64, 64, 1, 1)}),
        ("oil", 128, {}),
    ):
        text = "lora_te" if name == "ink" else "lora_te2"
        shapes = {f"{text}_text_model_encoder_layers_0_mlp_fc1": (2 * width, width), **more}
        layers = {layer: LORA.parts(shape) for layer, shape in shapes.items()}
        for parts in layers.values():
            parts["lora_up.weight"] *= 10
        save(folder / f"{name}.safetensors", layers)
    return folder


@pytest.fixture
def own(tmp_path: Path, folder: Path, loras: Path) -> Settings:
    places = {"cache_dir": tmp_path / "cache", "outputs_dir": tmp_path / "out", "models_dir": folder}
    return load_settings({**places, "lora_dir": loras}, environment={})


@pytest.fixture
def workspace(own: Settings) -> Iterator[Workspace]:
    with Workspace(own, recorder=lambda device: FakeRecorder()) as made:
        yield made


def request_for(model: str = "base", **more: object) -> TextToImage:
    words = {"prompt": "a red sun", "steps": 5, "seed": 7, "width_px": 64, "height_px": 64, "sampler": "Euler"}
    return TextToImage(**{**words, "model": model, "refiner_switch_at": 0.4 if "refiner" in more else None, **more})


def made(own: Settings, workspace: Workspace | None = None, **more: object) -> Report:
    return make_pictures(request_for(**more), own, None, lambda *_: None, SDP, workspace=workspace)


def pixels(report: Report) -> list[np.ndarray]:
    return [np.asarray(Image.open(each.path)).astype(int) for each in report.pictures]


def same(ours: list[np.ndarray], theirs: list[np.ndarray]) -> bool:
    return len(ours) == len(theirs) and all(map(np.array_equal, ours, theirs))


@pytest.mark.parametrize("pair", [("base", "other"), ("xl", "xl refiner")], ids=["sd1-sd1", "sdxl-refiner"])
@pytest.mark.parametrize("is_poured", [False, True], ids=["seated", "poured"])
def test_every_batch_begins_with_the_first_model_again(
    own: Settings, monkeypatch: pytest.MonkeyPatch, pair: tuple[str, str], is_poured: bool
) -> None:
    if is_poured:  # as on GPUs, where the networks stand
        monkeypatch.setattr(ModelStore, "_pours", lambda store, device: True)
    base, refiner = pair
    together = pixels(made(own, model=base, refiner=refiner, batch_count=3))
    assert same(together, [pixels(made(own, model=base, refiner=refiner, seed=seed))[0] for seed in (7, 8, 9)])
    assert not same(together[:1], pixels(made(own, model=base)))


def test_without_room_for_both_the_models_take_turns(own: Settings) -> None:
    poor = replace(own, checkpoints_cache_bytes=0, vae_cache_bytes=0)
    assert same(pixels(made(poor, refiner="other", batch_count=2)), pixels(made(own, refiner="other", batch_count=2)))


@pytest.mark.parametrize("sampler", ["Euler a", "DPM++ 2M", "DPM++ SDE", "UniPC", "Restart"])
def test_a_copy_of_the_model_takes_over_without_a_trace(own: Settings, sampler: str) -> None:
    """State, history and noise pass over; all that another model could do otherwise is the same here."""
    refined = made(own, refiner="copy", sampler=sampler, batch_count=2)
    assert same(pixels(refined), pixels(made(own, sampler=sampler, batch_count=2)))
    assert "Refiner: copy [" in refined.pictures[0].infotext


def test_the_model_itself_is_no_refiner(own: Settings) -> None:
    report = made(own, refiner="base.safetensors")
    assert same(pixels(report), pixels(made(own)))
    assert any("it is the model that it would take over from" in note for note in report.notes)
    assert "Refiner" not in report.pictures[0].infotext


def test_the_next_job_has_the_first_model_and_nothing_of_the_other(own: Settings, workspace: Workspace) -> None:
    plain, refined = pixels(made(own)), pixels(made(own, refiner="other"))
    for more, expected in (({"refiner": "other"}, refined), ({}, plain), ({"refiner": "other"}, refined)):
        assert same(pixels(made(own, workspace, **more)), expected)


def test_a_second_pass_by_another_model_is_that_models_and_a_refiner_acts_there(own: Settings) -> None:
    def hires(**more: object) -> list[np.ndarray]:
        second = Hires(scale=1.5, denoising=0.6, model=more.pop("second", None))
        return pixels(made(own, hires=second, batch_count=2, **more))

    plain, other = hires(), hires(second="other")
    assert same(hires(second="copy"), plain)
    assert not same(other, plain)
    assert same(hires(refiner="copy"), plain)
    assert not same(hires(refiner="other", refiner_switch_at=0.9), plain)
    assert same(hires(refiner="other", refiner_switch_at=0.01), other), "from its first step on it is the refiner's"


def test_a_second_pass_has_the_loras_of_its_own_prompt(own: Settings) -> None:
    def second(prompt: str | None, model: str | None = None) -> list[np.ndarray]:
        return pixels(made(own, batch_count=2, hires=Hires(scale=1.5, denoising=0.6, prompt=prompt, model=model)))

    plain = second(None)
    assert same(second("a red sun"), plain)
    inked = second("a red sun<lora:ink>")
    assert not same(inked, plain)
    assert same(second("a red sun<lora:ink>", "copy"), inked)


@pytest.mark.parametrize("is_poured", [False, True], ids=["seated", "poured"])
def test_loras_are_in_both_models_and_in_none_afterwards(
    own: Settings, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, is_poured: bool
) -> None:
    if is_poured:
        monkeypatch.setattr(ModelStore, "_pours", lambda store, device: True)
    plain, inked = pixels(made(own)), pixels(made(own, prompt="a red sun<lora:ink>", batch_count=2))
    refined = made(own, workspace, prompt="a red sun<lora:ink>", batch_count=2, refiner="copy")
    assert same(pixels(refined), inked)
    assert "Lora hashes: " in refined.pictures[0].infotext
    assert not same(plain, inked[:1])
    assert same(pixels(made(own, workspace)), plain)
    assert same(pixels(made(own, workspace, model="copy")), plain)


def test_a_lora_that_the_refiner_has_no_place_for_is_in_the_first_model_alone(own: Settings) -> None:
    words = {"model": "xl", "refiner": "xl refiner"}
    report = made(own, prompt="a red sun<lora:oil>", **words)
    assert any("LoRA oil is not put into the refiner" in note for note in report.notes)
    assert not same(pixels(report), pixels(made(own, **words)))
    with pytest.raises(TensorMismatch):
        made(own, prompt="a red sun<lora:ink>", **words)


@pytest.mark.parametrize(("base", "refiner"), [("nine", "copy"), ("copy", "nine")])
def test_an_inpainting_model_and_another_are_each_shown_what_they_take(own: Settings, base: str, refiner: str) -> None:
    """The nine channels' five others have no weight here, so both are the same model."""
    found, expected = pixels(made(own, model=base, refiner=refiner)), pixels(made(own))
    assert np.abs(found[0] - expected[0]).max() <= 1


def picture(work: Prepared, own: Settings, workspace: Workspace) -> tuple[list[np.ndarray], object]:
    guard = Cast(work, own, workspace).open()
    batches = list(text2image(guard, work.job, lambda *_: None))
    return [batch.pictures[0].astype(int) for batch in batches], guard.engine


def prepared(own: Settings, workspace: Workspace, plan: dict[str, object], **more: object) -> Prepared:
    """A request whose plan is changed to what no plan for a CPU would be."""
    found = prepare_request(request_for(**more), own, SDP, workspace)
    return replace(found, plan=replace(found.plan, **plan))


@pytest.mark.parametrize("offload", ["medvram", "lowvram"])
@pytest.mark.parametrize("pair", [("base", "other"), ("xl", "xl refiner")], ids=["sd1-sd1", "sdxl-refiner"])
def test_weights_that_wait_on_the_host_come_for_each_model(
    own: Settings, workspace: Workspace, offload: str, pair: tuple[str, str]
) -> None:
    words = {"model": pair[0], "refiner": pair[1], "batch_count": 2}
    expected = pixels(made(own, **words))
    found, _ = picture(prepared(own, workspace, {"offload": offload}, **words), own, workspace)
    assert max(np.abs(ours - theirs).max() for ours, theirs in zip(found, expected, strict=True)) <= 1


@pytest.mark.parametrize("is_poured", [False, True], ids=["seated", "poured"])
def test_recorded_steps_are_those_of_the_model_at_work(
    own: Settings, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, is_poured: bool
) -> None:
    words = {"refiner": "other", "batch_count": 2, "prompt": "a red sun<lora:ink>"}
    expected = pixels(made(own, **words))
    if is_poured:
        monkeypatch.setattr(ModelStore, "_pours", lambda store, device: True)
    for _ in range(2):
        found, _ = picture(prepared(own, workspace, {"is_graphed": True}, **words), own, workspace)
        assert max(np.abs(ours - theirs).max() for ours, theirs in zip(found, expected, strict=True)) <= 1


def test_compiled_steps_serve_both_models(own: Settings, workspace: Workspace, tmp_path: Path) -> None:
    compiler = workspace._compilers[Mode.REDUCE_OVERHEAD] = Compiler(tmp_path / "compiled", UNRACED, tools())
    words = {"refiner": "other", "batch_count": 2}
    expected = pixels(made(own, **words))
    plan = {"compile": Mode.REDUCE_OVERHEAD, "is_graphed": True, "is_packed": False}
    for _ in range(2):
        found, engine = picture(prepared(own, workspace, plan, **words), own, workspace)
        assert isinstance(engine, CompiledEngine)
        assert max(np.abs(ours - theirs).max() for ours, theirs in zip(found, expected, strict=True)) <= 1
        assert compiler.wait(60)
    assert compiler.compilations == 1, "one artefact serves every model of its architecture"
    assert not any("failed" in each.detail for each in engine.evidence())


@pytest.mark.parametrize(
    ("faulty", "part"),
    [("base", "unet"), ("refiner", "unet"), ("base", "text"), ("refiner", "text"), ("refiner", "vae")],
)
def test_the_model_that_overflows_is_the_one_that_is_mended(
    own: Settings, workspace: Workspace, tmp_path: Path, faulty: str, part: Part
) -> None:
    bad = tmp_path / "bad.safetensors"
    write_overflowing(bad, part)
    pair = (str(bad), "other") if faulty == "base" else ("other", str(bad))
    words = {"model": pair[0], "refiner": pair[1], "batch_count": 2, "steps": 3}
    expected = pixels(made(own, **words))
    for known in (0, 1):
        work = prepared(own, workspace, {}, **words)
        plan = replace(work.plan, precision=replace(work.plan.precision, **{part: torch.float16}))
        guard = Cast(replace(work, plan=plan), own, workspace).open()
        found = [batch.pictures[0].astype(int) for batch in text2image(guard, work.job, lambda *_: None)]
        assert max(np.abs(ours - theirs).mean() for ours, theirs in zip(found, expected, strict=True)) < 3
        told = [note for note in guard.notes if TITLES[part] in note]
        assert len(told) == 1, "once in a job, and the other model is left as it is"
        assert ("made values that are not finite before" if known else "now and in future") in told[0]
        assert not (known and guard.failures)


def test_where_both_do_not_fit_the_first_goes_before_the_other_comes(
    own: Settings, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = pixels(made(own, refiner="other", batch_count=2))
    plain, lacks = Workspace.engine, [True, True]

    def engine(space: Workspace, model: Path, *more: object, **words: object) -> object:
        if model.stem == "other" and lacks and lacks.pop():
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(space, model, *more, **words)

    monkeypatch.setattr(Workspace, "engine", engine)
    with pytest.raises(EngineError, match="out of memory while loading other"):
        made(own, workspace, refiner="other")
    lacks.append(True)
    assert same(pixels(made(own, workspace, refiner="other", batch_count=2)), expected)
    assert not lacks


def is_in_memory(*_: object, **__: object) -> None:
    raise AssertionError("a model was loaded")


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        ({"refiner": "ohter"}, UnknownName, "nearest: .*other"),
        ({"refiner": "xl refiner"}, UsageError, "the refiner is SDXL-REFINER, whose latents are not those"),
        ({"model": "xl", "refiner": "base"}, UsageError, "the refiner is SD1"),
        ({"hires": Hires(model="xl")}, UsageError, "the model of the second pass is SDXL"),
        ({"hires": Hires(model="none")}, UnknownName, "none"),
        ({"model": "xl refiner"}, UsageError, "finishes another model's picture"),
        ({"refiner": "other", "refiner_switch_at": 0.0}, UsageError, "--refiner-switch-at takes 0.01 to 1"),
    ],
)
def test_what_can_not_be_is_said_before_anything_is_loaded(
    own: Settings, monkeypatch: pytest.MonkeyPatch, words: dict[str, object], error: type[Exception], message: str
) -> None:
    monkeypatch.setattr(Workspace, "engine", is_in_memory)
    with pytest.raises(error, match=message) as caught:
        made(own, **words)
    assert "\n" not in str(caught.value)


def test_the_plan_is_for_the_larger_of_the_models(own: Settings, workspace: Workspace) -> None:
    alone = [prepare_request(request_for(name), own, SDP, workspace).plan.forecast for name in ("base", "nine")]
    both = prepare_request(request_for("base", refiner="nine"), own, SDP, workspace).plan.forecast
    assert both.peak_bytes("none") == max(each.peak_bytes("none") for each in alone)
    assert len({each.peak_bytes("none") for each in alone}) == 2


def written(tmp_path: Path, *words: str) -> dict[str, str]:
    """The infotext's parameters, after the picture was made again from its file to the last bit."""
    first, again = tmp_path / "first.png", tmp_path / "again.png"
    for path in (first, again):
        path.unlink(missing_ok=True)
    command = ["generate", "a red sun", "--model", "base", "--size", "64x64", "--steps", "4", "--seed", "9", *words]
    assert main([*command, "-o", str(first)]) == 0
    assert main(["generate", "--from", str(first), "-o", str(again)]) == 0
    assert np.array_equal(np.asarray(Image.open(first)), np.asarray(Image.open(again)))
    texts = [Image.open(path).info["parameters"] for path in (first, again)]
    assert texts[0] == texts[1]
    return dict(parse_infotext(texts[0]).parameters)


@pytest.fixture
def at_home(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HAYATE_MODELS_DIR", str(folder))
    monkeypatch.setenv("HAYATE_CACHE_DIR", str(tmp_path / "cache"))
    return folder


def test_a_refined_picture_is_made_again_from_its_file(at_home: Path, tmp_path: Path) -> None:
    found = written(tmp_path, "--refiner", "other", "--refiner-switch-at", "0.5")
    digits = file_sha256(at_home / "other.safetensors", tmp_path)[:10]
    assert found["Refiner"] == f"other [{digits}]"
    assert found["Refiner switch at"] == "0.5"
    found = written(tmp_path, "--refiner", "other")
    assert found["Refiner switch at"] == "0.8"


def test_a_picture_of_two_checkpoints_is_made_again_from_its_file(at_home: Path, tmp_path: Path) -> None:
    words = ["--hires", "--hires-model", "other", "--hires-scale", "1.5", "--refiner", "copy"]
    found = written(tmp_path, *words)
    digits = file_sha256(at_home / "other.safetensors", tmp_path)[:10]
    assert found["Hires checkpoint"] == f"other [{digits}]"
    assert found["Refiner"].startswith("copy [")


def test_a_refiner_is_found_by_its_hash_and_one_that_is_not_here_is_said(
    own: Settings, folder: Path, tmp_path: Path
) -> None:
    report = made(own, refiner="other")
    picture = Image.open(report.pictures[0].path)
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    save_file(load_file(folder / "base.safetensors"), renamed / "base.safetensors")
    (renamed / "new name.safetensors").write_bytes((folder / "other.safetensors").read_bytes())
    there = replace(own, models_dir=renamed)
    made(there, model="base", refiner="new name")  # so that its hash is known
    found = paste_picture(report.pictures[0].path, there).request
    assert found.refiner == str(renamed / "new name.safetensors")
    (renamed / "new name.safetensors").unlink()
    pasted = paste_picture(report.pictures[0].path, there)
    assert pasted.request.refiner is None
    assert any(note.startswith("not honoured: Refiner other [") for note in pasted.notes)
    assert pasted.request.refiner_switch_at == 0.4
    assert paste_picture(report.pictures[0].path, there, {"refiner"}).notes == ()
    assert picture.info["parameters"] == report.pictures[0].infotext
