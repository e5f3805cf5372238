"""Whether PyTorch, CUDA, cuDNN and the driver fit the card."""

from __future__ import annotations

import re

from hayate.doctor.checks.installing import OLDEST, packages, torch_anew
from hayate.doctor.facts import Card, Facts
from hayate.doctor.figures import older
from hayate.doctor.finding import Certainty, Finding, Fix, Gain, Kind, Severity

_ARCHITECTURE = re.compile(r"(sm|compute)_(\d+)(\d)[a-z]?")
_BUILT_FOR = (((12, 0), "12.8"), ((10, 0), "12.8"), ((9, 0), "11.8"), ((8, 9), "11.8"), ((8, 6), "11.1"))
"""The first CUDA that knows a capability natively."""
_CUDNN_FOR = (((12, 0), "9.7"), ((10, 0), "9.7"), ((9, 0), "8.6"), ((8, 9), "8.6"), ((8, 0), "8.1"))
"""The first cuDNN with kernels for a capability. Source: NVIDIA's support matrix and release notes."""
_DRIVERS = (("13", "580.65", "580.65"), ("12", "525.60", "527.41"), ("11", "450.80", "452.39"))
"""CUDA's major version, and the oldest driver for it on Linux and on Windows. Source: NVIDIA's support matrix."""


def card_without_kernels(facts: Facts) -> Finding | None:
    """This torch has no kernels for the card: every step would end in an error."""
    torch = facts.torch
    if torch is None or torch.cuda is None:
        return None
    card = next((card for card in facts.nvidia if _runs(card, torch.architectures, torch.cuda) is False), None)
    if card is None or card.capability is None:
        return None
    known = ", ".join(torch.architectures) if torch.architectures else f"those of CUDA {torch.cuda}"
    name = f"sm_{card.capability[0]}{card.capability[1]}"
    if card.capability < OLDEST:
        fix = Fix(text="No torch that Hayate works with serves this card; compute on the CPU.", command=_ON_CPU)
    else:
        fix = torch_anew(facts, card)
    return Finding(
        severity=Severity.SERIOUS,
        found=f"torch {torch.version} has no kernels for the {card.name}: it needs {name}, and the build has {known}",
        why="The first computation on the card would fail with “no kernel image is available”.",
        gain=Gain(
            kind=Kind.WORKS,
            text="the card computes instead of an error",
            certainty=Certainty.MEASURED_ELSEWHERE,
            source="AUTOMATIC1111/stable-diffusion-webui#16822, Fooocus#3862",
        ),
        fix=fix,
    )


def cpu_torch(facts: Facts) -> Finding | None:
    """A torch for CPUs only beside an NVIDIA card."""
    torch = facts.torch
    card = next((card for card in facts.nvidia if card.capability is None or card.capability >= OLDEST), None)
    if torch is None or card is None or torch.cuda or torch.hip or facts.system.os == "macOS":
        return None
    return Finding(
        severity=Severity.SERIOUS,
        found=f"torch {torch.version} is built for CPUs only, and there is an {card.name}",
        why="Pictures are computed on the processor while the card idles.",
        gain=Gain(
            kind=Kind.SPEED,
            text="10 to 100 times as fast, by the card and the processor",
            certainty=Certainty.REASONED,
            source="SD1.5 at 512×512: 4.1 s a step on two AVX-512 cores (README), 8 it/s on an RTX 3060 (SD.Next)",
            times=30.0,
        ),
        fix=torch_anew(facts, card),
    )


def old_driver(facts: Facts) -> Finding | None:
    """A driver that is older than torch's CUDA needs."""
    torch = facts.torch
    if torch is None or torch.cuda is None:
        return None
    row = next((row for row in _DRIVERS if torch.cuda.split(".")[0] == row[0]), None)
    card = next((card for card in facts.nvidia if card.driver), None)
    if row is None or card is None or card.driver is None:
        return None
    # Inside WSL2 the driver is that of Windows.
    needed = row[2] if facts.system.os == "Windows" or facts.system.is_wsl else row[1]
    if not older(card.driver, needed):
        return None
    where = "in Windows" if facts.system.is_wsl else "here"
    return Finding(
        severity=Severity.SERIOUS,
        found=f"the driver {card.driver} is older than {needed}, which torch's CUDA {torch.cuda} needs",
        why="torch finds no card with it, and computes on the processor.",
        gain=Gain(
            kind=Kind.WORKS,
            text="the card is found",
            certainty=Certainty.MEASURED_ELSEWHERE,
            source="NVIDIA's CUDA compatibility table",
        ),
        fix=Fix(
            text=f"Install the driver {needed} or newer {where}, from https://www.nvidia.com/drivers.",
            needs="an administrator",
        ),
    )


def old_cudnn(facts: Facts) -> Finding | None:
    """A cuDNN that is older than the card, or than the one torch was built with."""
    torch = facts.torch
    if torch is None or torch.cudnn is None or not facts.nvidia:
        return None
    card = max(facts.nvidia, key=lambda card: card.capability or (0, 0))
    needed = next((version for since, version in _CUDNN_FOR if card.is_from(since)), None)
    wanted, package = _wanted_cudnn(facts)
    is_too_old = needed is not None and older(torch.cudnn, needed)
    if not is_too_old and (wanted is None or not older(torch.cudnn, ".".join(wanted.split(".")[:3]))):
        return None
    reason = f"the first with kernels for the {card.name} is {needed}" if is_too_old else ""
    pinned = f"torch {torch.version} was built with {wanted}" if wanted else ""
    fix = (
        Fix(text="Install the cuDNN that torch asks for.", command=packages(facts, [f"{package}=={wanted}"]))
        if wanted
        else torch_anew(facts, card)
    )
    return Finding(
        severity=Severity.WORTHWHILE,
        found=f"cuDNN {torch.cudnn} is old: {' and '.join(filter(None, (reason, pinned)))}",
        why="Convolutions, half of an SD1.5 step, fall back to kernels of older cards.",
        gain=Gain(
            kind=Kind.SPEED,
            text="up to 1.7 × where the card is newer than its cuDNN" if is_too_old else "a few per cent",
            certainty=Certainty.MEASURED_ELSEWHERE if is_too_old else Certainty.REASONED,
            source="RTX 4070 Ti with torch 1, cuDNN exchanged: 38.1 s → 22.2 s (users, March 2023)"
            if is_too_old
            else "",
            times=1.7 if is_too_old else 1.05,
        ),
        fix=fix,
    )


_ON_CPU = "hayate generate … --device cpu"


def _runs(card: Card, architectures: tuple[str, ...] | None, cuda: str) -> bool | None:
    """Whether a build has kernels for a card; None where that can't be told.

    A kernel for sm_86 runs on all 8.x from 8.6 on; the intermediate code compute_90 is compiled for all from 9.0 on.
    """
    if card.capability is None:
        return None
    if not architectures:
        native = next((version for since, version in _BUILT_FOR if card.capability >= since), None)
        if native is not None and older(cuda, native):
            return False if card.capability >= (10, 0) else None
        return False if card.capability < (7, 5) and not older(cuda, "13.0") else None
    found = [match for each in architectures if (match := _ARCHITECTURE.fullmatch(each))]
    built = [(match[1], (int(match[2]), int(match[3]))) for match in found]
    return any(
        card.is_from(capability) and (kind == "compute" or card.capability[0] == capability[0])
        for kind, capability in built
    )


def _wanted_cudnn(facts: Facts) -> tuple[str | None, str]:
    """The version of cuDNN that the installed torch asks for, and the package's name; on Windows it has its own."""
    package = facts.package("torch")
    for line in package.requires if package else ():
        name, _, rest = line.partition("==")
        if name.strip().startswith("nvidia-cudnn"):
            return rest.partition(";")[0].strip(), name.strip()
    return None, ""
