"""Machines that tests put together, from one on which nothing is wrong."""

from __future__ import annotations

from typing import Any

from hayate.doctor.catalogue import CHECKS
from hayate.doctor.facts import Card, Facts, Memory, Processor, Python, System, Toolchain, Torch, TunedProfile
from hayate.doctor.finding import Finding

GB = 10**9
ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")
CARD = Card(
    name="NVIDIA GeForce RTX 4070",
    capability=(8, 9),
    memory_bytes=12 * GB,
    used_bytes=0,
    driver="580.95.05",
    driver_cuda="13.0",
    power_limit_w=200.0,
    power_default_w=200.0,
    pcie_generation_max=4,
    pcie_lanes=16,
    pcie_lanes_max=16,
)
TORCH = Torch(version="2.13.0", cuda="13.0", architectures=ARCHITECTURES, cudnn="9.19.0", copies=("/venv/torch",))
PROFILE = TunedProfile(
    path="p.json", device=CARD.name, title="x", at="", versions={"torch": "2.13.0", "driver": "13000"}
)
TOOLS = Toolchain(compiler="/usr/bin/g++", triton="3.7.0", has_python_headers=True)


def machine(**changes: Any) -> Facts:
    """A sound Linux machine with a card, a torch for it and a profile, with some of its facts changed."""
    facts: dict[str, Any] = {
        "system": System(os="Linux", release="6.1", machine="x86_64"),
        "python": Python(version="3.12", executable="python"),
        "processor": Processor(model="AMD Ryzen 7 7700X", cores=8, threads=16, usable_threads=16),
        "memory": Memory(total_bytes=32 * GB, available_bytes=28 * GB, swap_bytes=8 * GB),
        "torch": TORCH,
        "cards": (CARD,),
        "profiles": (PROFILE,),
        "toolchain": TOOLS,
    }
    return Facts(**{**facts, **changes})


def said(check: str, facts: Facts) -> Finding | None:
    """What one check says."""
    return next(each for each in CHECKS if each.name == check).judge(facts)
