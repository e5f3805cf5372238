"""Which attention backend is chosen or refused, in what words, and the proof of what it did."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hayate.errors import MissingDependency, UnknownName, UsageError
from hayate.models.unet import UNet
from hayate.runtime.attention import evidence as proof
from hayate.runtime.attention import sdp
from hayate.runtime.attention.catalogue import BACKENDS
from hayate.runtime.attention.choose import choose_attention, load_backend
from hayate.runtime.attention.counted import CountedAttention
from hayate.runtime.attention.evidence import evidence, recorded_kernels
from hayate.runtime.attention.explicit import MathAttention
from hayate.runtime.device import Device
from hayate.runtime.memory import Work, forecast
from hayate.runtime.precision import resolve_precision
from tests.tiny_models import Family, tiny_config

CPU = Device(torch=torch.device("cpu"), title="a CPU", reason="a test")
CUDA = Device(torch=torch.device("cuda"), title="a card", reason="a test", capability=(8, 6))
RADEON = replace(CUDA, capability=None)
SD1, SDXL = (40, 80, 160), (64,)


class FakeNative(MathAttention):
    name = "native"
    reason: str | None = None
    has_scratch = False

    def refusal(self, device: Device, dtype: torch.dtype, head_dims: Collection[int]) -> str | None:  # noqa: ARG002
        return self.reason

    def misfit(self, q: Tensor, k: Tensor, v: Tensor, is_causal: bool) -> str | None:  # noqa: ARG002
        return f"head dim {q.shape[-1]}" if q.shape[-1] == 512 else None


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> type[FakeNative]:
    """A stand-in for the compiled kernel, which serves on this CPU."""
    monkeypatch.setattr(FakeNative, "reason", None)
    put(monkeypatch, "hayate.runtime.native.attention", NativeAttention=FakeNative)
    return FakeNative


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Makes sure that the modules of the optional backends are imported anew, before and after."""
    for name in ("xformers", "sage"):
        monkeypatch.delitem(sys.modules, f"hayate.runtime.attention.{name}", raising=False)
    for name in ("xformers", "xformers.ops", "sageattention"):
        monkeypatch.setitem(sys.modules, name, None)  # pyright: ignore[reportArgumentType] # not installed
    yield monkeypatch
    for name in ("xformers", "sage"):
        sys.modules.pop(f"hayate.runtime.attention.{name}", None)


def put(patch: pytest.MonkeyPatch, name: str, **attributes: Any) -> None:
    """A module of this name with these attributes."""
    module = ModuleType(name)
    vars(module).update(attributes)
    patch.setitem(sys.modules, name, module)


class FakeMask:
    """What xFormers takes for a causal mask."""


def fake_xformers(patch: pytest.MonkeyPatch) -> None:
    def attend(q: Tensor, k: Tensor, v: Tensor, attn_bias: object) -> Tensor:
        q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))
        causal = isinstance(attn_bias, FakeMask)
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2)

    put(patch, "xformers.ops", memory_efficient_attention=attend, LowerTriangularMask=FakeMask)
    put(patch, "xformers", ops=sys.modules["xformers.ops"])


def fake_sage(patch: pytest.MonkeyPatch) -> None:
    def attend(q: Tensor, k: Tensor, v: Tensor, *, tensor_layout: str, is_causal: bool) -> Tensor:
        assert tensor_layout == "HND"
        return F.scaled_dot_product_attention(q, k, v, is_causal=is_causal)

    put(patch, "sageattention", sageattn=attend)


def qkv(heads: int = 2, width: int = 64, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = torch.randn(3, 1, 30, heads, width).to(dtype).transpose(2, 3)
    return q, k, v


def test_names_are_listed_without_torch() -> None:
    code = "import sys, hayate.runtime.attention.catalogue as c; print(*c.BACKENDS); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"math", "sdp", "sdp-no-mem", "cudnn", "xformers", "sage", "sub-quadratic", "split", "native"} == set(
        done.stdout.split()
    )


def test_every_entry_lives_where_the_catalogue_says(packages: pytest.MonkeyPatch, native: type[FakeNative]) -> None:
    fake_xformers(packages)
    fake_sage(packages)
    assert [load_backend(name).name for name in BACKENDS] == list(BACKENDS)
    assert load_backend("native").__class__ is native
    assert [name for name in BACKENDS if not load_backend(name).is_exact] == ["sage"]


class TestAuto:
    @pytest.mark.parametrize("asked", [None, "", "auto"])
    def test_on_a_cpu_it_is_the_compiled_kernel(self, native: type[FakeNative], asked: str | None) -> None:
        chosen = choose_attention(asked, CPU, torch.bfloat16, SD1)
        assert (chosen.backend.name, chosen.requested, chosen.refusals) == ("native", "auto", {})
        assert isinstance(chosen.backend, native)
        assert "compiled for this CPU" in chosen.reason

    def test_or_pytorchs_with_the_reason(self, native: type[FakeNative], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(native, "reason", "this CPU lacks avx512_bf16")
        chosen = choose_attention(None, CPU, torch.bfloat16, SD1)
        assert chosen.backend.name == "sdp"
        assert "this CPU lacks avx512_bf16" in chosen.reason
        assert chosen.refusals == {"native": "this CPU lacks avx512_bf16"}

    @pytest.mark.parametrize("kind", ["cuda", "mps"])
    def test_on_a_gpu_it_is_pytorchs(self, kind: str) -> None:
        assert (
            choose_attention(None, replace(CUDA, torch=torch.device(kind)), torch.float16, SDXL).backend.name == "sdp"
        )

    @pytest.mark.parametrize("kind", ["cuda", "mps"])
    def test_a_deterministic_plan_for_a_gpu_never_meets_a_kernel_that_is_not(self, kind: str) -> None:
        chosen = choose_attention(
            None, replace(CUDA, torch=torch.device(kind)), torch.float16, SDXL, is_deterministic=True
        )
        assert chosen.backend.name == "sdp-no-mem"
        assert chosen.attention.fallback.is_deterministic
        with pytest.raises(UsageError, match=r"'sdp' can't serve here: .*same bits.*take sdp-no-mem"):
            choose_attention("sdp", replace(CUDA, torch=torch.device(kind)), torch.float16, SDXL, is_deterministic=True)

    def test_on_a_cpu_every_kernel_is_deterministic(self, native: type[FakeNative]) -> None:  # noqa: ARG002
        assert choose_attention(None, CPU, torch.float32, SD1, is_deterministic=True).backend.name == "native"
        assert choose_attention("sdp", CPU, torch.float32, SD1, is_deterministic=True).backend.name == "sdp"


class TestAskedFor:
    @pytest.mark.parametrize("name", ["math", "split", "sub-quadratic", "sdp", "sdp-no-mem"])
    def test_what_serves_everywhere(self, name: str) -> None:
        chosen = choose_attention(name, CPU, torch.float32, SD1)
        assert (chosen.backend.name, chosen.requested, chosen.reason) == (name, name, "asked for")

    def test_an_unknown_name_gets_the_nearest(self) -> None:
        with pytest.raises(UnknownName, match=r"unknown attention backend 'xformer'.*nearest: xformers"):
            choose_attention("xformer", CPU, torch.float32, SD1)

    def test_the_compiled_kernel_where_it_cant_serve(
        self, native: type[FakeNative], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(native, "reason", "no C++ compiler was found")
        with pytest.raises(
            UsageError, match=r"'native' can't serve here: no C\+\+ compiler was found .*leave the choice"
        ):
            choose_attention("native", CPU, torch.float32, SD1)

    @pytest.mark.parametrize(("name", "install"), [("xformers", r"\.\[xformers\]"), ("sage", r"\.\[sage\]")])
    def test_a_package_that_is_not_installed(self, packages: pytest.MonkeyPatch, name: str, install: str) -> None:
        del packages
        with pytest.raises(MissingDependency, match=rf"not installed \(pip install -c constraints.txt -e {install}\)"):
            choose_attention(name, CUDA, torch.float16, SDXL)

    @pytest.mark.parametrize("fault", [ImportError("undefined symbol: _ZN2at"), OSError("libcudart.so.12")])
    def test_a_package_that_was_built_for_another_torch(
        self, packages: pytest.MonkeyPatch, tmp_path: Path, fault: Exception
    ) -> None:
        (tmp_path / "sageattention.py").write_text(f"raise {fault!r}\n")
        packages.delitem(sys.modules, "sageattention")
        packages.syspath_prepend(str(tmp_path))
        with pytest.raises(MissingDependency, match=rf"can't be imported: {fault}.*built for this torch"):
            choose_attention("sage", CUDA, torch.float16, SDXL)


class TestRefusals:
    """Facts of machines that are not here, given to the backends' own questions."""

    @pytest.mark.parametrize(
        ("dtype", "head_dims", "capability", "reason"),
        [
            (torch.float16, SD1, (8, 6), "head dimension 64, 96 or 128; this is torch.float16 with [40, 80, 160]"),
            (torch.float16, SDXL, (7, 5), "compute capability 8.0, 8.6, 8.9, 9.0, 12.0; this one has 7.5"),
            (torch.float32, SDXL, (8, 6), "needs fp16 or bf16"),
            (torch.bfloat16, SDXL, (8, 9), None),
        ],
    )
    def test_of_sage(
        self,
        packages: pytest.MonkeyPatch,
        dtype: torch.dtype,
        head_dims: tuple[int, ...],
        capability: tuple[int, int],
        reason: str | None,
    ) -> None:
        fake_sage(packages)
        self.check("sage", (replace(CUDA, capability=capability), dtype, head_dims), reason)
        self.check("sage", (CPU, dtype, head_dims), "needs an NVIDIA GPU")

    @pytest.mark.parametrize(
        ("dtype", "head_dims", "capability", "reason"),
        [
            (torch.float16, SD1, (7, 5), None),
            (torch.bfloat16, SD1, (7, 5), "bf16 kernels need a GPU of compute capability 8.0"),
            (torch.bfloat16, SD1, (8, 6), None),
            (torch.float32, SD1, (8, 6), "needs fp16 or bf16"),
            (torch.float16, (36,), (8, 6), "multiple of 8, up to 256; this is torch.float16 with [36]"),
        ],
    )
    def test_of_xformers(
        self,
        packages: pytest.MonkeyPatch,
        dtype: torch.dtype,
        head_dims: tuple[int, ...],
        capability: tuple[int, int],
        reason: str | None,
    ) -> None:
        fake_xformers(packages)
        self.check("xformers", (replace(CUDA, capability=capability), dtype, head_dims), reason)
        self.check("xformers", (CPU, dtype, head_dims), "needs a GPU")

    @pytest.mark.parametrize(
        ("dtype", "head_dims", "capability", "reason"),
        [
            (torch.float16, SD1, (8, 6), None),
            (torch.float16, (160,), (8, 6), "up to 128 on this card"),
            (torch.float16, (160,), (9, 0), None),
            (torch.float16, (36,), (9, 0), "multiple of 8"),
            (torch.float16, SD1, (7, 5), "compute capability 8.0"),
            (torch.float32, SD1, (8, 6), "needs fp16 or bf16"),
        ],
    )
    def test_of_cudnn(
        self, dtype: torch.dtype, head_dims: tuple[int, ...], capability: tuple[int, int], reason: str | None
    ) -> None:
        self.check("cudnn", (replace(CUDA, capability=capability), dtype, head_dims), reason)
        self.check("cudnn", (CPU, torch.float16, SD1), "needs an NVIDIA GPU")

    def test_of_cudnn_on_a_card_of_another_make(self) -> None:
        self.check("cudnn", (RADEON, torch.float16, SDXL), "needs an NVIDIA GPU")

    @staticmethod
    def check(name: str, need: tuple[Device, torch.dtype, tuple[int, ...]], reason: str | None) -> None:
        if reason is None:
            assert choose_attention(name, *need).backend.name == name
            return
        with pytest.raises(UsageError) as raised:
            choose_attention(name, *need)
        assert reason in raised.value.message
        assert raised.value.hint


class TestCalls:
    def test_xformers_is_given_its_own_layout_and_mask(self, packages: pytest.MonkeyPatch) -> None:
        fake_xformers(packages)
        chosen = choose_attention("xformers", CUDA, torch.bfloat16, SD1)
        q, k, v = qkv(dtype=torch.bfloat16)
        for is_causal in (False, True):
            expected = F.scaled_dot_product_attention(q, k, v, is_causal=is_causal)
            torch.testing.assert_close(chosen.attention(q, k, v, is_causal), expected)
        assert (chosen.attention.calls, chosen.attention.served) == (2, 2)

    def test_what_a_backend_cant_serve_goes_to_sdp_and_is_counted_by_kind(self, packages: pytest.MonkeyPatch) -> None:
        fake_sage(packages)
        chosen = choose_attention("sage", CUDA, torch.bfloat16, SDXL)
        calls = [
            (qkv(dtype=torch.bfloat16), False),
            (qkv(1, 512, dtype=torch.float32), False),
            (qkv(dtype=torch.bfloat16), True),
            (qkv(dtype=torch.bfloat16), True),
            (qkv(dtype=torch.bfloat16), False),
        ]
        for number, ((q, k, v), is_causal) in enumerate(calls):
            laid = v if number < 4 else v.mT.contiguous().mT  # the last with its head dimension spread in memory
            expected = F.scaled_dot_product_attention(q, k, laid, is_causal=is_causal)
            torch.testing.assert_close(chosen.attention(q, k, laid, is_causal), expected)
        assert chosen.attention.served == 1
        assert chosen.attention.fallbacks == {
            "head dim 512, float32": 1,
            "causal, head dim 64, bfloat16": 2,
            "head dim 64, bfloat16": 1,
        }

    def test_cudnn_asks_pytorch_before_each_call(self, packages: pytest.MonkeyPatch) -> None:
        packages.setattr(sdp, "can_use_cudnn_attention", lambda params: params.query.shape[-1] <= 128)
        packages.setattr(sdp.CudnnAttention, "__call__", lambda self, q, k, v, is_causal: MathAttention()(q, k, v))
        chosen = choose_attention("cudnn", CUDA, torch.float16, SD1)
        for width in (40, 160):
            chosen.attention(*qkv(width=width, dtype=torch.float16))
        assert chosen.attention.fallbacks == {"head dim 160, float16": 1}

    def test_networks_of_a_model_call_it_and_a_forecast_is_not_counted(self, native: type[FakeNative]) -> None:
        del native
        config = tiny_config(Family.SD1)
        precision = resolve_precision("fp32", CPU.torch)
        work = Work(inputs=2, images=1, height_px=256, width_px=256)
        chosen = choose_attention(None, CPU, torch.float32, [4, 8])
        explicit = choose_attention("math", CPU, torch.float32, [4, 8])
        fused = forecast(config, precision, work, chosen.attention)
        assert fused == forecast(config, precision, work)
        assert forecast(config, precision, work, explicit.attention).step_bytes > fused.step_bytes
        assert (chosen.attention.calls, explicit.attention.calls) == (0, 0)
        unet = UNet(config.unet, chosen.attention).eval()
        with torch.inference_mode():
            context = unet.project_context(torch.randn(1, 77, config.unet.context_width))
            times = unet.project_times(torch.tensor([500.0]), None, torch.float32)
            unet.step(torch.randn(1, 4, 8, 8), times, context)
        assert chosen.attention.calls == 2 * len(list(unet.transformer_blocks())) > 0

    def test_the_vaes_one_head_falls_back(self, native: type[FakeNative]) -> None:
        del native
        chosen = choose_attention(None, CPU, torch.float32, SD1)
        chosen.attention(*qkv(1, 512))
        for _ in range(31):
            chosen.attention(*qkv(2, 40))
        found = evidence(chosen)
        assert (found.name, found.requested, found.active) == ("attention", "native", True)
        assert found.detail == "32 calls, 1 to sdp for head dim 512"

    def test_compiled_it_counts_nothing_and_compiles_once(self) -> None:
        attention = choose_attention("sub-quadratic", CPU, torch.float32, SDXL).attention
        compilations: list[object] = []

        def backend(graph: Any, _: object) -> Any:
            compilations.append(graph)
            return graph.forward

        compiled = torch.compile(attention, backend=backend, fullgraph=True)
        tensors = qkv()
        for _ in range(3):
            torch.testing.assert_close(compiled(*tensors), F.scaled_dot_product_attention(*tensors))
        assert (len(compilations), attention.calls) == (1, 0)


class TestEvidence:
    def test_nothing_is_active_before_it_was_called(self) -> None:
        found = evidence(choose_attention("sdp", CPU, torch.float32, SD1))
        assert (found.active, found.detail) == (False, "0 calls")

    def test_nor_when_all_calls_fell_back(self, native: type[FakeNative]) -> None:
        del native
        chosen = choose_attention("native", CPU, torch.float32, [512])
        chosen.attention(*qkv(1, 512))
        found = evidence(chosen)
        assert (found.active, found.detail) == (False, "1 call, 1 to sdp for head dim 512")

    @pytest.mark.parametrize(("name", "kernel"), [("sdp", "flash_attention"), ("sdp-no-mem", "split")])
    def test_on_a_gpu_it_tells_what_the_dispatcher_takes(
        self, monkeypatch: pytest.MonkeyPatch, name: str, kernel: str
    ) -> None:
        """With CPU tensors in the GPU's place PyTorch's dispatcher says flash; the GPU's own flash kernel says no."""
        monkeypatch.setattr(proof, "_probe", lambda chosen, width: torch.ones(1, 1, 8, width))
        found = evidence(choose_attention(name, CUDA, torch.float16, SD1))
        assert found.detail == "0 calls; " + "; ".join(f"head dim {width}: {kernel}" for width in SD1)

    @pytest.mark.parametrize(
        ("name", "operator"),
        [("sdp", "aten::_scaled_dot_product_flash_attention_for_cpu"), ("math", "aten::bmm")],
    )
    def test_the_profiler_saw_the_kernel(self, name: str, operator: str) -> None:
        chosen = choose_attention(name, CPU, torch.bfloat16, [40, 64])
        kernels = recorded_kernels(chosen)
        assert set(kernels) == {40, 64}
        assert all(operator in names for names in kernels.values())
        assert chosen.attention.calls == 0

    def test_the_profiler_sees_the_fallback_where_it_would_serve(self, native: type[FakeNative]) -> None:
        del native
        assert recorded_kernels(choose_attention("native", CPU, torch.float32, [512])) == {
            512: ("aten::_scaled_dot_product_flash_attention_for_cpu",)
        }


def test_backends_are_shared_by_no_counter() -> None:
    first, second = (choose_attention("sdp", CPU, torch.float32, SD1).attention for _ in range(2))
    first(*qkv())
    assert isinstance(first, CountedAttention)
    assert (first.calls, second.calls) == (1, 0)
