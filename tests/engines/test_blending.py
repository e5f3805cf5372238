"""The kernel that mixes weights beside PyTorch: the same bits by every way, from and into every type; clean ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from hayate.engines import blending
from hayate.engines.blending import NativeBlender
from hayate.errors import BrokenFile
from hayate.models.config import Family
from hayate.runtime.native.kernels import kernels, refusal
from hayate.weights import merge_blend
from hayate.weights.merge import Merge, open_merge
from hayate.weights.merge_program import Blender
from hayate.weights.merge_recipe import parse_recipe
from tests.tiny_models import write_tiny

NAME = "model.diffusion_model.out.2.weight"
TYPES = (torch.float32, torch.float16, torch.bfloat16)
WAYS = (
    "merge(A, B, {0})",
    "add_difference(A, B, C, {0})",
    "add_difference(A, B, C, {0}, calc=trainDifference)",
    "triple_sum(A, B, C, {0}, {1})",
    "sum_twice(A, B, C, {0}, {1})",
    "scale(B, {0})",
    "add_difference(merge(A, B, {1}), triple_sum(C, A, B, {0}, 0.2), sum_twice(A, C, A, 0.7, {1}), {0})",
)
REASON = refusal()
needs_kernels = pytest.mark.skipif(REASON is not None, reason=f"no kernels here: {REASON}")


@contextmanager
def merging(text: str, folder: Path, blend: Blender) -> Iterator[Merge]:
    def find(name: str) -> Path:
        return folder / f"{name}.safetensors"

    with open_merge(parse_recipe(text), find, find, blend) as merge:
        yield merge


def write_models(folder: Path, tensors: Sequence[Tensor]) -> None:
    """A model for each tensor, which is the last convolution of the U-Net in it."""
    base = folder / "base.safetensors"
    if not base.exists():
        write_tiny(base, Family.SD1, dtype=torch.float16)
    small = load_file(base)
    for name, tensor in zip("ABC", tensors, strict=True):
        save_file({**small, NAME: tensor}, folder / f"{name}.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@needs_kernels
@given(
    text=st.sampled_from(WAYS),
    types=st.tuples(*[st.sampled_from(TYPES)] * 3),
    into=st.sampled_from(TYPES),
    channels=st.sampled_from([1, 3, 17, 300, 2000]),
    ratios=st.tuples(st.floats(-1, 2, width=32), st.floats(-1, 2, width=32)),
    scale=st.sampled_from([1e-6, 1.0, 3e4]),
)
@example(  # a NaN, of infinities in A, comes after a number that becomes infinite
    text=WAYS[0],
    types=(torch.float16, torch.float32, torch.float32),
    into=torch.float16,
    channels=300,
    ratios=(0.25, 0.0),
    scale=3e4,
)
@settings(deadline=None, max_examples=50)
def test_the_kernel_gives_pytorchs_bits(folder, text, types, into, channels, ratios, scale) -> None:  # noqa: PLR0917
    generator = torch.Generator().manual_seed(channels)
    tensors = [(scale * torch.randn(4, channels, 3, 3, generator=generator)).to(dtype) for dtype in types]
    write_models(folder, tensors)
    recipe = text.format(*ratios)
    results = []
    for blend in (NativeBlender(kernels().blend), merge_blend.blend):
        with merging(recipe, folder, blend) as merge:
            results.append((merge.get_all([NAME], into)[0].clone(), dict(merge.overflown)))
    (ours, our_count), (theirs, their_count) = results
    assert torch.equal(ours.nan_to_num(7.0), theirs.nan_to_num(7.0))
    assert our_count == their_count


@needs_kernels
@pytest.mark.parametrize("streamed_bytes", [0, 1 << 30])
def test_every_number_of_large_and_small_tensors_is_put_in_its_place(
    folder: Path, streamed_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks of many tensors at once, through the caches and past them."""
    monkeypatch.setattr(blending, "_STREAMED_BYTES", streamed_bytes)
    sizes = (1, 15, 16, 1023, 1025, 65_536, 65_537, 200_001)
    generator = torch.Generator().manual_seed(0)
    file = folder / "sizes.safetensors"
    write_models(folder, [torch.randn(4, 3, 3, 3, generator=generator).half()] * 3)
    extra = {f"model.size{size}": torch.randn(size, generator=generator).half() for size in sizes}
    save_file(load_file(folder / "A.safetensors") | extra, file)
    room = torch.full((sum(sizes) + 64 * len(sizes),), 7.0)
    for dtype in TYPES:
        memory = room.to(dtype)
        places, start = {}, 5
        for name, tensor in extra.items():
            places[name] = memory[start : start + len(tensor)]
            start += len(tensor) + 3
        with merging("scale(sizes, 0.5)", folder, NativeBlender(kernels().blend)) as merge:
            merge.fill(places.items())
        wanted = room.to(dtype)
        start = 5
        for tensor in extra.values():
            wanted[start : start + len(tensor)] = (tensor.float() * 0.5).to(dtype)
            start += len(tensor) + 3
        assert torch.equal(memory, wanted)


def test_what_the_kernel_does_not_know_is_pytorchs(folder: Path) -> None:
    numbers = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    write_models(folder, [numbers.to(torch.float8_e4m3fn), numbers.double(), numbers.half()])
    with merging("triple_sum(A, B, C, 0.3, 0.2)", folder, blending.blend) as merge:
        found = merge.get_all([NAME], torch.float32)[0]
    exact = 0.5 * numbers.to(torch.float8_e4m3fn).double() + 0.3 * numbers.double() + 0.2 * numbers.half().double()
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=1e-6)


@needs_kernels
def test_an_input_that_became_shorter_is_one_line_not_the_end_of_the_process(folder: Path) -> None:
    numbers = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0)).half()
    write_models(folder, [numbers] * 3)
    with merging("merge(A, B, 0.5)", folder, NativeBlender(kernels().blend)) as merge:
        file = folder / "B.safetensors"
        with file.open("r+b") as shortened:
            shortened.truncate(1000)
        with pytest.raises(BrokenFile, match="can't be read to its end") as caught:
            merge.get_all(merge.names, torch.float32)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("blend", [blending.blend, merge_blend.blend], ids=["here", "PyTorch"])
def test_numbers_that_become_infinite_are_counted_and_infinities_are_not(folder: Path, blend: Blender) -> None:
    large = torch.full((4, 3, 3, 3), 40_000.0)
    large[0, 0, 0, 0], large[0, 0, 0, 1], large[1] = float("inf"), float("nan"), 1.0
    write_models(folder, [large, large, large])
    with merging("add_difference(A, B, merge(C, C, 0), 1)", folder, blend) as merge:
        merge.get_all([NAME], torch.float16)
        assert merge.overflown == {}
    with merging("scale(A, 2)", folder, blend) as merge:
        merge.get_all([NAME], torch.float16)
        assert merge.overflown == {NAME: 4 * 27 - 27 - 2}
        merge.get_all([NAME], torch.bfloat16)
