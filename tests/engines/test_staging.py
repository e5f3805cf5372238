"""Weights side by side on the host, poured in place."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import Tensor, nn

from hayate.engines.staging import pour_staged, stage
from hayate.errors import TensorMismatch
from hayate.models.config import SD1
from hayate.runtime import page_lock
from hayate.weights.load import pour

CPU = torch.device("cpu")


def networks(seed: int) -> list[nn.Module]:
    """Parameters of several dtypes, sizes off every alignment, channels-last, and one of no width."""
    torch.manual_seed(seed)
    image = nn.Conv2d(5, 7, 3).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    other = nn.Module()
    other.register_parameter("half_numbers", nn.Parameter(torch.randn(3, 5).half(), requires_grad=False))
    other.register_parameter("none_numbers", nn.Parameter(torch.empty(4, 0), requires_grad=False))
    other.register_parameter("wide_numbers", nn.Parameter(torch.randn(11, dtype=torch.float64), requires_grad=False))
    return [image.requires_grad_(False), other]


def parameters(modules: list[nn.Module]) -> list[Tensor]:
    return [parameter for module in modules for parameter in module.parameters()]


@pytest.mark.parametrize("is_kept", [True, False])
def test_what_is_poured_is_what_was_staged_and_addresses_stay(is_kept: bool) -> None:
    source, standing = networks(1), networks(2)
    addresses = [parameter.data_ptr() for parameter in parameters(standing)]
    before = [parameter.clone() for parameter in parameters(source)]
    staged = stage(source, SD1, is_kept=is_kept)
    if is_kept:  # a copy: what becomes of the source is no matter
        for parameter in parameters(source):
            parameter.zero_()
    poured = pour_staged(standing, staged, CPU)
    for is_now, was in zip(parameters(standing), before, strict=True):
        assert torch.equal(is_now, was)
    assert [parameter.data_ptr() for parameter in parameters(standing)] == addresses
    assert poured.size_bytes == sum(parameter.nbytes for parameter in before)


def test_kept_weights_are_one_block_in_the_strides_of_the_networks() -> None:
    modules = networks(1)
    staged = stage(modules, SD1, is_kept=True)
    assert len({tensor.untyped_storage().data_ptr() for tensor in staged.tensors}) == 1
    for tensor, parameter in zip(staged.tensors, parameters(modules), strict=True):
        assert (tensor.dtype, tensor.stride()) == (parameter.dtype, parameter.stride())
        assert (tensor.storage_offset() * tensor.element_size()) % 64 == 0
    exact = sum(parameter.nbytes for parameter in parameters(modules))
    assert exact <= staged.size_bytes < exact + 64 * len(staged.tensors)


@pytest.mark.parametrize("spoil", [lambda tensors: tensors[:-1], lambda tensors: [*tensors[:-1], torch.zeros(12)]])
def test_weights_of_another_architecture_change_nothing(spoil) -> None:
    standing = networks(2)
    before = [parameter.clone() for parameter in parameters(standing)]
    with pytest.raises(TensorMismatch, match="architecture that stands"):
        pour(standing, spoil(parameters(networks(1))))
    assert all(torch.equal(now, was) for now, was in zip(parameters(standing), before, strict=True))


class FakeCudart:
    """Counts which addresses are page-locked."""

    def __init__(self, code: int = 0) -> None:
        self.code = code
        self.locked: dict[int, int] = {}

    def cudaHostRegister(self, address: int, size_bytes: int, flags: int) -> int:  # noqa: N802
        assert flags == 0
        if not self.code:
            self.locked[address] = size_bytes
        return self.code

    def cudaHostUnregister(self, address: int) -> None:  # noqa: N802
        del self.locked[address]


def test_pages_are_locked_while_they_are_kept_and_unlocked_at_once(monkeypatch) -> None:
    cudart = FakeCudart()
    monkeypatch.setattr(page_lock, "cudart", lambda: cudart)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    staged = stage(networks(1), SD1, is_kept=True)
    assert staged.is_pinned
    assert cudart.locked == {staged.tensors[0].untyped_storage().data_ptr(): staged.size_bytes}
    assert not stage(networks(1), SD1, is_kept=False).is_pinned
    block = weakref.ref(staged.tensors[0])
    gc.disable()
    try:
        del staged
        assert cudart.locked == {}
        assert block() is None
    finally:
        gc.enable()


def test_memory_that_cant_be_locked_serves_too_and_is_said_to(monkeypatch, caplog) -> None:
    cudart = FakeCudart(code=2)
    monkeypatch.setattr(page_lock, "cudart", lambda: cudart)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    staged = stage(networks(1), SD1, is_kept=True)
    assert not staged.is_pinned
    assert "can't be page-locked" in caplog.text
    standing = networks(2)
    assert not pour_staged(standing, staged, CPU).is_pinned
    assert torch.equal(parameters(standing)[0], parameters(networks(1))[0])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_memory_is_pinned_and_the_numbers_arrive() -> None:
    device = torch.device("cuda")
    staged = stage(networks(1), SD1, is_kept=True)
    assert staged.is_pinned
    assert staged.tensors[0].is_pinned()
    standing = [module.to(device) for module in networks(2)]
    pour_staged(standing, staged, device)
    for is_now, was in zip(parameters(standing), parameters(networks(1)), strict=True):
        assert torch.equal(is_now.cpu(), was)
