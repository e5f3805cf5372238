"""The compiled kernel that mixes the weights of files, as a function of tables."""

from __future__ import annotations

import ctypes
import os
from types import MappingProxyType

import numpy as np
import torch

from hayate.runtime.native.build import KernelsUnavailable

OPS = MappingProxyType({"LOAD": 0, "LERP": 1, "ADD": 2, "SUBTRACT": 3, "SCALE": 4, "TRAIN": 5})
TYPES = MappingProxyType({"F32": 0, "F16": 1, "BF16": 2})
"""The numbers of files' types, by the safetensors format's names."""
REGISTERS = 40

INSTRUCTION = np.dtype(
    [("op", "i4"), ("target", "i4"), ("first", "i4"), ("second", "i4"), ("number", "f4")], align=True
)
INPUT = np.dtype([("start_bytes", "i8"), ("file", "i4"), ("type", "i4")], align=True)
JOB = np.dtype(
    [
        ("place", "i8"),
        ("numbers", "i8"),
        ("overflown", "i8"),
        ("type", "i4"),
        ("first_input", "i4"),
        ("inputs", "i4"),
        ("first_instruction", "i4"),
        ("instructions", "i4"),
        ("is_streamed", "i4"),
    ],
    align=True,
)
"""`overflown` is written: how many finite numbers became infinite. `is_streamed` passes by the caches."""


class UnreadInput(Exception):
    """An input could not be read to its end; `number` is its row."""

    def __init__(self, number: int) -> None:
        super().__init__(f"input {number}")
        self.number = number


class BlendKernel:
    """Runs jobs, each a program over inputs that lie in open files."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._run = library.hayate_blend
        self._run.argtypes = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)
        self._run.restype = ctypes.c_int64

    def __call__(self, jobs: np.ndarray, inputs: np.ndarray, instructions: np.ndarray) -> None:
        """Fills the places of `jobs`, tables of the types above.

        Raises: UnreadInput, MemoryError. Cost: PyTorch's number of threads, each with 256 KiB for an input.
        """
        addresses = [table.ctypes.data for table in (jobs, inputs, instructions)]
        code = self._run(addresses[0], len(jobs), *addresses[1:], torch.get_num_threads())
        if code == 1:
            raise MemoryError
        if code:
            raise UnreadInput(code - 2)


def verify(run: BlendKernel) -> None:
    """Compares the kernel with PyTorch before it is trusted.

    Raises: KernelsUnavailable.
    """
    numbers = torch.linspace(-2.0, 2.0, 4000).half().view(2, 2000)
    place = torch.empty(2000, dtype=torch.bfloat16)
    file = os.memfd_create("blend")
    try:
        os.write(file, numbers.numpy().tobytes())
        inputs = np.array([(0, file, TYPES["F16"]), (4000, file, TYPES["F16"])], INPUT)
        program = [(OPS["LOAD"], 0, 0, 0, 0), (OPS["LOAD"], 1, 1, 0, 0), (OPS["LERP"], 0, 1, 0, 0.3)]
        jobs = np.array([(place.data_ptr(), 2000, 0, TYPES["BF16"], 0, 2, 0, 3, 0)], JOB)
        run(jobs, inputs, np.array(program, INSTRUCTION))
    finally:
        os.close(file)
    first, second = numbers.float()
    if not torch.equal(place, torch.lerp(first, second, 0.3).bfloat16()):
        raise KernelsUnavailable("the compiled blending disagrees with PyTorch's, and is not used")
