"""Host memory whose pages are locked, so that a GPU fetches it by itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def lock_pages(block: Tensor) -> int:
    """Locks the pages of `block`; CUDA's error code, 0 where it could.

    PyTorch's own pinned memory comes in powers of two and is not given back when freed; this takes what is used.
    Whoever locks also unlocks, before the memory is freed.
    """
    return int(cudart().cudaHostRegister(block.data_ptr(), block.nbytes, 0))


def unlock_pages(address: int) -> None:
    """Undoes `lock_pages` for the block that begins at `address`."""
    cudart().cudaHostUnregister(address)


def cudart() -> Any:
    """CUDA's own functions, which PyTorch hands through without types."""
    return torch.cuda.cudart()
