"""The compiled kernels as functions of tensors."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hayate.errors import EngineError
from hayate.runtime.native.blending import BlendKernel, verify
from hayate.runtime.native.build import KernelsUnavailable, build, is_built
from hayate.settings import load_settings

DTYPES = {torch.bfloat16: "bf16", torch.float32: "fp32"}
MAX_HEAD_DIM = 512
_TOLERANCES = {torch.bfloat16: 1e-2, torch.float32: 1e-5}


def kernels() -> Kernels:
    """This machine's kernels, compiled at the first call ever and checked at the first call of a process.

    Raises: KernelsUnavailable with the reason, at every call.
    """
    found = _prepared(_folder())
    if isinstance(found, str):
        raise KernelsUnavailable(found)
    return found


def are_compiled() -> bool:
    """Whether `kernels` would give some without compiling them."""
    return is_built(_folder())


def refusal() -> str | None:
    """Why there are no kernels here, or None where there are."""
    try:
        kernels()
    except KernelsUnavailable as error:
        return str(error)
    return None


class Kernels:
    """Each function takes and returns CPU tensors of bf16 or fp32, and uses PyTorch's number of threads."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.blend = BlendKernel(library)
        self._attention = _by_dtype(
            library, "attention", [*[_POINTER] * 4, _SIZES, _SIZES, ctypes.c_float, ctypes.c_int]
        )
        self._geglu = _by_dtype(library, "geglu", [_POINTER, _POINTER, ctypes.c_int64, ctypes.c_int64, ctypes.c_int])
        self._group_norm = _by_dtype(
            library, "group_norm", [*[_POINTER] * 5, _SIZES, ctypes.c_float, ctypes.c_int, ctypes.c_int]
        )

    def attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """softmax(q·kᵀ/√d)·v. Head dimensions that are even, up to 512; only they must be contiguous.

        Shapes: q [B, heads, N, d], k and v [B, heads, M, d] → [B, heads, N, d], in memory [B, N, heads, d].
        """
        batch, heads, queries, width = q.shape
        out = torch.empty((batch, queries, heads, width), dtype=q.dtype).transpose(1, 2)
        sizes = _numbers(batch, heads, queries, k.shape[2], width)
        strides = _numbers(*(stride for tensor in (q, k, v, out) for stride in tensor.stride()[:3]))
        pointers = (tensor.data_ptr() for tensor in (q, k, v, out))
        _check(self._attention[q.dtype](*pointers, sizes, strides, width**-0.5, torch.get_num_threads()))
        return out

    def geglu(self, x: Tensor) -> Tensor:
        """The first half of every row times the GELU of the second half.

        Shapes: [rows, 2·width] → [rows, width].
        """
        rows, width = x.shape[0], x.shape[1] // 2
        x, out = x.contiguous(), torch.empty((rows, width), dtype=x.dtype)
        self._geglu[x.dtype](x.data_ptr(), out.data_ptr(), rows, width, torch.get_num_threads())
        return out

    def group_norm(
        self,
        x: Tensor,
        groups: int,
        affine: tuple[Tensor, Tensor],
        *,
        eps: float,
        is_activated: bool,
        shift: Tensor | None,
    ) -> Tensor:
        """SiLU, if wanted, of the group norm of `x` plus a number per channel.

        Shapes: x [B, C, h, w] channels-last, affine two of [C], shift [B or 1, C] or None → as x.
        """
        batch, channels, height, width = x.shape
        out = torch.empty_like(x, memory_format=torch.channels_last)
        shift = None if shift is None else shift.to(x.dtype).contiguous()
        stride = channels if shift is not None and len(shift) > 1 else 0
        sizes = _numbers(batch, height * width, channels, groups, stride)
        pointers = [None if each is None else each.data_ptr() for each in (x, shift, *affine, out)]
        _check(self._group_norm[x.dtype](*pointers, sizes, eps, is_activated, torch.get_num_threads()))
        return out


def _folder() -> Path:
    return load_settings().cache_dir / "native"


@cache
def _prepared(folder: Path) -> Kernels | str:
    try:
        found = Kernels(build(folder))
        _verify(found)
        verify(found.blend)
    except KernelsUnavailable as error:
        return str(error)
    return found


def _verify(found: Kernels) -> None:
    """Compares the attention kernel with PyTorch's before it is trusted: a compiler can be wrong."""
    generator = torch.Generator().manual_seed(0)
    for dtype, tolerance in _TOLERANCES.items():
        q, k, v = (torch.randn((1, 2, length, 40), generator=generator) for length in (50, 77, 77))
        expected = F.scaled_dot_product_attention(q, k, v)
        actual = found.attention(q.to(dtype), k.to(dtype), v.to(dtype)).float()
        if not bool((actual - expected).norm() <= tolerance * expected.norm()):
            raise KernelsUnavailable("the compiled attention disagrees with PyTorch's, and is not used")


_POINTER = ctypes.c_void_p
_SIZES = ctypes.POINTER(ctypes.c_int64)


def _by_dtype(library: ctypes.CDLL, name: str, arguments: list[Any]) -> dict[torch.dtype, Callable[..., int]]:
    functions = {dtype: getattr(library, f"hayate_{name}_{suffix}") for dtype, suffix in DTYPES.items()}
    for function in functions.values():
        function.argtypes = arguments
    return functions


def _numbers(*values: int) -> ctypes.Array[ctypes.c_int64]:
    return (ctypes.c_int64 * len(values))(*values)


def _check(code: int) -> None:
    if code:
        raise EngineError("the machine ran out of memory in a kernel", hint="use a smaller size or batch")
