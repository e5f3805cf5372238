"""What one job leaves for the next: the same pictures as in a process of their own, and nothing made twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hayate.engines.compiled import CompiledEngine
from hayate.engines.torch import TorchEngine
from hayate.errors import EngineError
from hayate.models.config import Family
from hayate.pipeline.prepared import Prepared, prepare_request
from hayate.pipeline.report import Report
from hayate.pipeline.session import make_pictures
from hayate.pipeline.text2image import text2image
from hayate.pipeline.workspace import Workspace
from hayate.request import TextToImage
from hayate.runtime.asked import Asked
from hayate.runtime.compile.compiler import Compiler
from hayate.runtime.compile.spec import Mode
from hayate.runtime.plan import Plan
from hayate.settings import Settings, load_settings
from tests.runtime.compile_fakes import UNRACED, tools
from tests.runtime.test_graphs import FakeRecorder
from tests.tiny_models import write_tiny


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    paths = [folder / f"{name}.safetensors" for name in "ab"]
    for seed, path in enumerate(paths):
        write_tiny(path, Family.SD1, seed=seed)
    return paths


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings({"cache_dir": tmp_path / "cache", "outputs_dir": tmp_path / "out"}, environment={})


@pytest.fixture
def workspace(settings: Settings) -> Iterator[Workspace]:
    with Workspace(settings, recorder=lambda device: FakeRecorder()) as made:
        yield made


def request_for(model: Path, **more: object) -> TextToImage:
    words = {"prompt": "a red sun", "steps": 4, "seed": 7, "width_px": 64, "height_px": 64, "sampler": "Euler"}
    return TextToImage(**{**words, "model": str(model), **more})


def made(model: Path, settings: Settings, asked: Asked | None = None, workspace: Workspace | None = None) -> Report:
    return make_pictures(request_for(model), settings, None, lambda done, rows: None, asked, workspace=workspace)


def pixels(report: Report) -> np.ndarray:
    return np.asarray(Image.open(report.pictures[0].path))


def seen(workspace: Workspace) -> dict[str, str]:
    return {each.name: each.detail for each in workspace.evidence()}


def test_models_come_and_go_and_none_is_loaded_twice(
    models: list[Path], settings: Settings, workspace: Workspace
) -> None:
    alone = [pixels(made(model, settings)) for model in models]
    assert not np.array_equal(*alone)
    for turn in range(6):
        assert np.array_equal(pixels(made(models[turn % 2], settings, None, workspace)), alone[turn % 2])
    assert "2 loaded" in seen(workspace)["checkpoints cache"]
    assert "6 switches" in seen(workspace)["switch"]


def test_another_attention_needs_no_load_and_is_the_one_that_counts(
    models: list[Path], settings: Settings, workspace: Workspace
) -> None:
    for name in ("math", "split", "sdp"):
        report = made(models[0], settings, Asked(attention=name), workspace)
        found = {each["name"]: each for each in report.speed["evidence"]}
        assert found["attention"]["requested"] == name
        assert found["attention"]["active"]
        counted = int(found["attention"]["detail"].split()[0])
        assert counted == calls_of(models[0], settings, name)
    assert "1 loaded" in seen(workspace)["checkpoints cache"]


def calls_of(model: Path, settings: Settings, name: str) -> int:
    """What a process of its own counts."""
    found = {each["name"]: each for each in made(model, settings, Asked(attention=name)).speed["evidence"]}
    return int(found["attention"]["detail"].split()[0])


def test_a_workspace_that_ends_with_its_job_keeps_nothing(models: list[Path], settings: Settings) -> None:
    with Workspace(settings, is_lasting=False) as short:
        for turn in range(3):
            made(models[turn % 2], settings, None, short)
        assert "3 loaded" in seen(short)["checkpoints cache"]


SDP = Asked(attention="sdp")
"""By operators of PyTorch, which alone a fake recorder can record."""


def prepared(model: Path, settings: Settings, workspace: Workspace, **plan: object) -> Prepared:
    """A request whose plan is changed to what no plan for a CPU would be."""
    found = prepare_request(request_for(model), settings, SDP, workspace)
    return replace(found, plan=replace(found.plan, **plan))


def picture(engine: TorchEngine | CompiledEngine, work: Prepared) -> np.ndarray:
    (batch,) = text2image(engine, work.job, lambda done, rows: None)
    return batch.pictures[0]


def engine_of(workspace: Workspace, model: Path, plan: Plan) -> TorchEngine:
    engine = workspace.engine(model, None, plan, plan.precision)
    assert isinstance(engine, TorchEngine)
    return engine


def test_weights_that_moved_are_home_before_another_plan_takes_them(
    models: list[Path], settings: Settings, workspace: Workspace
) -> None:
    expected = [picture(engine_of(workspace, model, work.plan), work) for model, work in works(models, settings)]
    offloaders = []
    for offload, turn in (("medvram", 0), ("medvram", 0), ("lowvram", 0), ("none", 1), ("lowvram", 1), ("none", 0)):
        work = prepared(models[turn], settings, workspace, offload=offload)
        engine = engine_of(workspace, models[turn], work.plan)
        offloaders.append(engine.offloader)
        assert np.array_equal(picture(engine, work), expected[turn]), (offload, turn)
    assert offloaders[0] is offloaders[1], "what is parcelled once stays so"
    assert offloaders[2] is not offloaders[0]
    assert offloaders[3] is offloaders[5] is None


def works(models: list[Path], settings: Settings) -> list[tuple[Path, Prepared]]:
    with Workspace(settings) as other:
        return [(model, prepare_request(request_for(model), settings, SDP, other)) for model in models]


def test_recorded_steps_outlive_a_job(models: list[Path], settings: Settings, workspace: Workspace) -> None:
    work = prepared(models[0], settings, workspace, is_graphed=True)
    expected = pixels(made(models[0], settings, SDP))
    steps = []
    for _ in range(2):
        engine = engine_of(workspace, models[0], work.plan)
        assert np.array_equal(picture(engine, work), expected)
        steps.append(engine.graphed)
    assert steps[0] is steps[1]
    assert steps[0] is not None
    assert (steps[0].recordings, steps[0].eager_calls) == (1, 2)
    assert steps[0].replays == 6
    other = replace(work.plan, attention=prepared_attention(models[0], settings, workspace, "math"))
    assert engine_of(workspace, models[0], other).graphed is not steps[0], "they hold another attention's kernels"


def prepared_attention(model: Path, settings: Settings, workspace: Workspace, name: str):
    return prepare_request(request_for(model), settings, Asked(attention=name), workspace).plan.attention


def test_compiled_steps_are_replayed_as_graphs_and_outlive_a_job(
    models: list[Path], settings: Settings, workspace: Workspace, tmp_path: Path
) -> None:
    compiler = workspace._compilers[Mode.REDUCE_OVERHEAD] = Compiler(tmp_path / "compiled", UNRACED, tools())
    asked = {"compile": Mode.REDUCE_OVERHEAD, "is_graphed": True, "is_packed": False}
    work = prepared(models[0], settings, workspace, **asked)
    expected = pixels(made(models[0], settings)).astype(int)
    engines = []
    for _ in range(3):
        engine = workspace.engine(models[0], None, work.plan, work.plan.precision)
        assert isinstance(engine, CompiledEngine)
        assert np.abs(picture(engine, work) - expected).max() <= 1
        assert compiler.wait(60)
        engines.append(engine)
    assert engines[0] is engines[2]
    found = {each.name: each for each in engines[0].evidence()}
    assert found["CUDA graphs"].detail.startswith("6 replays of 1 recordings, 2 steps computed as usual")
    assert "8 calls served" in found["compile unet"].detail
    assert compiler.compilations == 1
    widened = engines[0].widen("unet", torch.float64)
    assert widened.recorder is engines[0].recorder


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")])
def test_a_model_that_can_not_fit_is_one_line_and_the_next_one_works(
    models: list[Path], settings: Settings, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Workspace, "engine", fail)
        with pytest.raises(
            EngineError, match=rf"out of memory while loading {models[0].name}.*GiB are needed"
        ) as caught:
            made(models[0], settings, None, workspace)
    assert "\n" not in str(caught.value)
    assert np.array_equal(pixels(made(models[0], settings, None, workspace)), pixels(made(models[0], settings)))
