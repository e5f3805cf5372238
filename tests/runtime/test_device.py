"""Devices and precisions: what is chosen, why, and how a wrong one is refused."""

from __future__ import annotations

import pytest
import torch

from hayate.errors import UnknownName, UsageError
from hayate.runtime.device import resolve_device
from hayate.runtime.precision import dtype_name, resolve_precision

CPU = torch.device("cpu")


def test_a_machine_without_cards_computes_on_its_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for asked in (None, "auto"):
        assert resolve_device(asked).torch == CPU


def test_the_second_card_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "card")
    assert resolve_device("cuda:1").torch == torch.device("cuda", 1)
    with pytest.raises(UsageError, match=r"2 CUDA devices|without CUDA"):
        resolve_device("cuda:2")


@pytest.mark.parametrize("asked", ["gpu", "cuda:x", "cuda:", "cud", "tpu:0", "cpu:", "cuda:-1"])
def test_what_is_no_device_is_refused(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "card")
    with pytest.raises(UsageError):
        resolve_device(asked)


def test_auto_precision_keeps_the_vae_out_of_fp16() -> None:
    on_cpu = resolve_precision(None, CPU)
    assert {on_cpu.unet, on_cpu.text, on_cpu.vae} == {torch.float32}
    on_card = resolve_precision("auto", torch.device("mps"))
    assert (on_card.unet, on_card.vae) == (torch.float16, torch.float32)


@pytest.mark.parametrize(
    ("name", "dtype"), [("fp32", torch.float32), ("fp16", torch.float16), ("bf16", torch.bfloat16)]
)
def test_an_asked_precision_is_used_everywhere(name: str, dtype: torch.dtype) -> None:
    precision = resolve_precision(name, CPU)
    assert {precision.unet, precision.text, precision.vae} == {dtype}
    assert dtype_name(dtype) == name


def test_an_unknown_precision_names_the_nearest() -> None:
    with pytest.raises(UnknownName) as caught:
        resolve_precision("f16", CPU)
    assert "fp16" in caught.value.nearest
