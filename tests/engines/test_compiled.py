"""The engine that swaps compiled steps in: the same pictures, nothing compiled twice, and eager wherever it must be."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import Tensor

from hayate.engines.compiled import CompiledEngine
from hayate.engines.torch import TorchEngine, load_engine
from hayate.models.config import Family
from hayate.pipeline.resolve import resolve
from hayate.pipeline.text2image import text2image
from hayate.request import TextToImage
from hayate.runtime.compile.call import BoundCall
from hayate.runtime.compile.compiler import Compiler
from hayate.runtime.compile.spec import Sizes
from hayate.runtime.compile.state import Stage
from hayate.runtime.compile.toolchain import toolchain_refusal
from hayate.runtime.compile.trace import random_inputs
from hayate.runtime.compile.workshop import Tools
from hayate.runtime.evidence import Evidence
from hayate.runtime.packed import pack
from hayate.runtime.precision import Precision
from hayate.samplers.catalogue import SAMPLERS
from hayate.settings import load_settings
from tests.runtime.compile_fakes import UNRACED, load_eager, tools, worker
from tests.tiny_models import random_tensors, tiny_config, write

CPU = torch.device("cpu")
FP32 = Precision(unet=torch.float32, text=torch.float32, vae=torch.float32, reason="")
ALL = frozenset({"unet", "vae", "text"})
UNET = frozenset({"unet"})


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two checkpoints of one architecture, which has as few layers as are recognised, so that it compiles soon."""
    folder = tmp_path_factory.mktemp("models")
    paths = [folder / "one.safetensors", folder / "two.safetensors"]
    config = tiny_config(Family.SD1)
    config = replace(config, unet=replace(config.unet, multipliers=(1, 2), transformer_depths=(1, 0)))
    for seed, path in enumerate(paths):
        write(path, dict(random_tensors(config, seed)))
    return paths


@pytest.fixture
def compiler(tmp_path: Path) -> Iterator[Compiler]:
    made = Compiler(tmp_path / "compiled", UNRACED, tools())
    yield made
    made.close()


def eager_engine(path: Path) -> TorchEngine:
    return load_engine(path, CPU, FP32)


def engine_of(eager: TorchEngine, compiler: Compiler, parts: frozenset = ALL) -> CompiledEngine:
    return CompiledEngine(engine=eager, compiler=compiler, parts=parts)


def pixels(engine: CompiledEngine | TorchEngine, **asked: object) -> np.ndarray:
    """The first picture of a request, by the real pipeline."""
    words = {"prompt": "a red sun", "steps": 2, "seed": 7, "width_px": 64, "height_px": 64}
    request = TextToImage(**{**words, **asked})
    job = resolve(request, load_settings({}, environment={}), engine.config)
    (batch,) = text2image(engine, job, lambda done, rows: None)
    return np.asarray(batch.pictures[0]).astype(int)


def served(engine: CompiledEngine) -> dict[str, Evidence]:
    return {each.name: each for each in engine.evidence()}


CHANGES: list[dict[str, object]] = [
    *({"sampler": name} for name in ("Euler", "DPM++ 2M", "DPM++ SDE", "Heun", "DDIM CFG++", "UniPC", "LCM")),
    {"steps": 3},
    {"steps": 5, "scheduler": "Karras"},
    {"prompt": "a blue moon"},
    {"prompt": "a blue moon, " * 40},
    {"negative_prompt": "rain, " * 60},
    {"prompt": "[a cat:a dog:0.5]"},
    {"cfg": 1.0},
    {"cfg": 12.0},
    {"seed": 8},
    {"clip_skip": 1},
    {"width_px": 128, "height_px": 64},
    {"width_px": 96, "height_px": 160},
    {"prompt": "a red sun", "sampler": "Restart"},
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Real:
    """What the real compiler made of the U-Net of both checkpoints."""

    compiler: Compiler
    folder: Path
    eager: tuple[TorchEngine, ...]
    compiled: tuple[CompiledEngine, ...]


@pytest.fixture(scope="module")
def real(models: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    """The one compilation by the real compiler in all tests: 45 s of one core."""
    if reason := toolchain_refusal(CPU):
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("real")
    compiler = Compiler(folder, UNRACED)
    eager = tuple(eager_engine(path) for path in models)
    compiled = tuple(engine_of(each, compiler, UNET) for each in eager)
    assert np.array_equal(pixels(compiled[0]), pixels(eager[0])), "eager serves the first picture"
    assert compiler.wait(900)
    assert compiler.compilations == 1
    yield Real(compiler=compiler, folder=folder, eager=eager, compiled=compiled)
    compiler.close()


def test_twenty_changes_compile_nothing_and_keep_every_picture(real: Real) -> None:
    """Every change comes with the other checkpoint."""
    assert len(CHANGES) == 20
    assert {change["sampler"] for change in CHANGES if "sampler" in change} <= {each.name for each in SAMPLERS}
    for number, change in enumerate(CHANGES):
        eager, compiled = real.eager[number % 2], real.compiled[number % 2]
        before = served(compiled)["compile unet"].detail
        assert np.abs(pixels(compiled, **change) - pixels(eager, **change)).max() <= 1, change
        assert served(compiled)["compile unet"].detail != before, f"the compiled step did not act: {before}"
    assert real.compiler.wait(0)
    assert real.compiler.compilations == 1


def test_the_next_start_finds_the_step_and_says_when_it_was_ready(real: Real) -> None:
    again = Compiler(real.folder, UNRACED, replace(Tools(), worker=worker("raise SystemExit('started')")))
    engine = engine_of(real.eager[1], again, UNET)
    pixels(engine)
    assert again.wait(60)
    pixels(engine)
    evidence = served(engine)["compile unet"]
    assert evidence.active, evidence.detail
    assert again.compilations == 0
    assert "kept from a compile of" in evidence.detail
    assert "ready after" in evidence.detail
    again.close()


@pytest.mark.skipif(sys.platform == "win32", reason="PyTorch's own loader serves there")
def test_other_threads_go_on_while_a_compiled_step_computes(real: Real) -> None:
    call = BoundCall("unet", real.eager[0].unet)
    sizes = Sizes(2, 64, 64)
    small = real.compiler.step_for(call, Sizes(2, 8, 8))
    assert small is not None
    counted, is_over = [0], threading.Event()

    def count() -> None:
        while not is_over.wait(0.001):
            counted[0] += 1

    thread = threading.Thread(target=count)
    thread.start()
    try:
        small(random_inputs(call.target, call.network, Sizes(2, 8, 8)))
        inputs = random_inputs(call.target, call.network, sizes)
        before = counted[0]
        small(inputs)
        after = counted[0]
    finally:
        is_over.set()
        thread.join()
    assert after - before > 5, "with Python's lock held it is one at most"


def test_every_part_is_swapped_in_and_the_picture_stays(models: list[Path], compiler: Compiler) -> None:
    eager = eager_engine(models[0])
    engine = engine_of(eager, compiler)
    expected = pixels(eager)
    assert np.array_equal(pixels(engine), expected)
    assert compiler.wait(60)
    assert np.abs(pixels(engine) - expected).max() <= 1
    found = served(engine)
    assert all(found[f"compile {part}"].active for part in ALL)
    assert compiler.compilations == 3


def test_only_the_parts_that_were_asked_for_are_compiled(models: list[Path], compiler: Compiler) -> None:
    engine = engine_of(eager_engine(models[0]), compiler, frozenset({"vae"}))
    pixels(engine)
    assert compiler.wait(60)
    assert compiler.compilations == 1
    assert {name for name in served(engine) if name.startswith("compile ")} == {"compile vae"}


def test_a_step_that_fails_at_work_gives_way_to_eager_in_the_same_step(models: list[Path], tmp_path: Path) -> None:
    failing = Mock(side_effect=lambda outputs: outputs)
    compiler = Compiler(tmp_path / "compiled", UNRACED, tools(spoil=failing))
    eager = eager_engine(models[0])
    engine = engine_of(eager, compiler, UNET)
    pixels(engine)
    assert compiler.wait(60)
    failing.side_effect = RuntimeError("CUDA error: planted")
    calls = failing.call_count
    assert np.array_equal(pixels(engine), pixels(eager))
    assert failing.call_count == calls + 1, "it is not tried again"
    assert "it failed at work: CUDA error: planted" in served(engine)["compile unet"].detail
    assert not served(engine)["compile unet"].active
    compiler.close()


@pytest.mark.parametrize("program", ["raise RuntimeError('planted')", "pass"])
def test_pictures_are_made_whatever_the_compiler_does(models: list[Path], tmp_path: Path, program: str) -> None:
    compiler = Compiler(tmp_path / "compiled", UNRACED, tools(program))
    eager = eager_engine(models[0])
    engine = engine_of(eager, compiler)
    for _ in range(2):
        assert np.array_equal(pixels(engine), pixels(eager))
        assert compiler.wait(60)
    assert all("rejected" in served(engine)[f"compile {part}"].detail for part in ALL)
    compiler.close()


def test_packed_networks_stay_eager_with_a_reason(models: list[Path], compiler: Compiler) -> None:
    eager = eager_engine(models[0])
    pack(eager.unet, None)
    engine = engine_of(eager, compiler, UNET)
    assert np.array_equal(pixels(engine), pixels(eager))
    assert "prepared for eager kernels" in served(engine)["compile unet"].detail
    assert compiler.compilations == 0


def test_a_wider_engine_is_compiled_for_its_own_type(models: list[Path], compiler: Compiler) -> None:
    engine = engine_of(eager_engine(models[0]), compiler, UNET)
    wider = engine.widen("unet", torch.float64)
    assert wider.precision.unet == torch.float64
    assert wider.compiler is compiler
    assert engine.precision.unet == torch.float32


def test_a_context_that_is_no_whole_number_of_chunks_stays_eager(models: list[Path], compiler: Compiler) -> None:
    eager = eager_engine(models[0])
    engine = engine_of(eager, compiler, UNET)
    contexts: list[Tensor] = list(eager.project_context(torch.randn(1, 50, eager.config.unet.context_width)))
    times = eager.project_times(torch.tensor([500.0]), None)[0]
    x = torch.randn(1, 4, 16, 16)
    assert torch.equal(engine.predict(x, times, contexts), eager.predict(x, times, contexts))
    assert compiler.wait(0)
    assert compiler.compilations == 0


def test_an_engine_of_the_next_checkpoint_uses_what_the_first_one_prepared(models: list[Path], tmp_path: Path) -> None:
    compiler = Compiler(tmp_path / "compiled", UNRACED, replace(tools(), load=load_eager))
    first = engine_of(eager_engine(models[0]), compiler)
    pixels(first)
    assert compiler.wait(60)
    other = eager_engine(models[1])
    engine = engine_of(other, compiler)
    assert np.abs(pixels(engine) - pixels(other)).max() <= 1
    assert {each.stage for each in (compiler.state(call, sizes) for call, sizes in asked(engine))} == {Stage.ADOPTED}
    assert compiler.compilations == 3
    compiler.close()


def asked(engine: CompiledEngine) -> list:
    """Every call that the engine's compiler knows, with the sizes that were asked for."""
    calls = {call.key: call for call in engine._calls.values() if not isinstance(call, str)}
    return [(calls[key], sizes) for key, sizes in engine.compiler._known if key in calls]
