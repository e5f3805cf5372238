"""A compiled package as a function of tensors."""

from __future__ import annotations

import ctypes
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hayate.runtime.compile.spec import CompileRefused

Loaded = Callable[[list[Tensor]], list[Tensor]]
"""Weights and inputs to outputs. Strides, types and devices must be those compiled for: nothing checks them."""

MODEL = "model"
_EXTERN = "extern_kernel_nodes.json"


def load(package: Path, device: torch.device) -> Loaded:
    """The function that a package holds.

    On a CPU, where one step takes seconds, it is called so that other threads go on meanwhile: PyTorch's own loader
    keeps Python's lock for all of a call.
    Raises: RuntimeError or OSError when it can't be loaded.
    """
    if device.type == "cpu" and sys.platform != "win32":
        with zipfile.ZipFile(package) as archive:
            names = archive.namelist()
            libraries = [name for name in names if name.endswith(".so")]
            if len(libraries) == 1 and not any(name.endswith(_EXTERN) for name in names):
                with tempfile.TemporaryDirectory() as folder:
                    return Unlocked(archive.extract(libraries[0], folder))
    index = -1 if device.index is None else device.index
    # True: no events between threads, which would end the recording of a CUDA graph; only one thread calls a step.
    return _aoti().AOTIModelPackageLoader(str(package), MODEL, device.type == "cuda", 1, index).boxed_run


class Unlocked:
    """A compiled library, called through the C interface that PyTorch promises to keep.

    Cost: about 4 ms a call for 700 tensors, whatever the size of the work.
    """

    def __init__(self, library: str) -> None:
        self._library = ctypes.CDLL(library)
        self._container = _POINTER()
        code = self._library.AOTInductorModelContainerCreateWithDevice(
            ctypes.byref(self._container), _SIZE(1), b"cpu", None
        )
        outputs = _SIZE()
        if code or self._library.AOTInductorModelContainerGetNumOutputs(self._container, ctypes.byref(outputs)):
            raise CompileRefused("the compiled library could not be set up")
        self._outputs = outputs.value

    def __call__(self, inputs: list[Tensor]) -> list[Tensor]:
        """Raises: CompileRefused when the library reports an error, such as the end of memory."""
        handles = [_address(each, None) for each in _aoti().unsafe_alloc_void_ptrs_from_tensors(inputs)]
        results = (_POINTER * self._outputs)()
        code = self._library.AOTInductorModelContainerRun(
            self._container,
            (_POINTER * len(handles))(*handles),
            _SIZE(len(handles)),
            results,
            _SIZE(self._outputs),
            None,
            None,
        )
        if code:
            raise CompileRefused("the compiled step reported an error")
        return _aoti().alloc_tensors_by_stealing_from_void_ptrs([_capsule(each, None, None) for each in results])


def _aoti() -> Any:
    """PyTorch's bindings for compiled packages, which its type stubs leave out."""
    return torch._C._aoti  # pyright: ignore[reportAttributeAccessIssue]


_POINTER = ctypes.c_void_p
_SIZE = ctypes.c_size_t
_address = ctypes.PYFUNCTYPE(_POINTER, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", ctypes.pythonapi))
_capsule = ctypes.PYFUNCTYPE(ctypes.py_object, _POINTER, ctypes.c_char_p, _POINTER)(("PyCapsule_New", ctypes.pythonapi))
