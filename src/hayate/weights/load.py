"""Pouring a checkpoint's tensors into modules: strictly, and without a copy where none is needed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from hayate.errors import TensorMismatch, clip, nearest
from hayate.weights.ignored import is_ignored
from hayate.weights.read import Checkpoint

_ALIGNED_BYTES = 64


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
    tensors = iter(_matching(module, checkpoint, prefix, dtype).values())
    for owner in module.modules():
        for name, _ in owner.named_parameters(recurse=False):
            owner.register_parameter(name, nn.Parameter(next(tensors).to(device, dtype), requires_grad=False))


def check_part(module: nn.Module, checkpoint: Checkpoint, prefix: str) -> list[str]:
    """The names of the module's parameters, each of which the file is sure to have a tensor for, and no others.

    Raises: TensorMismatch as `load_part` does.
    """
    wanted = dict(module.named_parameters())
    _refuse_extra(wanted, checkpoint, prefix)
    return [name for name, like in wanted.items() if _is_there(checkpoint, prefix + name, like)]


def pour_part(module: nn.Module, checkpoint: Checkpoint, prefix: str) -> None:
    """Copies a checkpoint's tensors into the standing parameters of `module`, which keep their dtype and device.

    Raises: TensorMismatch as `load_part` does; then the module is as it was.
    """
    tensors = _matching(module, checkpoint, prefix)
    pour([module], list(tensors.values()))


@torch.no_grad()
def pour(modules: Iterable[nn.Module], tensors: Sequence[Tensor]) -> int:
    """Copies `tensors` into the standing parameters of `modules`, one for each, in their order; how many bytes it was.

    What was made from the parameters' addresses (CUDA graphs, compiled steps) stays good.
    Raises: TensorMismatch where number or shapes differ; then nothing is changed.
    Cost: from page-locked memory to a GPU the copies are only begun: synchronise before the memory is changed or freed.
    """
    standing = [parameter for module in modules for parameter in module.parameters()]
    if [each.shape for each in standing] != [each.shape for each in tensors]:
        raise TensorMismatch(
            "the weights are not those of the architecture that stands", hint="load the model into networks of its own"
        )
    for parameter, tensor in zip(standing, tensors, strict=True):
        parameter.copy_(tensor, non_blocking=True)
    return sum(parameter.nbytes for parameter in standing)


def gather(modules: Iterable[nn.Module], allocate: Callable[[int], Tensor]) -> tuple[Tensor, ...]:
    """Copies of all parameters of `modules`, side by side in one block of memory, for `pour`.

    `allocate` gives the block: so many bytes, as uint8. Dtypes, strides and order are the parameters'.
    """
    parameters = [parameter.detach() for module in modules for parameter in module.parameters()]
    starts = [0, *itertools.accumulate(-(-each.nbytes // _ALIGNED_BYTES) * _ALIGNED_BYTES for each in parameters)]
    block = allocate(starts[-1])
    copies = []
    for start, parameter in zip(starts, parameters, strict=False):
        place = block[start : start + parameter.nbytes].view(parameter.dtype)
        copies.append(place.as_strided(parameter.shape, parameter.stride()).copy_(parameter))
    return tuple(copies)


def _matching(
    module: nn.Module, checkpoint: Checkpoint, prefix: str, dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """The file's tensor for each parameter of the module, checked one by one before anything is changed."""
    wanted = dict(module.named_parameters())
    _refuse_extra(wanted, checkpoint, prefix)
    there = [name for name, like in wanted.items() if _is_there(checkpoint, prefix + name, like)]
    found = dict(zip(there, checkpoint.get_all([prefix + name for name in there], dtype), strict=True))
    return {
        name: _viewed(found[name], like.shape) if name in found else torch.empty(like.shape, dtype=like.dtype)
        for name, like in wanted.items()
    }


def _refuse_extra(wanted: Mapping[str, Tensor], checkpoint: Checkpoint, prefix: str) -> None:
    for name in checkpoint.tensors:
        if name.startswith(prefix) and (inner := name[len(prefix) :]) not in wanted and not is_ignored(inner):
            raise TensorMismatch(
                f"{checkpoint.path}: tensor {clip(name, 120)!r} is extra: the architecture has no place for it",
                hint=f"nearest it has: {', '.join(prefix + near for near in nearest(inner, wanted, 1))}",
            )


def _viewed(tensor: Tensor, shape: torch.Size) -> Tensor:
    """`tensor` in the shape of its place, where only 1×1 kernels differ."""
    return tensor if tensor.shape == shape else tensor.view(shape)


def _is_there(checkpoint: Checkpoint, name: str, like: Tensor) -> bool:
    """Whether the file has a tensor for the place of `like`; a projection of width 0 is no tensor in the file.

    Raises: TensorMismatch where there should be one, or it has another shape.
    """
    if name not in checkpoint.tensors:
        if like.numel() == 0:
            return False
        raise TensorMismatch(
            f"{checkpoint.path}: tensor {name!r} is missing", hint="the file is incomplete or of another architecture"
        )
    shape = checkpoint.tensors[name].shape
    if shape != like.shape and _without_kernel(shape) != _without_kernel(like.shape):
        raise TensorMismatch(
            f"{checkpoint.path}: tensor {name!r} has shape {list(shape)}, not {list(like.shape)}",
            hint="the file is damaged or of another architecture",
        )
    if not checkpoint.tensors[name].is_float:
        raise TensorMismatch(
            f"{checkpoint.path}: tensor {name!r} holds {checkpoint.tensors[name].dtype}, not floating-point numbers",
            hint="use a file that is not quantised",
        )
    return True


def _without_kernel(shape: Sequence[int]) -> tuple[int, ...]:
    """A matrix that is stored as a 1×1 convolution, as VAE attention is in some files, is the same matrix."""
    return tuple(shape[:2]) if len(shape) == 4 and tuple(shape[2:]) == (1, 1) else tuple(shape)
