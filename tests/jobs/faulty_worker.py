"""The real worker with faults planted in its pictures; the prompt says which.

`short once` runs out of memory in the second step and `short` in every one; `short decode` does so for all pictures of
more than 64x64 pixels; `full` may write no more than a kilobyte into any file.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from hayate.engines.torch import TorchEngine
from hayate.jobs import worker
from hayate.jobs.generate import Generate
from hayate.jobs.tasks.catalogue import TRADE
from hayate.jobs.tasks.station import Outcome, Station, Trade

COMMAND = (sys.executable, "-m", "tests.jobs.faulty_worker")
TILE_PX = 64
MOST_BYTES = 1000
CELLS = (TILE_PX // 8) ** 2
SHORTAGES: dict[str, tuple[str, Callable[[int, Tensor], bool]]] = {
    "short once": ("predict", lambda number, x: number == 2),
    "short": ("predict", lambda number, x: True),
    "short decode": ("decode", lambda number, x: x.shape[-1] * x.shape[-2] > CELLS),
}
"""The engine's call that fails, and whether it does: told how often it was called, and with what."""


def generate(body: Generate, station: Station) -> Outcome:
    prompt = body.request.prompt
    with full() if prompt == "full" else short(*SHORTAGES.get(prompt, ("decode", lambda number, x: False))):
        return TRADE.tasks["generate"](body, station)


@contextmanager
def short(call: str, is_short: Callable[[int, Tensor], bool]) -> Iterator[None]:
    """Memory does not suffice for some calls of the engine."""
    real, number = getattr(TorchEngine, call), 0

    def planted(engine: TorchEngine, x: Tensor, *more: object) -> Tensor:
        nonlocal number
        number += 1
        if is_short(number, x):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return real(engine, x, *more)

    setattr(TorchEngine, call, planted)
    try:
        yield
    finally:
        setattr(TorchEngine, call, real)


@contextmanager
def full() -> Iterator[None]:
    """No file of this process grows beyond `MOST_BYTES`, wherever it is."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MOST_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def learn() -> Trade:
    return replace(TRADE, tasks={**TRADE.tasks, "generate": generate})


if __name__ == "__main__":
    sys.exit(worker.main(learn))
