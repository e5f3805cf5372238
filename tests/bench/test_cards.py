"""The table of cards against what a multiprocessor of each generation does per clock, and the names it is found by."""

from __future__ import annotations

import pytest

from hayate.bench.cards import CARDS, Card, find_card
from hayate.errors import UnknownName

FUSED_PER_CLOCK = {"volta": 512, "turing": 512, "ampere": 512, "ada": 512, "blackwell": 512, "hopper": 2048}
"""Multiply-adds of fp16 numbers per clock and multiprocessor, by NVIDIA's whitepapers; GA100 has twice Ampere's."""
HALVED = ("RTX 2", "RTX 3", "RTX 4", "RTX 5")
"""GeForce cards add up in 32 bits at half the rate."""


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_tensor_throughput_is_multiprocessors_times_clock(card: Card) -> None:
    per_clock = FUSED_PER_CLOCK[card.generation] * (2 if card.name.startswith(("A100", "A800")) else 1)
    is_halved = card.name.startswith(HALVED)
    fp16_peak = 2 * per_clock * card.cycles_per_s
    assert card.fp16_peak_flops == pytest.approx(fp16_peak, rel=0.015)
    assert card.peak_flops == pytest.approx(fp16_peak / (2 if is_halved else 1), rel=0.015)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("4090", "RTX 4090"),
        ("rtx4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 3060", "RTX 3060 12GB"),
        ("NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("NVIDIA A100-SXM4-40GB", "A100 40GB"),
        ("Tesla T4", "T4"),
        ("NVIDIA GeForce RTX 4060 Ti", "RTX 4060 Ti"),
    ],
)
def test_a_card_is_found_as_people_and_drivers_call_it(name: str, found: str) -> None:
    assert find_card(name).name == found


@pytest.mark.parametrize("name", CARDS)
def test_every_card_is_found_by_its_own_name(name: str) -> None:
    assert find_card(name) is CARDS[name]


def test_an_unknown_card_lists_the_nearest() -> None:
    with pytest.raises(UnknownName, match="RTX 4090") as caught:
        find_card("RTX 4095")
    assert "RTX 4090" in caught.value.nearest
    assert caught.value.exit_code == 2
