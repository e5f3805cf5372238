"""Steps are prepared in the background, checked against eager, and adopted; whatever fails leaves eager serving."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

from hayate.models.clip import text_encoder
from hayate.models.config import Family
from hayate.runtime.compile import workshop
from hayate.runtime.compile.call import BoundCall
from hayate.runtime.compile.child import Limits
from hayate.runtime.compile.compiler import Compiler
from hayate.runtime.compile.loaded import Loaded
from hayate.runtime.compile.spec import CompileRefused, Mode, Sizes
from hayate.runtime.compile.state import Stage
from hayate.runtime.compile.toolchain import toolchain_refusal
from hayate.runtime.compile.trace import random_inputs
from hayate.runtime.compile.verify import TOLERANCES, disagreement, race
from hayate.runtime.compile.workshop import CompileOptions, Tools
from hayate.runtime.fused import fuse_projections
from hayate.runtime.packed import pack
from tests.runtime.compile_fakes import GOOD, UNRACED, bound, outputs_of, tiny_unet, tools
from tests.tiny_models import tiny_config

SIZES = Sizes(2, 16, 8)
Compilers = Callable[..., Compiler]


@pytest.fixture
def compiler(tmp_path: Path) -> Iterator[Compilers]:
    """Makes compilers that share a cache folder, and closes them."""
    made: list[Compiler] = []

    def make(tools_: Tools | None = None, options: CompileOptions = UNRACED) -> Compiler:
        made.append(Compiler(tmp_path / "compiled", options, tools_ or tools()))
        return made[-1]

    yield make
    for each in made:
        each.close()


def prepared(tested: Compiler, call: BoundCall, sizes: Sizes = SIZES) -> None:
    assert tested.step_for(call, sizes) is None, "the first step is never made to wait"
    assert tested.wait(60)


def told(tested: Compiler) -> str:
    """The evidence for the U-Net, which must not claim that anything acted."""
    found = next(each for each in tested.evidence() if each.name == "compile unet")
    assert not found.active
    return found.detail


def test_a_step_is_adopted_and_gives_what_eager_gives(compiler: Compilers) -> None:
    tested, call = compiler(), bound()
    assert tested.state(call, SIZES).stage is Stage.OFF
    prepared(tested, call)
    state = tested.state(call, SIZES)
    assert (state.stage, state.is_from_disk) == (Stage.ADOPTED, False)
    assert state.ready_s is not None
    step = tested.step_for(call, SIZES)
    assert step is not None
    inputs = random_inputs(call.target, call.network, SIZES)
    torch.testing.assert_close(outputs_of(step, inputs), outputs_of(call.eager, inputs))
    assert [each.active for each in tested.evidence()] == [True, True]


def test_asking_returns_at_once_while_the_compiler_works(compiler: Compilers) -> None:
    tested, call = compiler(tools("import time; time.sleep(600)")), bound()
    for _ in range(50):
        assert tested.step_for(call, SIZES) is None
    assert not tested.wait(0.2)
    assert tested.state(call, SIZES).stage in (Stage.WAITING, Stage.COMPILING)
    tested.close()
    assert tested.compilations <= 1
    assert "stopped" in tested.state(call, SIZES).reason or tested.state(call, SIZES).stage is Stage.WAITING


def test_another_checkpoint_another_size_and_the_next_start_compile_nothing(compiler: Compilers) -> None:
    tested, first = compiler(), bound(0)
    prepared(tested, first)
    second = bound(1)
    for sizes in (SIZES, Sizes(1, 32, 32), Sizes(2, 16, 24, 3)):
        step = tested.step_for(second, sizes)
        assert step is not None
        inputs = random_inputs(second.target, second.network, sizes)
        torch.testing.assert_close(outputs_of(step, inputs), outputs_of(second.eager, inputs))
    assert tested.compilations == 1
    started_again = compiler(tools("raise SystemExit('must not be started')"))
    prepared(started_again, second)
    assert started_again.state(second, SIZES).is_from_disk
    assert started_again.step_for(second, SIZES) is not None
    assert started_again.compilations == 0


def test_each_new_bucket_compiles_once(compiler: Compilers) -> None:
    tested, call = compiler(), bound()
    for sizes in (Sizes(2, 8, 8), Sizes(3, 8, 8), Sizes(1, 8, 72), Sizes(1, 8, 16), Sizes(4, 8, 12), Sizes(2, 8, 80)):
        tested.step_for(call, sizes)
        assert tested.wait(60)
    assert tested.compilations == 3


def test_weights_that_are_poured_in_serve_at_once(compiler: Compilers) -> None:
    tested, call, other = compiler(), bound(0), bound(1)
    prepared(tested, call)
    for mine, theirs in zip(call.parameters, other.parameters, strict=True):
        mine.copy_(theirs)
    step = tested.step_for(call, SIZES)
    assert step is not None
    inputs = random_inputs(call.target, call.network, SIZES)
    assert torch.equal(outputs_of(step, inputs), outputs_of(other.eager, inputs))


def test_inputs_reach_compiled_code_in_the_order_and_type_that_it_reads() -> None:
    call, seen = bound(), list[Tensor]()

    def loaded(tensors: list[Tensor]) -> list[Tensor]:
        seen.extend(tensors[len(call.parameters) :])
        return [tensors[-1]]

    inputs = random_inputs(call.target, call.network, SIZES)
    odd = [inputs[0].double().to(memory_format=torch.channels_last), inputs[1][:1].expand(2, -1), *inputs[2:]]
    call.compiled(loaded, odd)
    assert all(each.is_contiguous() and each.dtype == torch.float32 for each in seen)
    torch.testing.assert_close(seen[0], inputs[0])


@pytest.mark.parametrize(
    ("program", "limits", "words"),
    [
        ("raise RuntimeError('CppCompileError: no space left')", Limits(), "CppCompileError: no space left"),
        ("import time; time.sleep(600)", Limits(time_s=0.5), "longer than its limit"),
        ("import time; a = b'x' * (300 << 20); time.sleep(600)", Limits(memory_bytes=100 << 20), "more memory"),
        ("pass", Limits(), "no whole package"),
        (f"{GOOD}; b = open(sys.argv[2], 'rb').read(); open(sys.argv[2], 'wb').write(b[:99])", Limits(), "no whole"),
    ],
    ids=["exits", "hangs", "eats memory", "writes nothing", "truncates"],
)
def test_a_compiler_that_fails_leaves_eager_serving(
    compiler: Compilers, tmp_path: Path, program: str, limits: Limits, words: str
) -> None:
    tested, call = compiler(tools(program), replace(UNRACED, limits=limits)), bound()
    prepared(tested, call)
    assert tested.step_for(call, SIZES) is None
    assert tested.state(call, SIZES).stage is Stage.REJECTED
    assert words in told(tested)
    tested.wait(5)
    assert tested.compilations == 1, "what failed is not tried again by this process"
    assert not list((tmp_path / "compiled").iterdir()), "nothing is left behind"


LIES: dict[str, Callable[[list[Tensor]], list[Tensor]]] = {
    "one value": lambda outputs: [outputs[0].index_put((torch.tensor(0),) * 4, torch.tensor(9.0))],
    "a thousandth": lambda outputs: [outputs[0] * 1.001],
    "NaN": lambda outputs: [outputs[0].index_put((torch.tensor(0),) * 4, torch.tensor(torch.nan))],
    "zeros": lambda outputs: [torch.zeros_like(outputs[0])],
    "another shape": lambda outputs: [outputs[0][:, :2]],
    "nothing": lambda outputs: [],
}


@pytest.mark.parametrize("lie", LIES)
def test_a_compiler_that_lies_is_not_believed(compiler: Compilers, tmp_path: Path, lie: str) -> None:
    tested, call = compiler(tools(spoil=LIES[lie])), bound()
    prepared(tested, call)
    assert tested.step_for(call, SIZES) is None
    assert "the compiled step is wrong" in told(tested)
    assert not list((tmp_path / "compiled").iterdir()), "the next start must not find it"


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_rounding_is_no_lie(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    exact = torch.randn(100_000, generator=generator)
    rounded = exact.to(dtype)
    again = (rounded.float() * (1 + torch.finfo(dtype).eps * torch.randn(100_000, generator=generator))).to(dtype)
    assert disagreement([again], [rounded], dtype) is None


def test_a_step_that_fails_to_load_is_rejected_and_deleted(compiler: Compilers, tmp_path: Path) -> None:
    load: Callable[[Path, torch.device], Loaded] = Mock(side_effect=OSError("undefined symbol"))
    tested, call = compiler(replace(tools(), load=load)), bound()
    prepared(tested, call)
    assert "could not be loaded: undefined symbol" in told(tested)
    assert not list((tmp_path / "compiled").iterdir())


def test_running_out_of_memory_while_checking_is_a_reason_and_keeps_the_package(
    compiler: Compilers, tmp_path: Path
) -> None:
    tested, call = compiler(tools(spoil=Mock(side_effect=torch.OutOfMemoryError("planted")))), bound()
    prepared(tested, call)
    assert "OutOfMemoryError: planted" in told(tested)
    assert len(list((tmp_path / "compiled").iterdir())) == 2


@pytest.mark.parametrize(("speedup", "stage"), [(1.3, Stage.ADOPTED), (0.9, Stage.REJECTED)])
def test_only_what_is_faster_here_is_adopted(
    compiler: Compilers, monkeypatch: pytest.MonkeyPatch, speedup: float, stage: Stage
) -> None:
    races: list[float] = []
    monkeypatch.setattr(workshop, "race", lambda *given: races.append(speedup) or speedup)
    raced, call = CompileOptions(), bound()
    for starts in (1, 2):
        tested = compiler(options=raced)
        prepared(tested, call)
        state = tested.state(call, SIZES)
        assert (state.stage, state.speedup) == (stage, speedup)
        assert ("no faster" in state.reason) == (stage is Stage.REJECTED)
        assert len(races) == (1 if stage is Stage.ADOPTED else starts), "a won race is not run again"


def test_a_race_is_decided_by_the_medians_of_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, order = [0.0], ""
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    costs = {"compiled": iter([9.0, 1.0, 1.0]), "eager": iter([3.0, 3.0, 1000.0])}

    def step(name: str) -> Callable[..., list[Tensor]]:
        def run(inputs: object) -> list[Tensor]:
            nonlocal order
            del inputs
            order += name[0]
            clock[0] += next(costs[name])
            return []

        return run

    assert race(step("compiled"), step("eager"), [], torch.device("cpu")) == 3.0
    assert order == "cecece"


def test_a_package_that_changed_on_the_disk_is_discarded_and_compiled_anew(compiler: Compilers, tmp_path: Path) -> None:
    call = bound()
    prepared(compiler(), call)
    (package,) = (tmp_path / "compiled").glob("*.pt2")
    package.write_bytes(package.read_bytes()[:-1])
    tested = compiler()
    prepared(tested, call)
    assert tested.compilations == 1
    assert tested.state(call, SIZES).stage is Stage.ADOPTED
    assert any("discarded" in each.detail for each in tested.evidence())


def test_a_model_that_is_given_up_is_not_kept_in_memory_for_the_compiler(compiler: Compilers, tmp_path: Path) -> None:
    gate = tmp_path / "go"
    held = f"import pathlib, time\nwhile not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.05)\n{GOOD}"
    tested, call, again = compiler(tools(held)), bound(0), bound(1)
    assert tested.step_for(call, SIZES) is None
    gone = weakref.ref(call.network)
    del call
    gc.collect()
    assert gone() is None
    gate.touch()
    assert tested.wait(60)
    assert tested.state(again, SIZES).stage is Stage.WAITING, "nobody was left to check it with"
    prepared(tested, again)
    assert tested.step_for(again, SIZES) is not None
    assert tested.compilations == 1


def test_a_step_that_is_withdrawn_serves_nobody_any_more(compiler: Compilers) -> None:
    tested, call = compiler(), bound()
    prepared(tested, call)
    step = tested.step_for(call, SIZES)
    assert step is not None
    tested.withdraw(step, "it failed at work: planted")
    assert tested.step_for(call, SIZES) is None
    assert "planted" in told(tested)
    assert tested.wait(0)


def test_off_means_off(compiler: Compilers) -> None:
    tested, call = compiler(options=CompileOptions(mode=Mode.OFF)), bound()
    assert tested.step_for(call, SIZES) is None
    assert tested.wait(0)
    assert tested.compilations == 0
    assert [each.active for each in tested.evidence()] == [False]


def test_a_size_without_a_bucket_and_a_machine_without_a_compiler_are_reasons(compiler: Compilers) -> None:
    call = bound()
    tested = compiler()
    assert tested.step_for(call, Sizes(2, 17, 16)) is None
    assert "multiples of" in told(tested)
    bare = compiler(tools(refusal="no C++ compiler was found"))
    prepared(bare, call)
    assert "no C++ compiler" in told(bare)
    assert tested.compilations == bare.compilations == 0


def test_a_machine_without_a_compiler_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert "no C++ compiler" in (toolchain_refusal(torch.device("cpu")) or "")
    assert "mps" in (toolchain_refusal(torch.device("mps")) or "")


def test_networks_whose_weights_are_no_plain_parameters_are_refused() -> None:
    packed = tiny_unet()
    pack(packed, None)
    with pytest.raises(CompileRefused, match="can't be handed to compiled code"):
        BoundCall("unet", packed)
    mixed = tiny_unet()
    mixed.out[2].to(torch.bfloat16)
    with pytest.raises(CompileRefused, match="unlike others"):
        BoundCall("unet", mixed)
    turned = tiny_unet()
    weight = turned.out[2].weight
    weight.data = weight.data.to(memory_format=torch.channels_last)
    with pytest.raises(CompileRefused, match="another memory order"):
        BoundCall("unet", turned)


def test_fused_and_channels_last_networks_are_targets_of_their_own() -> None:
    plain, fused, turned = bound(), tiny_unet(), tiny_unet().to(memory_format=torch.channels_last)
    fuse_projections(fused)
    keys = {plain.key, BoundCall("unet", fused).key, BoundCall("unet", turned).key}
    assert len(keys) == 3


def test_two_threads_that_ask_for_the_same_step_start_one_compiler(compiler: Compilers) -> None:
    tested, call = compiler(), bound()
    threads = [threading.Thread(target=lambda: tested.step_for(call, SIZES)) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert tested.wait(60)
    assert tested.compilations == 1


def test_a_text_encoder_s_skip_is_part_of_what_is_compiled() -> None:
    config = tiny_config(Family.SD1).text[0]
    network = text_encoder(config).requires_grad_(False)
    assert BoundCall("text", network).key == BoundCall("text", network, config.skip).key
    assert BoundCall("text", network).key != BoundCall("text", network, 2).key
