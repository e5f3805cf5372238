"""Programs of merges run by PyTorch's own operations: what serves where there are no compiled kernels."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

import torch
from torch import Tensor

from hayate.weights import merge_methods as methods
from hayate.weights.merge_program import Instruction, Op, Program, Work

WINDOW = 1 << 17
"""Numbers that go through a program at once: its registers stay in a core's cache."""
PIECE = 1 << 20
"""Numbers that a thread takes at a time."""
_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """Some of the numbers of one work, flat."""

    number: int
    """The work's."""
    program: Program
    inputs: tuple[Tensor, ...]
    place: Tensor


@torch.no_grad()
def blend(works: Sequence[Work]) -> list[int]:
    """A `Blender`."""
    own = threading.local()
    overflown = [0] * len(works)

    def run(piece: _Piece) -> int:
        if not hasattr(own, "registers"):
            own.registers = _Registers()
        return _run(piece, own.registers)

    pieces = [piece for number, work in enumerate(works) for piece in _pieces(number, work)]
    for piece, lost in zip(pieces, spread(run, pieces), strict=True):
        overflown[piece.number] += lost
    return overflown


def spread(work: Callable[[_T], _R], items: Sequence[_T]) -> Iterator[_R]:
    """The results of `work` for all items, in order, by as many threads as PyTorch would use.

    Threads over one tensor wait for each other at its end, and for whatever else runs; so each has its own.
    """
    threads = min(torch.get_num_threads(), len(items))
    if threads < 2:
        yield from map(work, items)
        return
    with one_thread_each(threads) as pool:
        yield from pool.map(work, items)


@contextmanager
def one_thread_each(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Threads in each of which PyTorch uses no others."""
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, "blend", initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)  # the workers' number is that of threads to come


def count_overflown(wide: Tensor, narrow: Tensor) -> int:
    """How many finite numbers of `wide` are infinite in `narrow`. Cost: one pass, and more where there are some."""
    if not wide.numel() or narrow.element_size() >= wide.element_size():
        return 0
    least, most = torch.aminmax(wide)
    if max(-float(least), float(most)) <= torch.finfo(narrow.dtype).max:
        return 0
    return int((torch.isinf(narrow) & torch.isfinite(wide)).sum())


class _Registers:
    """Memory for windows of float32 numbers, which is used again."""

    def __init__(self) -> None:
        self._all: list[Tensor] = []

    def take(self, count: int, size: int) -> list[Tensor]:
        while len(self._all) < count:
            self._all.append(torch.empty(WINDOW))
        return [each[:size] for each in self._all[:count]]


def _pieces(number: int, work: Work) -> Iterator[_Piece]:
    inputs = [leaf.tensor.reshape(-1) for leaf in work.program.inputs]
    place = work.place.view(-1)
    for start in range(0, len(place), PIECE):
        part = slice(start, start + PIECE)
        yield _Piece(
            number=number, program=work.program, inputs=tuple(each[part] for each in inputs), place=place[part]
        )


def _run(piece: _Piece, memory: _Registers) -> int:
    """Fills one piece, window by window; how many numbers became infinite."""
    program, overflown = piece.program.instructions, 0
    count = 1 + max(each.target for each in program)
    for start in range(0, len(piece.place), WINDOW):
        window = slice(start, start + WINDOW)
        place = piece.place[window]
        inputs = [each[window] for each in piece.inputs]
        registers = memory.take(count, len(place))
        for each in program:
            _OPERATIONS[each.op](each, registers, inputs)
        place.copy_(registers[0])
        overflown += count_overflown(registers[0], place)
    return overflown


def _train(each: Instruction, registers: Sequence[Tensor], inputs: Sequence[Tensor]) -> None:
    del inputs
    a, b, c = (registers[index] for index in (each.target, each.first, each.second))
    a.copy_(methods.trained(a, b, c, each.number))


_OPERATIONS: Mapping[Op, Callable[[Instruction, Sequence[Tensor], Sequence[Tensor]], object]] = MappingProxyType(
    {
        Op.LOAD: lambda each, registers, inputs: registers[each.target].copy_(inputs[each.first]),
        Op.LERP: lambda each, registers, inputs: registers[each.target].lerp_(registers[each.first], each.number),
        Op.ADD: lambda each, registers, inputs: registers[each.target].add_(registers[each.first], alpha=each.number),
        Op.SUBTRACT: lambda each, registers, inputs: registers[each.target].sub_(registers[each.first]),
        Op.SCALE: lambda each, registers, inputs: registers[each.target].mul_(each.number),
        Op.TRAIN: _train,
    }
)
