"""The commands that mend an installation: launch.py's where it made the environment, else pip's."""

from __future__ import annotations

from collections.abc import Iterable

from hayate.doctor.facts import Card, Facts
from hayate.doctor.figures import older, quoted
from hayate.doctor.finding import Fix

INDEX = "https://download.pytorch.org/whl/"
OLDEST = (5, 0)
"""The oldest capability that any wheel of a torch that Hayate takes has kernels for."""
WHEELS = (
    ((7, 5), "580.65", "cu130", "13.0"),
    ((10, 0), "527.41", "cu129", "12.9"),
    (OLDEST, "527.41", "cu126", "12.6"),
)
"""From which capability and driver on which wheels serve, and their CUDA; the first that fits is taken.

CUDA 13 dropped what is older than Turing, and Blackwell needs 12.8.
"""
_NEEDS = "3 GB to load"
_RUNNING = "; end Hayate first"


def torch_anew(facts: Facts, card: Card | None) -> Fix:
    """The torch for a card, from PyTorch's own index; without one the usual build."""
    tag, cuda = _wheel(card) if card is not None else ("", "")
    text = f"Install the torch for CUDA {cuda}, which has kernels for this card." if tag else "Install torch again."
    if facts.python.is_own:
        command = launcher(facts, "--reinstall-torch")
        return Fix(text=f"{text[:-1]}; launch.py picks it.", command=command, needs=_NEEDS + _RUNNING)
    version = facts.python.pins.get("torch", "2.13.0")
    index = f"--index-url {INDEX}{tag} " if tag else ""
    # --force-reinstall, since a build for another CUDA has the same version and would be left alone.
    return Fix(text=text, command=pip(facts, f"install --force-reinstall {index}torch=={version}"), needs=_NEEDS)


def packages(facts: Facts, wanted: Iterable[str]) -> str:
    """The command that installs what is wanted, at the versions that Hayate is tested with."""
    return pip(facts, "install " + " ".join(f'"{each}"' for each in wanted))


def pip(facts: Facts, words: str) -> str:
    """A command of the environment's own pip."""
    return f"{quoted(facts.python.executable)} -m pip {words}"


def launcher(facts: Facts, flag: str) -> str:
    """A command of launch.py's that ends when everything is installed."""
    return f"{launched(facts)} {flag} --exit"


def launched(facts: Facts) -> str:
    """How Hayate is called where launch.py made the environment."""
    return f"{outer_python(facts)} {quoted(facts.python.launcher or 'launch.py')}"


def outer_python(facts: Facts) -> str:
    """How the system calls the Python outside the environment."""
    return "py" if facts.system.os == "Windows" else "python3"


def _wheel(card: Card) -> tuple[str, str]:
    """The index of the newest wheels that serve a card under its driver, and their CUDA."""
    driver = card.driver or "999"
    rows = ((tag, cuda) for since, needed, tag, cuda in WHEELS if card.is_from(since) and not older(driver, needed))
    return next(rows, WHEELS[0][2:])
