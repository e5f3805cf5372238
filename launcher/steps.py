"""The steps of an installation: each one process, one line on the screen, and a hint where it fails."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from launcher.home import Home
from launcher.telling import KilledError, SetupError, say
from launcher.words import split


def step(home: Home, label: str, module: list[str], python: Path | None = None) -> None:
    """Run one module of `python`, else of the home's, behind one line on the screen; its output is shown when it fails.

    Raises: SetupError, KilledError.
    """
    python = python or home.python
    say(f"hayate: {label} … ")
    started = time.monotonic()
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PIP_PROGRESS_BAR": "off"}
    if module[0] == "pip" and python.parent.parent.joinpath("pyvenv.cfg").exists():
        environment["PIP_USER"] = "0"  # a user-wide "--user" preference is an error inside a venv
    if index := os.environ.get("INDEX_URL"):
        environment["PIP_INDEX_URL"] = index
    log = home.state / "install.log"
    with log.open("a", encoding="utf-8") as output:
        command = [str(python), *(module if module[0].startswith("-") else ["-m", *module])]
        output.write(f"\n$ {' '.join(command)}\n")
        output.flush()
        code = subprocess.call(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)
    if code == 0:
        say(f"{time.monotonic() - started:.1f} s\n")
        return
    if code < 0:
        raise KilledError(f"{label}: {module[0]} was killed", "is the memory full? The next start installs anew")
    lines = log.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
    say("failed\n  " + "\n  ".join(lines[-12:]) + "\n")
    raise SetupError(f"{label}: {module[0]} failed", explain("\n".join(lines)) or f"its whole output: {log}")


CAUSES = (
    ("No space left on device", "the disk is full: make room, or set VENV_DIR to another disk"),
    ("ensurepip is not available", "on Debian and Ubuntu: sudo apt install python3-venv"),
    ("No module named venv", "on Debian and Ubuntu: sudo apt install python3-venv"),
    ("No module named ensurepip", "on Debian and Ubuntu: sudo apt install python3-venv"),
    ("externally-managed-environment", "the system manages this Python: don't set VENV_DIR to -"),
    ("No module named pip", "this Python has no pip: don't set VENV_DIR to -, or install pip"),
    ("Permission denied", "a folder can't be written: check its permissions"),
    ("Read-only file system", "a folder can't be written: set VENV_DIR to another place"),
    ("Failed to establish a new connection", "no connection to the package index: check the network or proxy"),
    ("NewConnectionError", "no connection to the package index: check the network or proxy"),
    ("NameResolutionError", "no connection to the package index: check the network or proxy"),
    ("Read timed out", "the connection is too slow: start again, what was loaded is kept"),
    ("No matching distribution found", "no package for this Python or system: try Python 3.12, or see TORCH_COMMAND"),
)
"""What a failed step writes, and what to do about it; the first match counts."""


def explain(output: str) -> str:
    """The hint for a failed step, or nothing."""
    return next((hint for cause, hint in CAUSES if cause in output), "")


def torch_command(home: Home, pins: Path) -> list[str]:
    """The module and arguments that install torch.

    With an index of PyTorch's own, torch alone comes from there; its dependencies follow with the packages, pinned.
    """
    if command := os.environ.get("TORCH_COMMAND"):
        words = split(command)
        return words[2:] if words[1:2] == ["-m"] else words
    torch = f"torch=={pin(home, 'torch')}"
    if index := os.environ.get("TORCH_INDEX_URL") or cuda_index():
        return ["pip", "install", "--no-deps", "--index-url", index, torch]
    return ["pip", "install", "--constraint", str(pins), torch]


def cuda_index() -> str:
    """PyTorch's index for the NVIDIA cards of this machine, or nothing where the default index serves."""
    from launcher.builds import cards_here, choose_build

    choice = choose_build(cards_here(), is_windows=os.name == "nt")
    if choice.note:
        say(f"note: {choice.note}\n")
    return choice.address


def pin(home: Home, package: str) -> str:
    """The version of `package` in constraints.txt."""
    for line in (home.root / "constraints.txt").read_text().splitlines():
        name, _, version = line.partition("==")
        if name == package:
            return version.split()[0]
    raise SetupError(f"constraints.txt has no {package}", "take it from a fresh copy of the project")


def constraints(home: Home, *, keeps_torch: bool) -> Path:
    """The file of pins; without torch's when another torch was asked for or is already there."""
    pins = home.root / "constraints.txt"
    if not keeps_torch:
        return pins
    without = home.state / "constraints.txt"
    without.write_text("".join(line for line in pins.open() if not line.startswith("torch==")))
    return without
