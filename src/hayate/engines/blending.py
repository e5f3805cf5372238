"""Who computes merges here: the compiled kernel, or PyTorch where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch

from hayate.errors import BrokenFile
from hayate.runtime.native.blending import INPUT, INSTRUCTION, JOB, TYPES, BlendKernel, UnreadInput
from hayate.runtime.native.build import KernelsUnavailable
from hayate.runtime.native.kernels import are_compiled, kernels
from hayate.weights import merge_blend
from hayate.weights.header import AGAIN
from hayate.weights.merge_program import Blender, Instruction, Work
from hayate.weights.read import Extent

_DTYPES = {torch.float32: TYPES["F32"], torch.float16: TYPES["F16"], torch.bfloat16: TYPES["BF16"]}
_STREAMED_BYTES = 1 << 25
"""A result that no cache will hold until it is read is written past them."""


def blend(works: Sequence[Work]) -> Sequence[int]:
    """The fastest `Blender` of this machine.

    Cost: the first time ever, some seconds for compiling.
    """
    return _fastest()(works)


def blend_once(works: Sequence[Work]) -> Sequence[int]:
    """As `blend`, for merges that are not worth waiting for a compiler."""
    return blend(works) if _is_ready() else merge_blend.blend(works)


@cache
def _is_ready() -> bool:
    return are_compiled()


@cache
def _fastest() -> Blender:
    try:
        return NativeBlender(kernels().blend)
    except KernelsUnavailable:
        return merge_blend.blend


class NativeBlender:
    """Runs programs in the compiled kernel, and by PyTorch those whose files have types that it does not know."""

    def __init__(self, kernel: BlendKernel) -> None:
        self._kernel = kernel

    def __call__(self, works: Sequence[Work]) -> Sequence[int]:
        """As `Blender` says."""
        extents = [[leaf.extent for leaf in work.program.inputs] for work in works]
        is_ours = [_is_known(work, inputs) for work, inputs in zip(works, extents, strict=True)]
        ours = [number for number, known in enumerate(is_ours) if known]
        others = [number for number, known in enumerate(is_ours) if not known]
        counts = dict(zip(others, merge_blend.blend([works[number] for number in others]), strict=True))
        counts |= zip(ours, self._blend([(works[number], extents[number]) for number in ours]), strict=True)
        return [counts[number] for number in range(len(works))]

    def _blend(self, works: Sequence[tuple[Work, Sequence[Extent]]]) -> list[int]:
        tables = _Tables()
        is_streamed = sum(work.place.nbytes for work, _ in works) >= _STREAMED_BYTES
        jobs = np.array([tables.row(work, extents, is_streamed) for work, extents in works], JOB)
        leaves = [leaf for work, _ in works for leaf in work.program.inputs]
        try:
            self._kernel(jobs, np.array(tables.inputs, INPUT), np.array(tables.instructions, INSTRUCTION))
        except UnreadInput as error:
            path = leaves[error.number].source.checkpoint.path
            raise BrokenFile(f"{path} can't be read to its end any more", hint=AGAIN) from error
        return jobs["overflown"].tolist()


class _Tables:
    """What the kernel is told; equal programs are told once."""

    def __init__(self) -> None:
        self.inputs: list[tuple[int, int, int]] = []
        self.instructions: list[tuple[int, int, int, int, float]] = []
        self._programs: dict[tuple[Instruction, ...], int] = {}

    def row(self, work: Work, extents: Sequence[Extent], is_streamed: bool) -> tuple[int, ...]:
        first, program = len(self.inputs), work.program.instructions
        self.inputs += [(each.start, each.handle, TYPES[each.dtype]) for each in extents]
        start = self._programs.setdefault(program, len(self.instructions))
        if start == len(self.instructions):
            self.instructions += [(each.op, each.target, each.first, each.second, each.number) for each in program]
        place = work.place
        kind = (_DTYPES[place.dtype], first, len(extents), start, len(program), is_streamed)
        return place.data_ptr(), place.numel(), 0, *kind


def _is_known(work: Work, inputs: Sequence[Extent]) -> bool:
    return work.place.dtype in _DTYPES and all(each.dtype in TYPES for each in inputs)
