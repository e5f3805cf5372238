"""Graphics cards, as NVIDIA's own program and the system tell of them; torch is not imported for it."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Literal

import psutil

from hayate.doctor.facts import Card, Cliff, Holder, System
from hayate.doctor.probes.ask import Unanswered, ask, read_text

_FIELDS: tuple[str, ...] = (
    "uuid",
    "name",
    "compute_cap",
    "memory.total",
    "memory.used",
    "driver_version",
    "pstate",
    "power.limit",
    "power.default_limit",
    "power.max_limit",
    "clocks.sm",
    "clocks.max.sm",
    "pcie.link.gen.current",
    "pcie.link.gen.max",
    "pcie.link.width.current",
    "pcie.link.width.max",
    "display_active",
    "clocks_throttle_reasons.active",
)
_SLOWDOWNS = {0x08: "hardware slowdown", 0x20: "heat", 0x40: "heat (hardware)", 0x80: "power brake"}
"""Bits of the driver's reasons for a low clock that are worth a word. Source: NVML, nvmlClocksThrottleReasons."""
_MEASURE_LIMIT_S = 120.0
_PROCESS_FIELDS = ("gpu_uuid", "pid", "name", "used_memory")
_AS_CSV = "--format=csv,noheader,nounits"
_UNKNOWN_FIELD = re.compile(r'Field "([^"]+)" is not a valid field')
_CUDA = re.compile(r"CUDA Version\s*:\s*(\d+\.\d+)")
_VENDORS: dict[str, Literal["amd", "intel"]] = {"0x1002": "amd", "0x8086": "intel"}


def cards(about: System) -> tuple[Card, ...]:
    """Every card that can be found out.

    Raises: Unanswered where NVIDIA's program is there and fails.
    """
    if about.os == "macOS":
        is_apple = about.machine == "arm64"
        memory_bytes = psutil.virtual_memory().total
        return (Card(name="Apple GPU", vendor="apple", memory_bytes=memory_bytes),) if is_apple else ()
    return (*_nvidia(), *_others())


def with_cliff(card: Card) -> Card:
    """The card with what copies of growing size show, timed in a process of its own.

    Raises: Unanswered.
    Cost: the import of torch, a second or two of copies, ten where there is a cliff.
    """
    told = json.loads(ask([sys.executable, "-m", "hayate.runtime.cliff"], _MEASURE_LIMIT_S).strip().splitlines()[-1])
    if told is None:
        return replace(card, cliff=Cliff())
    slower = told["before_bytes_per_s"] / told["after_bytes_per_s"]
    return replace(card, cliff=Cliff(held_bytes=told["held_bytes"], times_slower=slower))


def parse(
    table: str, processes: str = "", banner: str = "", fields: Sequence[str] = _FIELDS, own: Collection[int] = ()
) -> tuple[Card, ...]:
    """The cards in nvidia-smi's answers, which give `[N/A]` for what a card does not have.

    What the processes `own` hold counts as free.
    """
    found_cuda = _CUDA.search(banner)
    rows = (dict(zip(fields, map(str.strip, row), strict=False)) for row in csv.reader(io.StringIO(table)) if row)
    found = [(row.get("uuid", ""), _card(row, found_cuda[1] if found_cuda else None)) for row in rows]
    return tuple(_with_holders(card, [row for row in _held(processes) if row[0] == uuid], own) for uuid, card in found)


def _nvidia() -> tuple[Card, ...]:
    smi = shutil.which("nvidia-smi") or _usual_place()
    if not smi:
        return ()
    with ThreadPoolExecutor(max_workers=2) as pool:  # each call may wake the driver, which takes a second
        processes = pool.submit(_or_nothing, [smi, f"--query-compute-apps={','.join(_PROCESS_FIELDS)}", _AS_CSV])
        banner = pool.submit(_or_nothing, [smi])
        table, fields = _table(smi)
        return parse(table, processes.result(), banner.result(), fields, _own_processes())


def _table(smi: str) -> tuple[str, list[str]]:
    """The cards' table and its columns: those that this driver knows.

    Raises: Unanswered.
    """
    fields = list(_FIELDS)
    while True:
        try:
            return ask([smi, f"--query-gpu={','.join(fields)}", _AS_CSV]), fields
        except Unanswered as error:
            unknown = _UNKNOWN_FIELD.search(str(error))
            if unknown is None or unknown[1] not in fields:
                raise
            fields.remove(unknown[1])


def _or_nothing(command: list[str]) -> str:
    """The answer to what is good to know and no more."""
    try:
        return ask(command)
    except Unanswered:
        return ""


def _usual_place() -> str:
    """nvidia-smi where the search path does not lead to it: inside WSL2, and in a service without a PATH."""
    places = ("/usr/lib/wsl/lib/nvidia-smi", r"C:\Windows\System32\nvidia-smi.exe")
    return next((place for place in places if Path(place).exists()), "")


def _card(row: dict[str, str], cuda: str | None) -> Card:
    capability = _numbers(row.get("compute_cap", ""))
    reasons = row.get("clocks_throttle_reasons.active", "")
    bits = int(reasons, 16) if reasons.startswith("0x") else 0
    return Card(
        name=row.get("name", ""),
        capability=(capability[0], capability[1]) if len(capability) == 2 else None,
        memory_bytes=_mib(row.get("memory.total", "")),
        used_bytes=_mib(row.get("memory.used", "")),
        driver=row.get("driver_version", ""),
        driver_cuda=cuda,
        state=row.get("pstate", "") if row.get("pstate", "").startswith("P") else None,
        power_limit_w=_number(row.get("power.limit", "")),
        power_default_w=_number(row.get("power.default_limit", "")),
        power_max_w=_number(row.get("power.max_limit", "")),
        clock_mhz=_whole(row.get("clocks.sm", "")),
        clock_max_mhz=_whole(row.get("clocks.max.sm", "")),
        slowdowns=tuple(text for bit, text in _SLOWDOWNS.items() if bits & bit),
        pcie_generation=_whole(row.get("pcie.link.gen.current", "")),
        pcie_generation_max=_whole(row.get("pcie.link.gen.max", "")),
        pcie_lanes=_whole(row.get("pcie.link.width.current", "")),
        pcie_lanes_max=_whole(row.get("pcie.link.width.max", "")),
        has_display={"Enabled": True, "Disabled": False}.get(row.get("display_active", "")),
    )


def _held(processes: str) -> list[tuple[str, int, Holder]]:
    """The card, the process' number, and what it holds. Names are programs' own: paths and arguments stay out."""
    rows = [[each.strip() for each in row] for row in csv.reader(io.StringIO(processes))]
    return [
        (uuid, int(pid), Holder(name=re.split(r"[\\/]", name.split(" --")[0])[-1], used_bytes=_mib(used)))
        for uuid, pid, name, used in (row for row in rows if len(row) == 4)
        if pid.isdigit()
    ]


def _with_holders(card: Card, held: Sequence[tuple[str, int, Holder]], own: Collection[int]) -> Card:
    """The card with those who hold its memory: a server's worker is no other program, and its part is none taken."""
    mine = [holder.used_bytes for _, pid, holder in held if pid in own]
    known = [used for used in mine if used is not None]
    used_bytes = card.used_bytes if len(known) == len(mine) else None  # Windows doesn't say what each one holds
    used_bytes = None if used_bytes is None else max(0, used_bytes - sum(known))
    return replace(card, used_bytes=used_bytes, holders=tuple(holder for _, pid, holder in held if pid not in own))


def _own_processes() -> frozenset[int]:
    """This process and those that it started."""
    with contextlib.suppress(psutil.Error):
        return frozenset((os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))))
    return frozenset((os.getpid(),))


def _others() -> tuple[Card, ...]:
    """Cards of other makes, as Linux lists them; integrated graphics of Intel don't compute here."""
    if sys.platform != "linux":
        return ()
    vendors = [read_text(path) for path in sorted(Path("/sys/class/drm").glob("card?/device/vendor"))]
    return tuple(Card(name="AMD GPU", vendor="amd") for vendor in vendors if _VENDORS.get(vendor) == "amd")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _whole(text: str) -> int | None:
    """A whole number; None also for a nought, which stands for unknown."""
    number = _number(text)
    return int(number) if number else None


def _mib(text: str) -> int | None:
    number = _number(text)
    return None if number is None else int(number * 2**20)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(".") if part.isdigit()]
