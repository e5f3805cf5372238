"""Counting the bytes of living tensors, real ones or such without memory."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that are made inside it and still alive, and the highest that the count was.

    Works on real tensors and on `meta` ones alike. Compositions must be taken apart before they get here, so it belongs
    under `no_grad`, not under `inference_mode`.
    """

    def __init__(self, ignored: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.now_bytes = 0
        self.peak_bytes = 0
        self._ignored = list(ignored)
        """Tensors from outside, whose views are nobody's new memory."""
        self._alive: dict[int, weakref.ref[Any] | None] = {_storage_key(tensor): None for tensor in self._ignored}

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        answer = _ANSWERS.get(func) if args and _is_meta(args[0]) else None
        result = (answer or func)(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._count(leaf)
        return result

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else the first operator imports the whole of torch._dynamo: more than a second

    def _count(self, tensor: Tensor) -> None:
        key = _storage_key(tensor)
        if key in self._alive:
            return
        storage = tensor.untyped_storage()
        size_bytes = storage.nbytes()

        def on_death(_: weakref.ref[Any]) -> None:
            del self._alive[key]
            self.now_bytes -= size_bytes

        self._alive[key] = weakref.ref(storage, on_death)
        self.now_bytes += size_bytes
        self.peak_bytes = max(self.peak_bytes, self.now_bytes)


def bare(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor of this shape without memory."""
    return torch.empty(shape, dtype=dtype, device="meta")


def _is_meta(argument: Any) -> bool:
    first = argument[0] if isinstance(argument, list) else argument
    return isinstance(first, Tensor) and first.is_meta


def _storage_key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _convolved(x: Tensor, weight: Tensor, _bias: Tensor | None, stride: Sequence[int], *rest: Any) -> Tensor:
    padding, dilation = rest[:2]
    sides = zip(x.shape[2:], weight.shape[2:], padding, dilation, stride, strict=True)
    lengths = ((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, p, d, s in sides)
    return bare(len(x), len(weight), *lengths, dtype=x.dtype)


def _group_normed(x: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    batch, groups = rest[2], rest[5]
    return _like(x), bare(batch, groups, dtype=x.dtype), bare(batch, groups, dtype=x.dtype)


def _layer_normed(x: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    rows = bare(*x.shape[:-1], 1)
    return _like(x), rows, rows.clone()


def _combined(x: Tensor, other: Tensor) -> Tensor:
    """Both of one type, and one of them as large as the result, as everywhere in these networks."""
    return _like(max(x, other, key=Tensor.numel))


def _product(a: Tensor, b: Tensor) -> Tensor:
    return bare(*a.shape[:-1], b.shape[-1], dtype=a.dtype)


def _joined(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    shape = list(tensors[0].shape)
    shape[dim] = sum(tensor.shape[dim] for tensor in tensors)
    return bare(*shape, dtype=tensors[0].dtype)


def _resized(x: Tensor, size: Sequence[int], *_: Any) -> Tensor:
    return bare(*x.shape[:2], *size, dtype=x.dtype)


def _like(x: Tensor, **_: Any) -> Tensor:
    return bare(*x.shape, dtype=x.dtype)


_ANSWERS: Mapping[Any, Callable[..., Any]] = {
    torch.ops.aten.convolution.default: _convolved,
    torch.ops.aten.native_group_norm.default: _group_normed,
    torch.ops.aten.native_layer_norm.default: _layer_normed,
    torch.ops.aten.add.Tensor: _combined,
    torch.ops.aten.mul.Tensor: _combined,
    torch.ops.aten.mm.default: _product,
    torch.ops.aten.bmm.default: _product,
    torch.ops.aten.addmm.default: lambda _bias, a, b: _product(a, b),
    torch.ops.aten.cat.default: _joined,
    torch.ops.aten.upsample_nearest2d.default: _resized,
    torch.ops.aten.silu.default: _like,
    torch.ops.aten.gelu.default: _like,
}
"""What `meta` tensors become; PyTorch's own answers for these operators import two seconds' worth of modules."""
