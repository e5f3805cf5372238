"""Weights in the host's memory, ready to be poured into networks that stand on a device."""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hayate.models.config import ModelConfig, VAEConfig
from hayate.runtime.page_lock import lock_pages, unlock_pages
from hayate.weights.load import gather, pour

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class Staged:
    """The weights of some networks."""

    config: ModelConfig | VAEConfig
    """What the networks are."""
    tensors: Sequence[Tensor]
    """One for each of their parameters, in their order, dtype and strides."""
    size_bytes: int
    is_pinned: bool
    """Whether the memory is page-locked, so that a GPU fetches it by itself and at full speed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Poured:
    """What one pouring did."""

    size_bytes: int
    seconds: float
    is_pinned: bool


def stage(modules: Sequence[nn.Module], config: ModelConfig | VAEConfig, *, is_kept: bool) -> Staged:
    """The weights of `modules`, which are on the host: side by side in page-locked memory if they are kept.

    Weights that are poured only once stay where they are, for locking pages costs more than it saves then.
    """
    if not is_kept:
        tensors = [parameter.detach() for module in modules for parameter in module.parameters()]
        size_bytes = sum(each.nbytes for each in tensors)
        return Staged(config=config, tensors=tensors, size_bytes=size_bytes, is_pinned=False)
    block = torch.empty(0, dtype=torch.uint8)
    tensors = gather(modules, block.resize_)
    is_pinned = _pin(block)
    staged = Staged(config=config, tensors=tensors, size_bytes=block.nbytes, is_pinned=is_pinned)
    if is_pinned:  # pages are unlocked before they are freed, for a finalizer runs before the fields go
        weakref.finalize(staged, unlock_pages, block.data_ptr()).atexit = False
    return staged


def pour_staged(modules: Iterable[nn.Module], staged: Staged, device: torch.device) -> Poured:
    """Copies staged weights into the standing parameters of `modules`, and waits until they are there.

    Raises: TensorMismatch where they don't fit; then nothing is changed.
    """
    started = time.perf_counter()
    size_bytes = pour(modules, staged.tensors)
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return Poured(size_bytes=size_bytes, seconds=time.perf_counter() - started, is_pinned=staged.is_pinned)


def _pin(block: Tensor) -> bool:
    """Locks the pages of `block` where a CUDA device would profit; whether it could."""
    if not torch.cuda.is_available() or not block.nbytes:
        return False
    if code := lock_pages(block):
        logger.warning("%d bytes can't be page-locked (CUDA error %d): switching is slower", block.nbytes, code)
    return code == 0
