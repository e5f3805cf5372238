"""The processor, its allocator, what compiles for it, and main memory."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import sys
import sysconfig
from pathlib import Path

import psutil

from hayate.doctor.facts import Allocator, Memory, Processor, Python, Toolchain
from hayate.doctor.probes.ask import Unanswered, ask, read_text

_FEATURES = re.compile(r"(avx|amx|fma|f16c|sse4_2|asimd|neon|sve|bf16|i8mm)")
_PINNING = ("OMP_PROC_BIND", "KMP_AFFINITY", "GOMP_CPU_AFFINITY")
_ALLOCATORS = ("tcmalloc", "jemalloc", "mimalloc")
_COMPILERS = ("g++", "c++", "clang++")
_UNLIMITED = 2**60


def processor() -> Processor:
    facts = _cpu_facts()
    asked = os.environ.get("OMP_NUM_THREADS", "")
    affinity = os.sched_getaffinity(0) if sys.platform == "linux" else None
    features = (facts.get("flags") or facts.get("Features") or "").split()
    return Processor(
        model=facts.get("model name") or _brand(),
        cores=psutil.cpu_count(logical=False),
        threads=psutil.cpu_count(),
        usable_threads=len(affinity) if affinity else psutil.cpu_count(),
        quota_threads=_quota(),
        features=tuple(each for each in features if _FEATURES.match(each)),
        governor=read_text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or None,
        numa_nodes=len(list(Path("/sys/devices/system/node").glob("node[0-9]*"))) or None,
        threads_asked=int(asked) if asked.isdigit() else None,
        pinning={name: os.environ[name] for name in _PINNING if name in os.environ},
    )


def allocator() -> Allocator:
    """Whose malloc this process has; of Hayate's other processes it is the same."""
    if sys.platform != "linux":
        return Allocator(name=platform.system())
    maps = read_text("/proc/self/maps")
    preloaded = next((name for name in _ALLOCATORS if name in maps), None)
    libc = "musl" if "ld-musl" in maps else "glibc"
    pages = re.search(r"\[(always|madvise|never)\]", read_text("/sys/kernel/mm/transparent_hugepage/enabled"))
    return Allocator(name=preloaded or libc, huge_pages=pages[1] if pages else None)  # type: ignore[arg-type]


def toolchain(python: Python) -> Toolchain:
    named = os.environ.get("CXX")
    wanted = (named,) if named else ("cl",) if sys.platform == "win32" else _COMPILERS
    versions = {each.name: each.version for each in python.packages}
    return Toolchain(
        compiler=next(filter(None, map(shutil.which, wanted)), None),
        triton=versions.get("triton") or versions.get("triton-windows"),
        has_python_headers=Path(sysconfig.get_path("include"), "Python.h").exists(),
    )


def memory() -> Memory:
    main, swap = psutil.virtual_memory(), psutil.swap_memory()
    limit = read_text("/sys/fs/cgroup/memory.max") or read_text("/sys/fs/cgroup/memory/memory.limit_in_bytes")
    limit_bytes = int(limit) if limit.isdigit() and int(limit) < _UNLIMITED else None
    return Memory(
        total_bytes=main.total,
        available_bytes=main.available,
        cached_bytes=getattr(main, "cached", None),
        limit_bytes=limit_bytes,
        swap_bytes=swap.total,
        swap_used_bytes=swap.used,
    )


def _cpu_facts() -> dict[str, str]:
    first = read_text("/proc/cpuinfo").split("\n\n", 1)[0]
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}


def _brand() -> str:
    if sys.platform == "darwin":
        with contextlib.suppress(Unanswered):
            return ask(["sysctl", "-n", "machdep.cpu.brand_string"]).strip()
    return platform.processor() or platform.machine()


def _quota() -> float | None:
    """The processors that a container's limit of time comes to."""
    words = read_text("/sys/fs/cgroup/cpu.max").split()
    if len(words) == 2 and words[0].isdigit():
        return int(words[0]) / int(words[1])
    quota, period = (read_text(f"/sys/fs/cgroup/cpu/cpu.cfs_{name}_us") for name in ("quota", "period"))
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None
