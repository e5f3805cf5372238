"""Graphics cards by their published specifications: no figure here was measured.

Source: NVIDIA's whitepapers (Volta, Turing, Ampere GA100 and GA102, Ada, Hopper, RTX Blackwell), data sheets (T4, A10,
L4, L40S). Tensor throughput is dense, at the boost clock; a test holds it to multiprocessors × clock × what a
multiprocessor of its generation does per clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from hayate.errors import UnknownName

Generation = Literal["processor", "volta", "turing", "ampere", "ada", "hopper", "blackwell"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What a device can do at most."""

    name: str
    generation: Generation
    peak_flops: float
    """Matrix products of 16-bit numbers added up in 32 bits, as PyTorch does them; of a processor the measured rate."""
    fp16_peak_flops: float
    """The same added up in 16 bits, which GeForce cards do at twice the rate."""
    bandwidth_bytes_s: float
    memory_bytes: int
    multiprocessors: int = 0
    """0 for a processor."""
    clock_hz: float = 0.0
    """Boost clock."""

    @property
    def cycles_per_s(self) -> float:
        """Clock ticks of all multiprocessors together; without limit where there are none."""
        return self.multiprocessors * self.clock_hz or math.inf


def find_card(name: str) -> Card:
    """The card of this name, as people or drivers write it: "4090", "rtx 4090", "NVIDIA GeForce RTX 4090".

    Raises: UnknownName with the nearest names.
    """
    wanted = _plain(name).removeprefix("rtx")
    for known, card in (CARDS | _DRIVER_NAMES).items():
        if wanted == _plain(known).removeprefix("rtx"):
            return card
    raise UnknownName("card", name, CARDS)


def _plain(name: str) -> str:
    words = name.casefold().replace("-", " ").split()
    return "".join(word for word in words if word not in ("nvidia", "geforce", "tesla"))


def _card(
    name: str, generation: Generation, rates: tuple[float, float, float], gib: int, clock: tuple[int, int]
) -> Card:
    """`rates`: TFLOP/s added up in 32 and in 16 bits, GB/s. `clock`: multiprocessors, MHz."""
    peak, fp16_peak, bandwidth = rates
    return Card(
        name=name,
        generation=generation,
        peak_flops=peak * 1e12,
        fp16_peak_flops=fp16_peak * 1e12,
        bandwidth_bytes_s=bandwidth * 1e9,
        memory_bytes=gib << 30,
        multiprocessors=clock[0],
        clock_hz=clock[1] * 1e6,
    )


_ALL = (
    _card("V100", "volta", (125.0, 125.0, 900), 16, (80, 1530)),
    _card("T4", "turing", (65.0, 65.0, 320), 16, (40, 1590)),
    _card("RTX 2060", "turing", (25.8, 51.6, 336), 6, (30, 1680)),
    _card("RTX 2080 Ti", "turing", (53.8, 107.6, 616), 11, (68, 1545)),
    _card("A100 40GB", "ampere", (312, 312, 1555), 40, (108, 1410)),
    _card("A100 80GB", "ampere", (312, 312, 2039), 80, (108, 1410)),
    _card("A800 80GB", "ampere", (312, 312, 2039), 80, (108, 1410)),
    _card("A10", "ampere", (125, 125, 600), 24, (72, 1695)),
    _card("RTX A6000", "ampere", (154.8, 154.8, 768), 48, (84, 1800)),
    _card("RTX 3060 12GB", "ampere", (25.5, 51.0, 360), 12, (28, 1777)),
    _card("RTX 3060 Ti", "ampere", (32.4, 64.8, 448), 8, (38, 1665)),
    _card("RTX 3070", "ampere", (40.6, 81.3, 448), 8, (46, 1725)),
    _card("RTX 3080", "ampere", (59.5, 119, 760), 10, (68, 1710)),
    _card("RTX 3080 Ti", "ampere", (68.2, 136.4, 912), 12, (80, 1665)),
    _card("RTX 3090", "ampere", (71, 142, 936), 24, (82, 1695)),
    _card("RTX 3090 Ti", "ampere", (80, 160, 1008), 24, (84, 1860)),
    _card("RTX 4060", "ada", (30.2, 60.5, 272), 8, (24, 2460)),
    _card("RTX 4060 Ti 16GB", "ada", (44.1, 88.2, 288), 16, (34, 2535)),
    _card("RTX 4070", "ada", (58.3, 116.6, 504), 12, (46, 2475)),
    _card("RTX 4070 Ti", "ada", (80.2, 160.4, 504), 12, (60, 2610)),
    _card("RTX 4080", "ada", (97.5, 194.9, 716.8), 16, (76, 2505)),
    _card("RTX 4090", "ada", (165.2, 330.3, 1008), 24, (128, 2520)),
    _card("L4", "ada", (121, 121, 300), 24, (58, 2040)),
    _card("L40S", "ada", (362, 362, 864), 48, (142, 2520)),
    _card("RTX 5070", "blackwell", (61.7, 123.5, 672), 12, (48, 2512)),
    _card("RTX 5070 Ti", "blackwell", (87.9, 175.8, 896), 16, (70, 2452)),
    _card("RTX 5080", "blackwell", (112.6, 225.1, 960), 16, (84, 2617)),
    _card("RTX 5090", "blackwell", (209.5, 419, 1792), 32, (170, 2407)),
    _card("H100 PCIe", "hopper", (756, 756, 2000), 80, (114, 1620)),
    _card("H100 SXM", "hopper", (989.4, 989.4, 3350), 80, (132, 1830)),
    _card("H200", "hopper", (989.4, 989.4, 4800), 141, (132, 1830)),
)
CARDS: MappingProxyType[str, Card] = MappingProxyType({card.name: card for card in _ALL})
_DRIVER_NAMES: MappingProxyType[str, Card] = MappingProxyType(
    {
        "RTX 3060": CARDS["RTX 3060 12GB"],
        "RTX 4060 Ti": replace(CARDS["RTX 4060 Ti 16GB"], name="RTX 4060 Ti", memory_bytes=8 << 30),
        "A100": CARDS["A100 80GB"],
        "A100-SXM4-40GB": CARDS["A100 40GB"],
        "A100-SXM4-80GB": CARDS["A100 80GB"],
        "A100-PCIE-40GB": CARDS["A100 40GB"],
        "A100 80GB PCIe": replace(CARDS["A100 80GB"], name="A100 80GB PCIe", bandwidth_bytes_s=1935e9),
        "A800-SXM4-80GB": CARDS["A800 80GB"],
        "H100": CARDS["H100 SXM"],
        "H100 80GB HBM3": CARDS["H100 SXM"],
        "V100-SXM2-16GB": CARDS["V100"],
        "V100-SXM2-32GB": replace(CARDS["V100"], name="V100 32GB", memory_bytes=32 << 30),
    }
)
"""Names that stand for a card by another name; drivers call every RTX 4060 Ti and RTX 3060 alike."""
