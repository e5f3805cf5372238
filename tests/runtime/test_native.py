"""The compiled kernels against float64, and what happens where they can't be had."""

from __future__ import annotations

import stat

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given
from hypothesis import strategies as st

from hayate.runtime.native import build as building
from hayate.runtime.native.build import KernelsUnavailable, build
from hayate.runtime.native.kernels import Kernels, kernels, refusal

REASON = refusal()
needs_kernels = pytest.mark.skipif(REASON is not None, reason=f"no kernels here: {REASON}")
DTYPES = st.sampled_from([torch.float32, torch.bfloat16])


def error(actual: torch.Tensor, exact: torch.Tensor) -> float:
    return float((actual.double() - exact).norm() / exact.norm())


@needs_kernels
@example(dtype=torch.bfloat16, batch=1, heads=3, queries=1, keys=392, width=2, seed=2)
@example(dtype=torch.float32, batch=1, heads=1, queries=1, keys=361, width=2, seed=1)
@given(
    dtype=DTYPES,
    batch=st.integers(1, 3),
    heads=st.integers(1, 5),
    queries=st.integers(1, 300),
    keys=st.integers(1, 600),
    width=st.sampled_from([2, 24, 40, 64, 80, 96, 160, 512]),
    seed=st.integers(0, 1000),
)
def test_attention_is_the_formula(dtype, batch, heads, queries, keys, width, seed):  # noqa: PLR0917
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (
        torch.randn((batch, length, heads, width), generator=generator).to(dtype).transpose(1, 2)
        for length in (queries, keys, keys)
    )
    weights = (q.double() @ k.double().mT * width**-0.5).softmax(-1)
    exact, ours = weights @ v.double(), kernels().attention(q, k, v)
    magnitudes = weights @ v.double().abs()  # what is summed; the sum itself may be as near to zero as it likes
    if dtype == torch.float32:
        assert bool(((ours.double() - exact).abs() <= 2e-6 * magnitudes).all())
        return
    # Each weight is rounded to bf16 once, and the result once: half a unit in the last of eight bits for each.
    bound = 1.1 * 2.0**-8 * (magnitudes + exact.abs())
    assert bool(((ours.double() - exact).abs() <= bound).all())


@needs_kernels
@pytest.mark.parametrize(("length", "width"), [(4096, 40), (1024, 80), (256, 160)])
def test_attention_in_bf16_is_as_near_as_pytorch_s(length, width):
    q, k, v = torch.randn(3, 1, 2, length, width, generator=torch.Generator().manual_seed(0)).bfloat16()
    exact = F.scaled_dot_product_attention(q.double(), k.double(), v.double())
    theirs = error(F.scaled_dot_product_attention(q, k, v), exact)
    assert error(kernels().attention(q, k, v), exact) <= 1.1 * theirs


@needs_kernels
def test_attention_reads_projections_that_stand_side_by_side():
    q, k, v = (part.unflatten(-1, (8, 40)).transpose(1, 2) for part in torch.randn(2, 100, 960).chunk(3, dim=-1))
    exact = (q.double() @ k.double().mT * 40**-0.5).softmax(-1) @ v.double()
    assert error(kernels().attention(q, k, v), exact) < 1e-6


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [1e3, 1e18])
def test_huge_scores_stay_finite_and_pick_the_largest(dtype, size):
    q = torch.full((1, 1, 7, 16), size).to(dtype)
    k = torch.randn(1, 1, 200, 16).to(dtype)
    k[0, 0, 123] = 4.0
    v = torch.randn(1, 1, 200, 16).to(dtype)
    torch.testing.assert_close(kernels().attention(q, k, v), v[:, :, 123:124].expand_as(q))


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_not_a_number_stays_visible(dtype):
    q, k, v = torch.randn(3, 1, 1, 20, 16).to(dtype)
    q[0, 0, 7, 1] = v[0, 0, 3, 2] = float("nan")
    out = kernels().attention(q, k, v)
    assert out[..., 2].isnan().all()
    assert out[0, 0, 7].isnan().all()
    x = torch.ones(1, 4, 3, 3, dtype=dtype).contiguous(memory_format=torch.channels_last)
    x[0, 2, 1, 1] = float("nan")
    affine = (torch.ones(4, dtype=dtype), torch.zeros(4, dtype=dtype))
    normed = kernels().group_norm(x, 2, affine, eps=1e-5, is_activated=True, shift=None)
    assert normed[0, 2:].isnan().all()
    assert normed[0, :2].isfinite().all()
    assert kernels().geglu(torch.tensor([[1.0, float("nan")]], dtype=dtype)).isnan().all()


@needs_kernels
def test_the_number_of_threads_changes_no_bit():
    q, k, v = (torch.randn(2, 4, length, 40).bfloat16() for length in (333, 200, 200))
    found = []
    before = torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(kernels().attention(q, k, v))
    torch.set_num_threads(before)
    assert all(torch.equal(each, found[0]) for each in found)


@needs_kernels
@given(dtype=DTYPES, rows=st.integers(1, 40), width=st.integers(1, 70), scale=st.sampled_from([0.1, 1.0, 10.0, 100.0]))
def test_geglu_is_the_formula(dtype, rows, width, scale):
    x = (scale * torch.randn(rows, 2 * width)).to(dtype)
    value, gate = x.double().chunk(2, dim=-1)
    exact = value * F.gelu(gate)
    bound = 1e-6 if dtype == torch.float32 else 2.0**-8
    assert (
        float((kernels().geglu(x).double() - exact).abs().max()) <= bound * float(exact.abs().max()) + 1e-6 * scale**2
    )


@needs_kernels
@given(
    dtype=DTYPES,
    batch=st.integers(1, 3),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    groups=st.sampled_from([1, 2, 4]),
    members=st.integers(2, 20),
    is_activated=st.booleans(),
    shifts=st.sampled_from([0, 1, 3]),
    offset=st.sampled_from([0.0, 100.0]),
    seed=st.integers(0, 2**31),
)
def test_group_norm_is_the_formula(  # noqa: PLR0917
    dtype, batch, size, groups, members, is_activated, shifts, offset, seed
):
    torch.manual_seed(seed)
    channels = groups * members
    x = (offset + torch.randn(batch, channels, *size)).to(dtype).contiguous(memory_format=torch.channels_last)
    weight, bias = (1 + torch.randn(channels)).to(dtype), torch.randn(channels).to(dtype)
    shift = None if not shifts else torch.randn(batch if shifts > 1 else 1, channels).to(dtype)
    added = x.double() if shift is None else x.double() + shift.double()[:, :, None, None]
    exact = F.group_norm(added, groups, weight.double(), bias.double(), 1e-5)
    exact = F.silu(exact) if is_activated else exact
    actual = kernels().group_norm(x, groups, (weight, bias), eps=1e-5, is_activated=is_activated, shift=shift)
    bound = 1e-5 if dtype == torch.float32 else 2.0**-7
    largest = 1 + float(exact.abs().max())
    # The sum with the shift is rounded in fp32, which a group of nearly equal numbers divides by its small deviation.
    deviation = (added.reshape(batch, groups, -1).var(dim=2, unbiased=False) + 1e-5).sqrt().min()
    rounding = 2.0**-21 * float(added.abs().max() / deviation) * float(1 + weight.double().abs().max()) * largest
    assert float((actual.double() - exact).abs().max()) <= bound * largest + rounding


def test_a_cpu_without_the_instructions_is_told_so(monkeypatch, tmp_path):
    facts = tmp_path / "cpuinfo"
    facts.write_text("processor : 0\nflags : fpu sse avx2 avx512f\n")
    monkeypatch.setattr(building, "_CPU_FACTS", facts)
    with pytest.raises(KernelsUnavailable, match="avx512bw, avx512vl, avx512_bf16"):
        build(tmp_path)


@needs_kernels
class TestCompilers:
    def test_none(self, monkeypatch, tmp_path):
        monkeypatch.delenv("CXX", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(KernelsUnavailable, match=r"no C\+\+ compiler"):
            build(tmp_path)

    def test_one_that_fails(self, monkeypatch, tmp_path):
        monkeypatch.setenv("CXX", script(tmp_path, 'echo "x.cpp:1: error: out of ideas" >&2; exit 1'))
        with pytest.raises(KernelsUnavailable, match="out of ideas"):
            build(tmp_path)
        assert not list(tmp_path.glob("*.so"))

    def test_one_that_hangs(self, monkeypatch, tmp_path):
        monkeypatch.setattr(building, "LIMIT_S", 0.2)
        monkeypatch.setenv("CXX", script(tmp_path, "exec sleep 20"))
        with pytest.raises(KernelsUnavailable, match="timed out"):
            build(tmp_path)

    def test_one_that_writes_no_library(self, monkeypatch, tmp_path):
        monkeypatch.setenv("CXX", script(tmp_path, 'for last; do :; done; echo rubbish > "$last"'))
        with pytest.raises(KernelsUnavailable, match="can't be loaded"):
            build(tmp_path)
        assert not list(tmp_path.glob("*.so"))

    def test_the_second_start_compiles_nothing(self, monkeypatch, tmp_path):
        build(tmp_path)
        monkeypatch.setattr(building, "_compile", lambda *_: pytest.fail("compiled again"))
        build(tmp_path)


@needs_kernels
def test_kernels_that_compute_something_else_are_not_trusted(monkeypatch, tmp_path):
    from hayate.runtime.native import kernels as module

    monkeypatch.setattr(Kernels, "attention", lambda self, q, k, v: 1.02 * F.scaled_dot_product_attention(q, k, v))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    module._prepared.cache_clear()
    assert "disagrees" in (refusal() or "")
    module._prepared.cache_clear()


def script(folder, line: str) -> str:
    path = folder / "compiler"
    path.write_text(f'#!/bin/sh\n[ "$1" = --version ] && exit\n{line}\n')
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    return str(path)
