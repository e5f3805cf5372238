"""Whether this machine can compile for a device at all."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys

import torch

COMPILERS = ("g++", "c++", "clang++")


def toolchain_refusal(device: torch.device) -> str | None:
    """Why nothing can be compiled for `device`, or None. Cost: a look at the search path."""
    if device.type not in ("cpu", "cuda"):
        return f"PyTorch's ahead-of-time compiler is not used on {device.type}"
    named = os.environ.get("CXX")
    wanted = (named,) if named else ("cl",) if sys.platform == "win32" else COMPILERS
    if not any(shutil.which(each) for each in wanted):
        return f"no C++ compiler was found (looked for {', '.join(wanted)})"
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    return None
