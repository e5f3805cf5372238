"""Merges in which each number depends on those at its own place only, as programs on registers of float32 numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from hayate.weights.merge_methods import TRAIN_GAIN
from hayate.weights.merge_steps import Edited, Leaf, Step

if TYPE_CHECKING:
    from torch import Tensor

MAX_REGISTERS = 40


class Op(IntEnum):
    """What is done to the register `target`; `first` and `second` are registers too, but for LOAD."""

    LOAD = 0
    """target = input number `first`."""
    LERP = 1
    """target + number · (first − target)."""
    ADD = 2
    """target + number · first."""
    SUBTRACT = 3
    """target − first."""
    SCALE = 4
    """target · number."""
    TRAIN = 5
    """`train_difference` of target, first and second, where `number` is the gain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One operation on whole registers."""

    op: Op
    target: int
    first: int = 0
    second: int = 0
    number: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """How the numbers of one tensor come about; register 0 is the result."""

    inputs: tuple[Leaf, ...]
    instructions: tuple[Instruction, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A program to be run."""

    program: Program
    place: Tensor
    """Where the result goes: contiguous, on the host, and of as many numbers as each input."""


class Blender(Protocol):
    """Who runs programs."""

    def __call__(self, works: Sequence[Work]) -> Sequence[int]:
        """Fills all places; how many finite numbers became infinite in each by rounding.

        Raises: BrokenFile for an input that can't be read to its end.
        Cost: reads each input and writes each place once; no memory but a few caches'.
        """
        ...


def program_of(step: Step, numbers: int) -> Program | None:
    """The program for a tensor of so many numbers; None where it takes more than each number's own place."""
    inputs: list[Leaf] = []
    instructions: list[Instruction] = []
    if not _put(step, 0, numbers, inputs, instructions):
        return None
    return Program(inputs=tuple(inputs), instructions=tuple(instructions))


def _put(step: Step, target: int, numbers: int, inputs: list[Leaf], instructions: list[Instruction]) -> bool:
    """Adds what puts a step's value into the register `target`, using those above it; whether that is possible."""
    if isinstance(step, Leaf):
        if math.prod(step.shape) != numbers:
            return False
        if step not in inputs:
            inputs.append(step)
        instructions.append(Instruction(op=Op.LOAD, target=target, first=inputs.index(step)))
        return True
    if isinstance(step, Edited):
        return False
    make = _BY_PLACE.get((step.blend.method, step.blend.calc))
    if make is None or target + len(step.parts) > MAX_REGISTERS:
        return False
    for each in (_Put(part=0, register=target), *make(target, *step.ratios)):
        if isinstance(each, Instruction):
            instructions.append(each)
        elif not _put(step.parts[each.part], each.register, numbers, inputs, instructions):
            return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Put:
    """Puts a part of a mix into a register. Right before it is used, so that whoever loads it can use it at once."""

    part: int
    register: int


_Steps = list[_Put | Instruction]


def _weighted_sum(a: int, alpha: float) -> _Steps:
    return [_Put(part=1, register=a + 1), Instruction(op=Op.LERP, target=a, first=a + 1, number=alpha)]


def _add_difference(a: int, alpha: float) -> _Steps:
    return [
        *(_Put(part=part, register=a + part) for part in (1, 2)),
        Instruction(op=Op.SUBTRACT, target=a + 1, first=a + 2),
        Instruction(op=Op.ADD, target=a, first=a + 1, number=alpha),
    ]


def _train_difference(a: int, alpha: float) -> _Steps:
    return [
        *(_Put(part=part, register=a + part) for part in (1, 2)),
        Instruction(op=Op.TRAIN, target=a, first=a + 1, second=a + 2, number=TRAIN_GAIN * alpha),
    ]


def _triple_sum(a: int, alpha: float, beta: float) -> _Steps:
    return [
        Instruction(op=Op.SCALE, target=a, number=1 - alpha - beta),
        _Put(part=1, register=a + 1),
        Instruction(op=Op.ADD, target=a, first=a + 1, number=alpha),
        _Put(part=2, register=a + 1),
        Instruction(op=Op.ADD, target=a, first=a + 1, number=beta),
    ]


def _sum_twice(a: int, alpha: float, beta: float) -> _Steps:
    return [
        *_weighted_sum(a, alpha),
        _Put(part=2, register=a + 1),
        Instruction(op=Op.LERP, target=a, first=a + 1, number=beta),
    ]


def _scaled(a: int, alpha: float) -> _Steps:
    return [Instruction(op=Op.SCALE, target=a, number=alpha)] if alpha else []


_BY_PLACE: Mapping[tuple[str, str], Callable[..., _Steps]] = MappingProxyType(
    {
        ("merge", "normal"): _weighted_sum,
        ("add_difference", "normal"): _add_difference,
        ("add_difference", "trainDifference"): _train_difference,
        ("triple_sum", "normal"): _triple_sum,
        ("sum_twice", "normal"): _sum_twice,
        ("scale", "normal"): _scaled,
        ("scale", "self"): _scaled,
    }
)
