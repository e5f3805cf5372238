"""What Windows does to a card, also from below WSL2."""

from __future__ import annotations

from hayate.doctor.facts import Card, Cliff, Facts
from hayate.doctor.figures import older, size
from hayate.doctor.finding import Certainty, Finding, Fix, Gain, Kind, Severity

_OVERFLOW = (
    "A picture that just does not fit becomes ten times slower without a message; Hayate's own plan for little memory "
    "(tiles, fewer inputs, offloading) never gets its turn."
)
_FALLBACK_SINCE = "536.40"
_SELDOM_FULL_BYTES = 20e9
"""From this much memory on pictures of usual sizes never overflow it."""


def scheduling(facts: Facts) -> Finding | None:
    """Windows' hardware-accelerated GPU scheduling, switched on."""
    if not facts.windows.hags or not facts.nvidia:
        return None
    key = r"HKLM\SYSTEM\CurrentControlSet\Control\GraphicsDrivers"
    return Finding(
        severity=Severity.WORTHWHILE,
        found="hardware-accelerated GPU scheduling (HAGS) is on",
        why="Users of the time found it to cost speed; how much depends on driver and card, so measure both.",
        gain=Gain(
            kind=Kind.SPEED,
            text="up to 1.3 × claimed; nothing on some machines",
            certainty=Certainty.MEASURED_ELSEWHERE,
            source="the Japanese speed-up page's users, March 2023",
            times=1.3,
        ),
        fix=Fix(
            text="Run `hayate bench quick`, switch it off, restart, run it again. Games' frame generation needs it on.",
            command=f'reg add "{key}" /v HwSchMode /t REG_DWORD /d 1 /f',
            needs="an administrator and a restart of Windows; /d 2 instead of 1 undoes it",
        ),
    )


def sysmem_fallback(facts: Facts) -> Finding | None:
    """The driver's habit of using main memory when the card's is full, instead of saying so."""
    card = next((card for card in facts.nvidia if card.driver), None)
    is_windows = facts.system.os == "Windows" or facts.system.is_wsl
    if not is_windows or card is None or card.driver is None or facts.windows.sysmem_fallback == "off":
        return None
    if card.cliff is not None:
        return _cliff(card, card.cliff, facts)
    if older(card.driver, _FALLBACK_SINCE) or (card.memory_bytes or 0) > _SELDOM_FULL_BYTES:
        return None
    state = "is on" if facts.windows.sysmem_fallback == "on" else "is on unless you changed it"
    memory = f" and {size(card.memory_bytes)}" if card.memory_bytes else ""
    return Finding(
        severity=Severity.WORTHWHILE,
        found=f"with driver {card.driver}{memory}, the driver's system-memory fallback {state}",
        why=_OVERFLOW,
        gain=Gain(
            kind=Kind.SPEED,
            text="10 × for pictures that overflow the card's memory, nothing for others",
            certainty=Certainty.MEASURED_ELSEWHERE,
            source="AUTOMATIC1111/stable-diffusion-webui#11063; NVIDIA's answer 5490",
            times=1.5,
        ),
        fix=_no_fallback(facts),
    )


def power_mode(facts: Facts) -> Finding | None:
    """A laptop on battery, or in a mode that saves power; Apple's compute as fast on battery."""
    windows = facts.windows
    if facts.system.os == "macOS" or not (windows.is_on_battery or windows.power_mode == "efficiency"):
        return None
    found = "the computer runs on battery" if windows.is_on_battery else "Windows' power mode saves energy"
    is_linux = facts.system.os == "Linux" and not facts.system.is_wsl
    fix = (
        Fix(text="Plug it in and choose performance.", command="powerprofilesctl set performance")
        if is_linux
        else Fix(text="Plug it in and choose best performance under Settings › System › Power.")
    )
    return Finding(
        severity=Severity.WORTHWHILE,
        found=found,
        why="Laptops then hold card and processor to a fraction of their power.",
        gain=Gain(
            kind=Kind.SPEED,
            text="1.5 to 3 ×, by the laptop",
            certainty=Certainty.REASONED,
            source="the power that laptops allow on battery, often a third",
            times=2.0,
        ),
        fix=fix,
    )


def _cliff(card: Card, cliff: Cliff, facts: Facts) -> Finding | None:
    """What measuring showed, which counts for more than what is usual."""
    if cliff.held_bytes is None:
        return None
    return Finding(
        severity=Severity.WORTHWHILE,
        found=f"past {size(cliff.held_bytes)} the {card.name}'s memory is the computer's: copies become "
        f"{cliff.times_slower:.0f} times slower",
        why=_OVERFLOW,
        gain=Gain(
            kind=Kind.SPEED,
            text=f"{cliff.times_slower:.0f} × for pictures that overflow the card's memory, nothing for others",
            certainty=Certainty.MEASURED_HERE,
            source="copies of growing total size",
            times=1.5,
        ),
        fix=_no_fallback(facts),
    )


def _no_fallback(facts: Facts) -> Fix:
    if facts.system.is_wsl:
        return Fix(
            text="Inside WSL2 the driver ignores its setting (microsoft/WSL#11050): smaller pictures, or --medvram."
        )
    return Fix(
        text="NVIDIA Control Panel › Manage 3D settings › CUDA - Sysmem Fallback Policy › Prefer No Sysmem Fallback; "
        "`hayate doctor --measure` shows whether it acted."
    )
