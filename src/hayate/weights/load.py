"""Pouring a checkpoint's tensors into modules: strictly, and without a copy where none is needed."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hayate.errors import TensorMismatch, clip, nearest
from hayate.weights.read import Checkpoint

IGNORED = (
    r"(.*\.)?position_ids",  # CLIP's 0…76, saved as a buffer by old transformers
    r"(.*\.)?attn_mask",  # the causal mask, saved as a buffer by old open_clip
    r"(.*\.)?logit_scale",  # CLIP's training temperature
    r"(visual|vision_model|visual_projection)\..*",  # CLIP's picture half
    r"text_projection\.weight",  # CLIP-L's, which no context or vector of the known families uses
    r"model_ema\..*",  # the second copy of the U-Net that training averages
    r"(.*\.)?(betas|(sqrt_)?(one_minus_|recip_|recipm1_)?alphas.*|log_one_minus_alphas.*|posterior_.*)",  # schedules
    r"loss\..*",  # the VAE's discriminator
    r"(v_pred|ztsnr)",  # markers
)
"""Tensors, by pattern of their name after the prefix, that real files carry and no network here uses."""

_IGNORED = re.compile("|".join(f"(?:{pattern})" for pattern in IGNORED))


@contextmanager
def skeleton() -> Iterator[None]:
    """Inside it, modules are made on the `meta` device: shapes without memory, and nothing is initialised.

    Cost: 0.1 s for a full-size SD1 model; initialising on `meta` would add the seconds that torch takes to import what
    it decomposes random numbers with.
    """
    _freeze_imports()
    with _Skeleton():
        yield


@cache
def _freeze_imports() -> None:
    """Hides what imports left from the garbage collector, once in a process.

    Making thousands of parameters sets the collector off; walking through all of torch would cost it 0.1 s every time.
    """
    gc.freeze()


class _Skeleton(TorchFunctionMode):
    """Makes tensors on `meta`, and skips what `torch.nn.init` and the in-place fills would do.

    One mode for both: each costs a Python call for every tensor, and there are thousands.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if func in _FACTORIES:
            return func(*args, **{**named, "device": "meta"}) if named.get("device") is None else func(*args, **named)
        if func in _FILLS or getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else named["tensor"]
        return func(*args, **named)


_FACTORIES = frozenset({torch.empty, torch.zeros, torch.ones})
_FILLS = frozenset({Tensor.normal_, Tensor.uniform_, Tensor.fill_, Tensor.zero_})


def load_part(
    module: nn.Module,
    checkpoint: Checkpoint,
    prefix: str,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> None:
    """Gives a module made in a `skeleton` its weights: the file's tensors whose names start with `prefix`.

    Without `dtype` each tensor keeps the file's.
    Raises: TensorMismatch for a tensor that is missing, extra, of the wrong shape or no floating-point number; then the
    module is as it was.
    Cost: no copy where dtype and device stay; the weights are then views of the mapped file, read when first used.
    """
    tensors = _matching(module, checkpoint, prefix)
    owners = dict(module.named_modules())
    for name, tensor in tensors.items():
        path, _, attribute = name.rpartition(".")
        setattr(owners[path], attribute, nn.Parameter(tensor.to(device, dtype), requires_grad=False))


@torch.no_grad()
def pour_part(module: nn.Module, checkpoint: Checkpoint, prefix: str) -> None:
    """Copies a checkpoint's tensors into the standing parameters of `module`, which keep their dtype and device.

    Raises: TensorMismatch as `load_part` does; then the module is as it was.
    """
    tensors = _matching(module, checkpoint, prefix)
    for name, parameter in module.named_parameters():
        parameter.copy_(tensors[name])


def _matching(module: nn.Module, checkpoint: Checkpoint, prefix: str) -> dict[str, Tensor]:
    """The file's tensor for each parameter of the module, checked one by one before anything is changed."""
    wanted = dict(module.named_parameters())
    _refuse_extra(wanted, checkpoint, prefix)
    return {name: _fitting(checkpoint, prefix + name, like) for name, like in wanted.items()}


def _refuse_extra(wanted: Mapping[str, Tensor], checkpoint: Checkpoint, prefix: str) -> None:
    for name in checkpoint.tensors:
        if name.startswith(prefix) and (inner := name[len(prefix) :]) not in wanted and not _IGNORED.fullmatch(inner):
            raise TensorMismatch(
                f"{checkpoint.path}: tensor {clip(name, 120)!r} is extra: the architecture has no place for it",
                hint=f"nearest it has: {', '.join(prefix + near for near in nearest(inner, wanted, 1))}",
            )


def _fitting(checkpoint: Checkpoint, name: str, like: Tensor) -> Tensor:
    """The tensor called `name`, viewed in the shape of `like` where only 1×1 kernels differ."""
    if name not in checkpoint.tensors:
        if like.numel() == 0:  # a projection of width 0 is no tensor in the file
            return torch.empty(like.shape, dtype=like.dtype)
        raise TensorMismatch(
            f"{checkpoint.path}: tensor {name!r} is missing", hint="the file is incomplete or of another architecture"
        )
    info = checkpoint.tensors[name]
    if _without_kernel(info.shape) != _without_kernel(like.shape):
        raise TensorMismatch(
            f"{checkpoint.path}: tensor {name!r} has shape {list(info.shape)}, not {list(like.shape)}",
            hint="the file is damaged or of another architecture",
        )
    tensor = checkpoint.get(name)
    if not tensor.is_floating_point():
        raise TensorMismatch(
            f"{checkpoint.path}: tensor {name!r} holds {info.dtype}, not floating-point numbers",
            hint="use a file that is not quantised",
        )
    return tensor.view(like.shape)


def _without_kernel(shape: Sequence[int]) -> tuple[int, ...]:
    """A matrix that is stored as a 1×1 convolution, as VAE attention is in some files, is the same matrix."""
    return tuple(shape[:2]) if len(shape) == 4 and tuple(shape[2:]) == (1, 1) else tuple(shape)
