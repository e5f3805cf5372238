"""The attention backends against the formula in float64, and the memory that they take for it."""

from __future__ import annotations

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hayate.models.layers import merge_heads
from hayate.runtime.attention import sdp
from hayate.runtime.attention.catalogue import BACKENDS
from hayate.runtime.attention.choose import load_backend
from hayate.runtime.attention.explicit import MathAttention, SplitAttention
from hayate.runtime.attention.sdp import CudnnAttention, SdpNoMemAttention
from hayate.runtime.attention.streaming import SMALLEST_TILE, SubQuadraticAttention, tile_sizes
from hayate.runtime.device import resolve_device
from hayate.runtime.live import LiveBytes

HALF = torch.float16, torch.bfloat16
# Budgets so small that the shapes below take many tiles, and one for which they take a single one.
OWN = {
    "math": MathAttention(),
    "split": SplitAttention(200_000),
    "split in one": SplitAttention(),
    "sub-quadratic": SubQuadraticAttention(200_000),
    "sub-quadratic in one": SubQuadraticAttention(),
}
ALL = {**OWN, "sdp": load_backend("sdp"), "sdp-no-mem": load_backend("sdp-no-mem")}
SHAPES = st.fixed_dictionaries(
    {
        "batch": st.integers(1, 3),
        "heads": st.integers(1, 4),
        "queries": st.integers(1, 300),
        "keys": st.one_of(st.just(77), st.integers(1, 300)),
        "width": st.sampled_from([40, 64, 80, 160, 512]),
        "seed": st.integers(0, 1000),
    }
)


def draw(shape: dict[str, int], dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values as networks make them: the heads of a position side by side."""
    generator = torch.Generator().manual_seed(shape["seed"])
    lengths = shape["queries"], shape["keys"], shape["keys"]
    sizes = [(shape["batch"], length, shape["heads"], shape["width"]) for length in lengths]
    q, k, v = (torch.randn(size, generator=generator).to(dtype).transpose(1, 2) for size in sizes)
    return q, k, v


def exact(q: Tensor, k: Tensor, v: Tensor, is_causal: bool = False) -> Tensor:
    scores = q.double() @ k.double().mT * q.shape[-1] ** -0.5
    if is_causal:
        scores += torch.full(scores.shape[-2:], -torch.inf, dtype=torch.float64).triu(1)
    return scores.softmax(-1) @ v.double()


def error(actual: Tensor, expected: Tensor) -> float:
    return float((actual.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=40)
@given(shape=SHAPES, is_causal=st.booleans())
def test_in_fp32_it_is_the_formula(name: str, shape: dict[str, int], is_causal: bool) -> None:
    q, k, v = draw(shape)
    out = ALL[name](q, k, v, is_causal)
    assert out.shape == q.shape
    # The error of a score is a random walk over the head dimension: √512 steps of 2⁻²⁴ alone are more than 1e-6.
    assert error(out, exact(q, k, v, is_causal)) <= 1e-6 * max(1, (shape["width"] / 160) ** 0.5)


@pytest.mark.parametrize("name", OWN)
@settings(max_examples=40)
@given(shape=SHAPES, is_causal=st.booleans(), dtype=st.sampled_from(HALF))
def test_in_half_types_our_own_err_as_the_rounding_of_the_result_does(
    name: str, shape: dict[str, int], is_causal: bool, dtype: torch.dtype
) -> None:
    q, k, v = draw(shape, dtype)
    expected = exact(q, k, v, is_causal)
    rounding = error(expected.to(dtype), expected)
    out = OWN[name](q, k, v, is_causal)
    assert out.dtype == dtype
    assert error(out, expected) <= 1.1 * rounding


@pytest.mark.parametrize("name", ["sdp", "sdp-no-mem"])
@settings(max_examples=40)
@given(shape=SHAPES, is_causal=st.booleans(), dtype=st.sampled_from([torch.float32, *HALF]))
def test_on_a_cpu_both_are_plain_pytorch(name: str, shape: dict[str, int], is_causal: bool, dtype: torch.dtype) -> None:
    q, k, v = draw(shape, dtype)
    assert torch.equal(ALL[name](q, k, v, is_causal), F.scaled_dot_product_attention(q, k, v, is_causal=is_causal))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
class TestExtremes:
    def test_huge_scores_pick_the_largest(self, name: str, dtype: torch.dtype) -> None:
        q = torch.full((1, 2, 40, 64), 1e4, dtype=dtype)
        q[:, 1] = -1e4
        k = torch.rand(1, 2, 200, 64).to(dtype)
        k[:, 0, 123] = 2.0  # scores of +1e5, and the largest
        k[:, 1, 45] = -2.0
        v = torch.randn(1, 2, 200, 64).to(dtype)
        expected = torch.stack([v[0, 0, 123], v[0, 1, 45]])[None, :, None].expand_as(q)
        torch.testing.assert_close(ALL[name](q, k, v), expected)

    def test_equal_scores_give_the_mean(self, name: str, dtype: torch.dtype) -> None:
        q, k = torch.full((2, 1, 1, 30, 64), -1e2, dtype=dtype).unbind()
        v = torch.randn(1, 1, 30, 64).to(dtype)
        mean = v.double().mean(2, keepdim=True).expand_as(q)
        assert error(ALL[name](q, -k, v), mean) <= (1e-6 if dtype == torch.float32 else 2.0**-8)

    def test_scores_that_rise_from_tile_to_tile(self, name: str, dtype: torch.dtype) -> None:
        q = torch.ones(1, 4, 50, 40, dtype=dtype)
        k = torch.linspace(-1e3, 1e3, 300)[None, None, :, None].expand(1, 4, 300, 40).to(dtype)
        v = torch.randn(1, 4, 300, 40).to(dtype)
        assert error(ALL[name](q, k, v), exact(q, k, v)) <= (1e-6 if dtype == torch.float32 else 2.0**-8)

    def test_what_is_not_a_number_stays_visible(self, name: str, dtype: torch.dtype) -> None:
        q, k, v = torch.randn(3, 1, 1, 100, 64).to(dtype)
        q[0, 0, 7, 1] = v[0, 0, 3, 2] = float("nan")
        out = ALL[name](q, k, v)
        assert out[0, 0, 7].isnan().all()
        assert out[..., 2].isnan().all()
        assert out[0, 0, :7, 3:].isfinite().all()


@pytest.mark.parametrize("name", ["split", "sub-quadratic"])
def test_merging_the_heads_copies_nothing(name: str) -> None:
    out = OWN[name](*draw({"batch": 2, "heads": 3, "queries": 50, "keys": 77, "width": 40, "seed": 0}))
    assert merge_heads(out).data_ptr() == out.data_ptr()


class TestScratch:
    @settings(max_examples=30)
    @given(
        shape=SHAPES,
        is_causal=st.booleans(),
        dtype=st.sampled_from([torch.float32, torch.bfloat16]),
        budget=st.sampled_from([2**20, 2**22]),
    )
    def test_sub_quadratic_keeps_within_its_budget(
        self, shape: dict[str, int], is_causal: bool, dtype: torch.dtype, budget: int
    ) -> None:
        shape |= {"queries": 4 * shape["queries"], "keys": 4 * shape["keys"], "width": min(shape["width"], 160)}
        q, k, v = draw(shape, dtype)
        assert scratch_bytes(SubQuadraticAttention(budget), q, k, v, is_causal=is_causal) <= budget

    @pytest.mark.parametrize("length", [4096, 16384])
    def test_of_sub_quadratic_does_not_grow_with_the_picture(self, length: int) -> None:
        """The VAE's one head at 512 and 1024 pixels, where all scores would take 64 MiB and 1 GiB."""
        q = torch.empty((1, 1, length, 512), dtype=torch.bfloat16, device="meta")
        assert scratch_bytes(SubQuadraticAttention(2**26), q, q, q) <= 2**26

    def test_of_split_is_a_slice_of_scores_and_copies_of_its_inputs(self) -> None:
        q = torch.empty((2, 8, 4096, 40), dtype=torch.bfloat16, device="meta")
        copies_bytes = 2 * 3 * q.numel() * torch.float32.itemsize
        assert scratch_bytes(SplitAttention(2**28), q, q, q) <= 2**28 + copies_bytes
        assert scratch_bytes(MathAttention(), q, q, q) > 2**30  # what is saved

    @given(
        rows=st.integers(1, 64),
        queries=st.integers(1, 70_000),
        keys=st.integers(1, 70_000),
        width=st.sampled_from([8, 40, 160, 512]),
        budget=st.integers(1, 2**30),
    )
    def test_tiles_use_the_budget_and_fit_it(self, rows: int, queries: int, keys: int, width: int, budget: int) -> None:
        n, m = tile_sizes(rows, queries, keys, width, budget)
        assert 1 <= n <= queries
        assert 1 <= m <= keys

        def cost_bytes(n: int, m: int) -> int:
            return 4 * rows * (2 * n * m + (6 * width + 8) * n + 4 * width * m)

        is_smallest = n <= SMALLEST_TILE or m <= SMALLEST_TILE
        assert cost_bytes(n, m) <= budget or is_smallest
        assert cost_bytes(n + 1, m + 1) > budget or n == queries or m == keys


class TestKernelsOfGpus:
    """What can be seen of them without one: that PyTorch's operators take the arguments that we give them."""

    Q = torch.empty((2, 8, 100, 40), dtype=torch.float16, device="meta")
    K = torch.empty((2, 8, 77, 40), dtype=torch.float16, device="meta")

    def test_cudnn(self) -> None:
        assert CudnnAttention()(self.Q, self.K, self.K).shape == self.Q.shape

    def test_flash_where_it_serves_else_slices(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sdp, "can_use_flash_attention", lambda params: params.query.shape[-1] <= 256)
        assert operators(SdpNoMemAttention(), self.Q, self.K) == ["_scaled_dot_product_flash_attention"]
        one_head = torch.empty((1, 1, 4096, 512), dtype=torch.float16, device="meta")
        assert "bmm" in operators(SdpNoMemAttention(), one_head, one_head)
        odd = torch.empty((1, 1, 100, 36), dtype=torch.float16, device="meta")
        assert "bmm" in operators(SdpNoMemAttention(), odd, odd)

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    @pytest.mark.parametrize("name", sorted({*BACKENDS} - {"native", "sage", "xformers"}))
    def test_each_against_the_formula(self, name: str) -> None:
        device = torch.device("cuda")
        backend = load_backend(name)
        for dtype, width in product(HALF, (40, 64, 128)):
            shape = {"batch": 2, "heads": 8, "queries": 1024, "keys": 1024, "width": width, "seed": 0}
            q, k, v = (each.to(device) for each in draw(shape, dtype))
            assert backend.refusal(resolve_device("cuda"), dtype, [width]) is None
            assert backend.misfit(q, k, v, False) is None
            expected = exact(q, k, v)
            # Weights rounded to the half type before the second product, as fused kernels do: at most twice the error.
            assert error(backend(q, k, v), expected) <= 2 * error(expected.to(dtype), expected)


Own = SubQuadraticAttention | SplitAttention | MathAttention


def scratch_bytes(backend: Own, q: Tensor, k: Tensor, v: Tensor, is_causal: bool = False) -> int:
    with torch.no_grad(), LiveBytes(ignored=(q, k, v)) as live:
        out = backend(q, k, v, is_causal)
    return live.peak_bytes - out.nbytes


def operators(backend: SdpNoMemAttention, q: Tensor, k: Tensor) -> list[str]:
    """Names of the operators that a call took, in order."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Names(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[str] = []

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.seen.append(func.__name__.partition(".")[0])
            return func(*args, **(kwargs or {}))

    with torch.no_grad(), Names() as names:
        backend(q, k, k)
    return names.seen
