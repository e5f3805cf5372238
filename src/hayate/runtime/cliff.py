"""The driver's system-memory fallback, found by what it does: past the card's memory, copies become slow at once.

Windows' driver gives main memory where the card's is full, and says nothing. Nobody can ask it whether it will; but
copies inside the card run at hundreds of GB/s, and those through the bus at ten.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

import torch

Block = TypeVar("Block")
DROP = 4.0
"""By how much the bandwidth falls at a cliff; between the kinds of memory it is 20, between measurements 1.2."""
STEEPEST = 0.25
"""The share of the card's memory that is asked for beyond it."""
_BLOCK_BYTES = 256 * 2**20
_REPEATS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedCopy:
    """A copy inside the newest of the blocks that are held."""

    held_bytes: int
    """All blocks together, the newest included."""
    copied_bytes: int
    duration_s: float

    @property
    def bytes_per_s(self) -> float:
        return self.copied_bytes / self.duration_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Cliff:
    """From where on memory is not the card's own."""

    held_bytes: int
    """The most that was held before it."""
    before_bytes_per_s: float
    after_bytes_per_s: float


def find_cliff(copies: Sequence[TimedCopy], drop: float = DROP) -> Cliff | None:
    """The place from which on every copy is `drop` times slower than the median before it; None where there is none.

    One slow copy, or a slow beginning while the clock rises, is no cliff.
    """
    ordered = sorted(copies, key=lambda copy: copy.held_bytes)
    for place in range(1, len(ordered)):
        before = _median([copy.bytes_per_s for copy in ordered[:place]])
        after = [copy.bytes_per_s for copy in ordered[place:]]
        if max(after) * drop <= before:
            held = ordered[place - 1].held_bytes
            return Cliff(held_bytes=held, before_bytes_per_s=before, after_bytes_per_s=_median(after))
    return None


def timed_copies(
    allocate: Callable[[int], Block], copy_s: Callable[[Block], float], most_bytes: int, block_bytes: int = _BLOCK_BYTES
) -> list[TimedCopy]:
    """Copies of growing total size: a block more is held each time, up to `most_bytes` or until there is no memory.

    `allocate` raises MemoryError or torch.OutOfMemoryError where there is none, which is as it should be; `copy_s`
    says how long a copy from one half of the block to the other took.
    """
    held: list[Block] = []
    found: list[TimedCopy] = []
    while (len(held) + 1) * block_bytes <= most_bytes:
        try:
            held.append(allocate(block_bytes))
        except (MemoryError, torch.OutOfMemoryError):
            break
        duration_s = copy_s(held[-1])
        found.append(
            TimedCopy(held_bytes=len(held) * block_bytes, copied_bytes=block_bytes // 2, duration_s=duration_s)
        )
    return found


def measure(device: torch.device, most_bytes: int, block_bytes: int = _BLOCK_BYTES) -> Cliff | None:
    """The cliff of a device, looked for up to `most_bytes`.

    Cost: takes that much memory for a moment; a second or two, and ten past a cliff.
    """

    def allocate(size_bytes: int) -> torch.Tensor:
        return torch.empty((2, size_bytes // 2), dtype=torch.uint8, device=device).fill_(1)

    def copy_s(block: torch.Tensor) -> float:
        return min(_timed(block) for _ in range(_REPEATS))

    try:
        return find_cliff(timed_copies(allocate, copy_s, most_bytes, block_bytes))
    finally:
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _timed(block: torch.Tensor) -> float:
    _finish(block.device)
    started = time.perf_counter()
    block[0].copy_(block[1])
    _finish(block.device)
    return max(time.perf_counter() - started, 1e-9)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


if __name__ == "__main__":  # a process of its own: what it takes of the card goes with it
    card = torch.device("cuda")
    most = int(torch.cuda.get_device_properties(card).total_memory * (1 + STEEPEST))
    cliff = measure(card, most)
    sys.stdout.write(json.dumps(None if cliff is None else asdict(cliff)) + "\n")
