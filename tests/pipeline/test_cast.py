"""Several models in one job: each batch begins with the first again, and each model is whole, mended and alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hayate.engines.base import Part
from hayate.engines.compiled import CompiledEngine
from hayate.engines.store import ModelStore
from hayate.errors import EngineError
from hayate.pipeline.cast import Cast
from hayate.pipeline.guards import TITLES
from hayate.pipeline.prepared import Prepared
from hayate.pipeline.text2image import text2image
from hayate.pipeline.workspace import Workspace
from hayate.runtime.compile.compiler import Compiler
from hayate.runtime.compile.spec import Mode
from hayate.settings import Settings
from tests.pipeline.faulty import write_overflowing
from tests.pipeline.several import made, pixels, prepared, same
from tests.runtime.compile_fakes import UNRACED, tools


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


def test_the_next_job_has_the_first_model_and_nothing_of_the_other(own: Settings, workspace: Workspace) -> None:
    plain, refined = pixels(made(own)), pixels(made(own, refiner="other"))
    for more, expected in (({"refiner": "other"}, refined), ({}, plain), ({"refiner": "other"}, refined)):
        assert same(pixels(made(own, workspace, **more)), expected)


def picture(work: Prepared, own: Settings, workspace: Workspace) -> tuple[list[np.ndarray], object]:
    guard = Cast(work, own, workspace).open()
    batches = list(text2image(guard, work.job, lambda *_: None))
    return [batch.pictures[0].astype(int) for batch in batches], guard.engine


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
