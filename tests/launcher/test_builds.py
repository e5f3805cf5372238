"""Which torch a card gets: nvidia-smi's answers, and the doctor's advice for the same cards."""

from __future__ import annotations

import itertools

import pytest

from hayate.doctor.checks import installing
from hayate.doctor.figures import older
from launcher.builds import BUILDS, INDEX, Card, choose_build, read_cards


@pytest.mark.parametrize(
    ("answer", "is_windows", "tag"),
    [
        ("8.9, 581.15\n", True, "cu130"),
        ("8.9, 581.15\n", False, ""),
        ("8.9\n", False, ""),
        ("12.0, 572.16\n", True, "cu129"),
        ("8.6, 551.23\n", True, "cu126"),
        ("6.1, 582.28\n", True, "cu126"),
        ("8.6, 582.28\n6.1, 582.28\n", False, "cu126"),
        ("12.0, 582.28\n6.1, 582.28\n", True, "cu130"),
        ("3.5, 470.256.02\n", False, "cpu"),
        ("[N/A], 470.1\nNVIDIA-SMI has failed\n", True, ""),
        ("", True, ""),
    ],
)
def test_the_card_and_its_driver_decide(answer: str, is_windows: bool, tag: str) -> None:
    choice = choose_build(read_cards(answer), is_windows=is_windows)
    assert choice.address == (INDEX + tag if tag else "")


def test_what_is_left_out_is_said() -> None:
    assert "6.1" in choose_build(read_cards("12.0, 582.28\n6.1, 582.28\n"), is_windows=True).note
    assert "driver is too old" in choose_build(read_cards("8.6, 551.23\n"), is_windows=True).note
    assert choose_build(read_cards("6.1, 582.28\n"), is_windows=True).note == ""
    assert "the CPU computes" in choose_build(read_cards("3.5, 470.256.02\n"), is_windows=True).note


CAPABILITIES = [(5, 0), (6, 1), (7, 0), (7, 5), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)]


@pytest.mark.parametrize(
    ("capability", "driver"), list(itertools.product(CAPABILITIES, ["528.10", "551.23", "572.16", "580.65", "591.2"]))
)
def test_the_doctor_gives_the_same_advice(capability: tuple[int, int], driver: str) -> None:
    card = Card(capability, tuple(map(int, driver.split("."))))
    ours = choose_build([card], is_windows=True).address.removeprefix(INDEX)
    theirs = next(
        tag for since, needed, tag, _ in installing.WHEELS if capability >= since and not older(driver, needed)
    )
    assert ours == theirs
    assert all(build.serves(card) for build in BUILDS if build.tag == ours)
