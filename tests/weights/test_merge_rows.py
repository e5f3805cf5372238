"""Merges made some rows at a time are those made at once, inside of others too, and take the memory of some rows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hayate.weights import merge_methods as methods
from hayate.weights import merge_rows
from hayate.weights.detect import UNET_PREFIX
from hayate.weights.merge_smooth import smooth_add
from tests.weights.merges import QUERY, Run, arrays

KERNEL = UNET_PREFIX + "input_blocks.1.0.in_layers.2.weight"
NAMES = (KERNEL, QUERY, UNET_PREFIX + "input_blocks.1.0.in_layers.2.bias")


def ties(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return methods.ties(a, [b, c], 0.7, 0.3)


def dare(name: str, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    masks = [methods.kept_at_random(a.shape, 0.6, methods.generator_for(5, name, number)) for number in range(2)]
    return methods.dare(a, [b, c], 0.7, 0.6, masks)


WAYS = {
    "merge(A, B, 0.3, calc=tensor, beta=0.2)": lambda name, a, b, c: methods.tensor_rows(a, b, 0.3, 0.2),
    "merge(A, B, 0.6, calc=tensor, beta=0.7)": lambda name, a, b, c: methods.tensor_rows(a, b, 0.6, 0.7),
    "merge(A, B, 0.6, calc=tensor2, beta=0.1)": lambda name, a, b, c: methods.tensor_columns(a, b, 0.6, 0.1),
    "ties(A, B, C, 0.7, keep=0.3)": lambda name, a, b, c: ties(a, b, c),
    "dare(A, B, C, 0.7, drop=0.6, seed=5)": dare,
    "slerp(A, B, 0.3)": lambda name, a, b, c: methods.slerp(a, b, 0.3),
    "add_difference(A, B, C, 0.3, calc=extract, beta=0.2)": lambda name, a, b, c: methods.extract(
        a, b, c, 0.3, beta=0.2, gamma=1.0
    ),
    "add_difference(A, B, C, 0.3, calc=smoothAdd)": lambda name, a, b, c: smooth_add(a, b, c, 0.3),
    "slerp(dare(A, B, C, 0.7, drop=0.6, seed=5), ties(A, B, C, 0.7, keep=0.3), 0.4)": lambda name, a, b, c: (
        methods.slerp(dare(name, a, b, c), ties(a, b, c), 0.4)
    ),
    "merge(slerp(A, B, 0.3), merge(A, B, 0.3, calc=tensor), 0.2)": lambda name, a, b, c: methods.weighted_sum(
        methods.slerp(a, b, 0.3), methods.tensor_rows(a, b, 0.3, 0.0), 0.2
    ),
}


@pytest.mark.parametrize("text", WAYS)
@pytest.mark.parametrize("window", [1, 300, 1 << 20])
def test_some_rows_at_a_time_are_the_whole(
    three: Path, merged: Run, monkeypatch: pytest.MonkeyPatch, text: str, window: int
) -> None:
    monkeypatch.setattr(merge_rows, "WINDOW", window)
    models = arrays(three, "A", "B", "C")
    result = merged(text, names=NAMES, dtype=torch.float32)
    for name in NAMES:
        wanted = WAYS[text](name, *(torch.from_numpy(model[name]).float() for model in models))
        torch.testing.assert_close(result[name], wanted, rtol=0, atol=1e-6, msg=f"{text}: {name}")


@pytest.mark.parametrize("calc", ["cosineA", "cosineB"])
def test_a_cosine_merge_measures_all_rows(merged: Run, monkeypatch: pytest.MonkeyPatch, calc: str) -> None:
    text = f"merge(A, B, 0.2, calc={calc})"
    wanted = merged(text, dtype=torch.float32)
    monkeypatch.setattr(merge_rows, "WINDOW", 200)
    for name, tensor in merged(text, dtype=torch.float32).items():
        torch.testing.assert_close(tensor, wanted[name], rtol=0, atol=1e-6)


@given(st.lists(st.integers(-40, 40), min_size=1, max_size=60), st.floats(0, 1), st.integers(1, 20))
@settings(deadline=None, max_examples=60)
def test_the_size_to_keep_from_is_found_among_equal_and_other_numbers(
    numbers: list[int], keep: float, length: int
) -> None:
    values = torch.tensor(numbers) * 1.1e-3
    least = methods.kept_from(lambda: values.split(length), keep)
    kept = max(1, round(keep * len(numbers)))
    ordered = sorted(values.abs().tolist(), reverse=True)
    if kept == len(numbers):
        assert least < 0
    else:
        assert least == ordered[kept]  # the largest of those that go
    assert int((values.abs() > least).sum()) <= kept
