"""What a figure was measured on: processor, GPU, driver, system, and the versions of what computes.

Nothing in it tells whose machine it is.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PACKAGES = ("hayate", "torch", "triton", "diffusers", "xformers", "sageattention", "numpy", "safetensors")
VECTOR_FLAGS = ("sse4", "avx", "amx", "fma", "f16c", "asimd", "sve", "bf16", "neon")


def fingerprint() -> dict[str, Any]:
    """All of it, as JSON can hold it.

    Cost: 0.1 s for asking the driver.
    """
    return {"system": system(), "processor": processor(), "gpus": gpus(), "versions": versions()}


def system() -> dict[str, Any]:
    return {
        "os": platform.system(),
        "release": platform.release().partition("-")[0],
        "libc": " ".join(platform.libc_ver()),
        "is_wsl": "microsoft" in platform.release().lower(),
    }


def processor() -> dict[str, Any]:
    """Model, cores that this process may use, memory, and the vector instructions."""
    facts = dict(_cpu_facts())
    flags = (facts.get("flags") or facts.get("Features") or "").split()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "model": facts.get("model name") or platform.processor() or platform.machine(),
        "architecture": platform.machine(),
        "cores": cores,
        "ram_bytes": _ram_bytes(),
        "flags": " ".join(flag for flag in flags if flag.startswith(VECTOR_FLAGS)),
        "threads_asked": os.environ.get("OMP_NUM_THREADS"),
    }


def gpus() -> list[dict[str, Any]]:
    """Each CUDA device; an empty list where torch finds none."""
    import torch

    found = []
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        capability = f"{about.major}.{about.minor}"
        memory = {"memory_bytes": about.total_memory, "multiprocessors": about.multi_processor_count}
        found.append({"name": about.name, "capability": capability, **memory, **_driver(index)})
    return found


def versions() -> dict[str, Any]:
    """Of Python, of packages (those that are not installed are left out), of CUDA and cuDNN."""
    import torch

    found: dict[str, Any] = {"python": platform.python_version()}
    for name in PACKAGES:
        if importlib.util.find_spec(name):
            try:
                found[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                found[name] = "not installed as a package"
    found["cuda"] = torch.version.cuda
    found["cudnn"] = torch.backends.cudnn.version() if torch.backends.cudnn.is_available() else None
    return found


def _cpu_facts() -> list[tuple[str, str]]:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return []
    first = path.read_text().split("\n\n", 1)[0]
    return [(key.strip(), value.strip()) for key, _, value in (line.partition(":") for line in first.splitlines())]


def _ram_bytes() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _driver(index: int) -> dict[str, str]:
    """What only the driver knows: its version, the clocks and the power limit."""
    if not shutil.which("nvidia-smi"):
        return {}
    fields = ("driver_version", "clocks.max.sm", "power.limit", "ecc.mode.current")
    command = ["nvidia-smi", f"--id={index}", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    values = [value.strip() for value in answer.stdout.strip().split(",")]
    return dict(zip(fields, values, strict=True)) if len(values) == len(fields) else {}


def title_of(machine: Mapping[str, Any]) -> str:
    """A fingerprint in a few words: what computes, and the torch that it computes with."""
    names = [each.get("name", "a GPU") for each in machine.get("gpus") or []]
    processor = machine.get("processor") or {}
    computes = ", ".join(names) or f"{processor.get('model', 'a processor')}, {processor.get('cores', '?')} cores"
    return f"{computes}, torch {(machine.get('versions') or {}).get('torch', '?')}"
