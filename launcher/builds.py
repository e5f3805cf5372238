"""Which build of torch has kernels for the NVIDIA cards here, and runs under their driver."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from typing import NamedTuple

INDEX = "https://download.pytorch.org/whl/"


class Card(NamedTuple):
    """What decides about a card."""

    capability: tuple[int, int]
    driver: tuple[int, ...]
    """Empty where it is not known, which counts as new enough."""


class Build(NamedTuple):
    """One index of PyTorch's, with the cards and drivers that it serves."""

    tag: str
    since: tuple[int, int]
    until: tuple[int, int]
    driver: tuple[int, ...]

    def serves(self, card: Card) -> bool:
        """Whether this build has kernels for a card and runs under its driver."""
        return self.since <= card.capability <= self.until and (not card.driver or card.driver >= self.driver)


BUILDS = (
    Build("cu130", (7, 5), (99, 0), (580, 65)),
    Build("cu129", (10, 0), (12, 1), (527, 41)),
    Build("cu126", (5, 0), (9, 0), (527, 41)),
)
"""The first that serves is taken. CUDA 13 dropped what is older than Turing (7.5), and 12.6 does not know Blackwell.

Source: the indices of torch 2.13 and NVIDIA's release notes; the doctor gives the same advice.
"""
NONE = "cpu"
OF_THE_DEFAULT_INDEX = "cu130"
"""What PyPI's wheels for Linux are built with; for Windows they compute on the CPU only."""


class Choice(NamedTuple):
    """The address of an index, and what is worth saying about it; without one PyPI serves."""

    address: str
    note: str = ""


def choose_build(cards: Iterable[Card], *, is_windows: bool) -> Choice:
    """The build for all cards, else the one for the newest of them; without a card it is PyPI's."""
    ordered = sorted(cards, reverse=True)
    if not ordered:
        return Choice("")
    everywhere = (each for each in BUILDS if all(each.serves(card) for card in ordered))
    build = next(everywhere, None) or next((each for each in BUILDS if each.serves(ordered[0])), None)
    if build is None:
        return Choice(INDEX + NONE, f"no build of torch serves {_named(ordered)}: the CPU computes")
    left_out = [card for card in ordered if not build.serves(card)]
    note = f"torch for {build.tag} does not serve {_named(left_out)}" if left_out else ""
    if build.tag == OF_THE_DEFAULT_INDEX and not is_windows:
        return Choice("", note)
    if any(_lacks_driver(card) for card in ordered):
        note = note or f"the driver is too old for {BUILDS[0].tag}; with a newer one, --reinstall-torch"
    return Choice(f"{INDEX}{build.tag}", note)


def cards_here() -> tuple[Card, ...]:
    """The NVIDIA cards that `nvidia-smi` names; none where there is no such program.

    Cost: one process, some 50 ms, before torch is installed only.
    """
    query = ["nvidia-smi", "--query-gpu=compute_cap,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError, ValueError):
        return ()
    return read_cards(answer)


def read_cards(answer: str) -> tuple[Card, ...]:
    """The cards in `nvidia-smi`'s table of capabilities and drivers; lines without a capability are none."""
    found = (re.match(r"\s*(\d+)\.(\d+)\s*(?:,\s*([\d.]*))?", line) for line in answer.splitlines())
    return tuple(
        Card((int(each[1]), int(each[2])), tuple(int(part) for part in (each[3] or "").split(".") if part))
        for each in found
        if each
    )


def _lacks_driver(card: Card) -> bool:
    newest = BUILDS[0]
    return card.capability >= newest.since and not newest.serves(card)


def _named(cards: Iterable[Card]) -> str:
    shown = (
        f"a card of capability {'.'.join(map(str, card.capability))}"
        + (f" with driver {'.'.join(map(str, card.driver))}" if card.driver else "")
        for card in cards
    )
    return " and ".join(dict.fromkeys(shown))
