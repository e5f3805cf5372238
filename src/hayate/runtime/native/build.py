"""Compiles the kernels once, and keeps the library in the cache folder."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from hayate.errors import EngineError

SOURCES = ("attention.cpp", "blend.cpp", "pointwise.cpp")
HEADERS = ("lanes.h",)
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "-w")
FEATURES = ("avx512f", "avx512bw", "avx512vl", "avx512_bf16")
"""What the kernels need of a CPU, as Linux calls it."""
LIMIT_S = 120
_CPU_FACTS = Path("/proc/cpuinfo")


class KernelsUnavailable(EngineError):
    """The kernels can't run or can't be compiled here; PyTorch's own serve instead."""


def build(folder: Path) -> ctypes.CDLL:
    """The library, from `folder` if the same compiler made it there before, from the same source, for this CPU.

    Raises: KernelsUnavailable with the reason.
    Cost: about 5 s the first time, then milliseconds.
    """
    compiler = find_compiler()
    path = _library(folder, compiler)
    if not path.exists():
        _compile(compiler, path)
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        path.unlink(missing_ok=True)  # damaged: the next start compiles it anew
        raise KernelsUnavailable(f"the compiled kernels can't be loaded: {error}") from error


def is_built(folder: Path) -> bool:
    """Whether `build` would find the library there. Cost: the compiler is asked for its version."""
    try:
        return _library(folder, find_compiler()).exists()
    except KernelsUnavailable:
        return False


def find_compiler() -> str:
    """The C++ compiler that the environment variable CXX names, or the first one found.

    Raises: KernelsUnavailable where the CPU or the system is none that the kernels are written for.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise KernelsUnavailable("the compiled kernels are for Linux on x86-64")
    missing = [feature for feature in FEATURES if feature not in cpu_features()]
    if missing:
        raise KernelsUnavailable(f"this CPU lacks {', '.join(missing)}")
    named = os.environ.get("CXX")
    for compiler in (named,) if named else COMPILERS:
        if found := shutil.which(compiler):
            return found
    raise KernelsUnavailable("no C++ compiler was found", hint="install g++, or name a compiler in CXX")


def cpu_features() -> frozenset[str]:
    """The feature flags of the first processor, as Linux names them."""
    try:
        text = _CPU_FACTS.read_text()
    except OSError:
        return frozenset()
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return frozenset(line.partition(":")[2].split())


def _library(folder: Path, compiler: str) -> Path:
    return folder / f"kernels-{_fingerprint(compiler)}.so"


def _fingerprint(compiler: str) -> str:
    """What the library depends on: source, flags, compiler, and the CPU that `-march=native` means."""
    here = Path(__file__).parent
    version = _run([compiler, "--version"]).stdout
    parts = [(here / name).read_text() for name in (*SOURCES, *HEADERS)]
    parts += [*FLAGS, version, *sorted(cpu_features())]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _compile(compiler: str, path: Path) -> None:
    """Compiles beside the target and moves the whole file there, so that two processes can do so at once."""
    here = Path(__file__).parent
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            part = Path(folder) / "kernels.so"
            result = _run([compiler, *FLAGS, *(str(here / name) for name in SOURCES), "-o", str(part)])
            if result.returncode:
                line = next((line for line in result.stderr.splitlines() if "error" in line), "no message")
                raise KernelsUnavailable(f"{compiler} failed: {line[:200]}")
            part.replace(path)
    except OSError as error:
        raise KernelsUnavailable(f"the kernels can't be written to {path.parent}: {error}") from error


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelsUnavailable(f"{command[0]} could not be run: {error}") from error
