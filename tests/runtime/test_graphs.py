"""Recorded steps.

The recorder here keeps CUDA's rules on the CPU: no Python in a replay, fixed addresses, no result before the first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hayate.models.config import Family
from hayate.models.unet import UNet
from hayate.runtime.graphs import WARM_UPS, CudaRecorder, GraphedStep, refusal
from tests.tiny_models import tiny_config

Given = tuple[Tensor, Tensor, list[Tensor]]


class Tape(TorchDispatchMode):
    """Every operator with the very tensors that it was given and gave."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple, dict, Any]] = []
        self.output = torch.empty(0)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, result))
        return result

    def replay(self) -> None:
        for func, args, kwargs, before in self.calls:
            for old, new in zip(tree_leaves(before), tree_leaves(func(*args, **kwargs)), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class FakeRecorder:
    def __init__(self) -> None:
        self.warm_ups = 0

    def warm_up(self, work: Callable[[], Tensor]) -> Tensor:
        self.warm_ups += 1
        return work()

    def record(self, work: Callable[[], Tensor]) -> Tape:
        tape = Tape()
        with tape:
            tape.output = work()
        tape.output.fill_(torch.nan)  # recording computes nothing
        return tape


class Counted:
    """A step that counts how often Python came by."""

    def __init__(self, unet: UNet) -> None:
        self.calls = 0
        self.unet = unet

    def __call__(self, x: Tensor, times: Tensor, contexts: Any) -> Tensor:
        self.calls += 1
        return self.unet.step(x, times, contexts)


@pytest.fixture(scope="module", autouse=True)
def without_gradients() -> Any:
    with torch.inference_mode():
        yield


@pytest.fixture
def unet() -> UNet:
    torch.manual_seed(1)
    with torch.inference_mode(mode=False):
        return UNet(tiny_config(Family.SD1).unet).eval().requires_grad_(requires_grad=False)


def given(unet: UNet, seed: int, size_lat: int = 8, batch: int = 2) -> Given:
    generator = torch.Generator().manual_seed(seed)
    width = max(block.times.stop for block in unet.res_blocks())
    x = torch.randn((batch, 4, size_lat, size_lat), generator=generator)
    contexts = [
        torch.randn((batch, 77, 2 * block.attn2.to_q.out_features), generator=generator)
        for block in unet.transformer_blocks()
    ]
    return x, torch.randn((batch, width), generator=generator), contexts


def test_replays_give_what_the_step_gives_and_run_no_python(unet: UNet) -> None:
    step = Counted(unet)
    graphed = GraphedStep(step, FakeRecorder())
    for seed in range(WARM_UPS + 4):
        inputs = given(unet, seed)
        assert torch.equal(graphed(*inputs), unet.step(*inputs))
    assert step.calls == WARM_UPS + 1
    assert (graphed.recordings, graphed.replays, graphed.eager_calls) == (1, 4, WARM_UPS)
    assert graphed.evidence().active


def test_a_result_is_not_overwritten_by_the_next(unet: UNet) -> None:
    graphed = GraphedStep(unet.step, FakeRecorder())
    results = [graphed(*given(unet, seed)) for seed in range(WARM_UPS + 3)]
    for seed, result in enumerate(results):
        assert torch.equal(result, unet.step(*given(unet, seed)))


def test_a_recording_outlives_a_checkpoint_that_is_poured_over(unet: UNet) -> None:
    step = Counted(unet)
    graphed = GraphedStep(step, FakeRecorder())
    inputs = given(unet, 0)
    for _ in range(WARM_UPS):
        graphed(*inputs)
    before = graphed(*inputs)
    with torch.inference_mode(mode=False), torch.no_grad():
        for parameter in unet.parameters():
            parameter.mul_(1.01)
    after = graphed(*inputs)
    assert not torch.equal(after, before)
    assert torch.equal(after, unet.step(*inputs))
    assert step.calls == WARM_UPS + 1


def test_shapes_are_kept_apart_and_bounded(unet: UNet) -> None:
    step = Counted(unet)
    graphed = GraphedStep(step, FakeRecorder(), most_shapes=2)
    small, large, double = (given(unet, 0, 8), given(unet, 1, 16), given(unet, 2, 8, batch=4))
    for _ in range(WARM_UPS + 1):
        for inputs in (small, large):
            assert torch.equal(graphed(*inputs), unet.step(*inputs))
    assert graphed.recordings == 2
    graphed(*small)  # so that `large` is the one that was not used for longest
    assert torch.equal(graphed(*double), unet.step(*double))
    python_calls = step.calls
    graphed(*small)
    assert step.calls == python_calls, "the shape that was used last was forgotten"
    graphed(*large)
    assert step.calls == python_calls + 1, "the shape that was not used for longest was kept"


def test_a_step_that_cannot_be_recorded_computes_as_usual(unet: UNet) -> None:
    class Refusing(FakeRecorder):
        attempts = 0

        def record(self, work: Callable[[], Tensor]) -> Tape:  # noqa: ARG002
            self.attempts += 1
            raise RuntimeError("operation not permitted when stream is capturing\nlong advice")

    recorder = Refusing()
    graphed = GraphedStep(unet.step, recorder)
    for seed in range(WARM_UPS + 3):
        inputs = given(unet, seed)
        assert torch.equal(graphed(*inputs), unet.step(*inputs))
    assert recorder.attempts == 1
    proof = graphed.evidence()
    assert not proof.active
    assert "operation not permitted" in proof.detail
    assert "advice" not in proof.detail


def test_a_bug_in_the_step_is_not_hidden(unet: UNet) -> None:
    class Broken(FakeRecorder):
        def record(self, work: Callable[[], Tensor]) -> Tape:  # noqa: ARG002
            raise TypeError("a bug")

    graphed = GraphedStep(unet.step, Broken())
    for _ in range(WARM_UPS):
        graphed(*given(unet, 0))
    with pytest.raises(TypeError):
        graphed(*given(unet, 0))


def test_clear_forgets_recordings(unet: UNet) -> None:
    recorder = FakeRecorder()
    graphed = GraphedStep(unet.step, recorder)
    inputs = given(unet, 0)
    for _ in range(WARM_UPS + 1):
        graphed(*inputs)
    graphed.clear()
    with torch.inference_mode(mode=False), torch.no_grad():
        for parameter in unet.parameters():
            parameter.data = 1.01 * parameter.data  # elsewhere, as a network that was built anew
    assert torch.equal(graphed(*inputs), unet.step(*inputs))
    assert recorder.warm_ups == WARM_UPS + 1


def test_refused_with_a_reason() -> None:
    cuda = torch.device("cuda")
    assert refusal(cuda) is None
    assert "CUDA device" in (refusal(torch.device("cpu")) or "")
    assert "address" in (refusal(cuda, is_offloaded=True) or "")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_real_graphs_give_what_the_step_gives(unet: UNet) -> None:
    device = torch.device("cuda")
    with torch.inference_mode(mode=False):
        unet = unet.to(device)
    step = Counted(unet)
    graphed = GraphedStep(step, CudaRecorder(device), most_shapes=2)
    for seed in range(3 * (WARM_UPS + 2)):
        x, times, contexts = given(unet, seed, 8 * (1 + seed % 3))
        inputs = (x.to(device), times.to(device), [each.to(device) for each in contexts])
        torch.testing.assert_close(graphed(*inputs), unet.step(*inputs), rtol=1e-5, atol=1e-5)
