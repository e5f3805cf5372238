"""The operating system, and what Windows' registry says; also from inside WSL2."""

from __future__ import annotations

import contextlib
import platform
import re
import shutil
import sys
from pathlib import Path
from typing import Literal

import psutil

from hayate.doctor.facts import System, Windows
from hayate.doctor.probes.ask import Unanswered, ask, read_text

_GRAPHICS = r"HKLM\SYSTEM\CurrentControlSet\Control\GraphicsDrivers"
_POWER = r"HKLM\SYSTEM\CurrentControlSet\Control\Power\User\PowerSchemes"
_VALUE = re.compile(r"REG_\w+\s+(\S+)")
_MODES: dict[str, Literal["efficiency", "balanced", "performance"]] = {
    "961cc777-2547-4f9d-8174-7d86181b8a7a": "efficiency",
    "00000000-0000-0000-0000-000000000000": "balanced",
    "3af9b8d9-7c97-431d-ad78-34a8bfea439f": "performance",
    "ded574b5-45a0-4f42-8737-46345c09c238": "performance",
}
"""Windows' power modes by their identifiers. Source: Microsoft, "Customize the Windows performance power slider"."""


def system() -> System:
    release = platform.release()
    names: dict[str, Literal["Linux", "Windows", "macOS"]] = {"win32": "Windows", "darwin": "macOS"}
    return System(
        os=names.get(sys.platform, "Linux"),
        release=platform.mac_ver()[0] if sys.platform == "darwin" else release.partition("-")[0],
        machine=platform.machine(),
        is_wsl="microsoft" in release.lower(),
        is_container=Path("/.dockerenv").exists() or "container" in read_text("/run/systemd/container"),
    )


def windows(about: System) -> Windows:
    """What decides about speed in Windows; empty elsewhere. Cost: three calls of reg.exe, 20 to 100 ms each."""
    reg = shutil.which("reg.exe") or ("/mnt/c/Windows/System32/reg.exe" if about.is_wsl else "")
    if about.os != "Windows" and not about.is_wsl:
        return Windows(is_on_battery=_is_on_battery())
    scheduling = _value(reg, _GRAPHICS, "HwSchMode")
    mode = _value(reg, _POWER, "ActiveOverlayAcPowerScheme")
    return Windows(
        hags=None if scheduling is None else int(scheduling, 0) == 2,
        power_mode=_MODES.get(mode.lower()) if mode else None,
        is_on_battery=_is_on_battery(),
    )


def _value(reg: str, key: str, name: str) -> str | None:
    """A value of the registry; None where there is none or it can't be read."""
    with contextlib.suppress(Unanswered):
        found = _VALUE.search(ask([reg, "query", key, "/v", name])) if reg else None
        return found[1] if found else None
    return None


def _is_on_battery() -> bool | None:
    battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    return None if battery is None or battery.power_plugged is None else not battery.power_plugged
