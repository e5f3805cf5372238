"""A cliff in bandwidth is found where there is one, in copies that are imagined."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hayate.runtime.cliff import TimedCopy, find_cliff, measure, timed_copies

MIB = 2**20
BLOCK = 256 * MIB


def copies(rates: list[float]) -> list[TimedCopy]:
    """A copy at each of these rates, with a block more held each time."""
    return [
        TimedCopy(held_bytes=BLOCK * count, copied_bytes=BLOCK // 2, duration_s=BLOCK / 2 / rate)
        for count, rate in enumerate(rates, start=1)
    ]


@dataclass
class Card:
    """Memory of its own, then the computer's if the driver falls back, then none."""

    own_bytes: int
    falls_back: bool
    held: list[int] = field(default_factory=list)
    fast: float = 400e9
    slow: float = 12e9

    def allocate(self, size_bytes: int) -> int:
        if sum(self.held) + size_bytes > self.own_bytes and not self.falls_back:
            raise MemoryError
        self.held.append(size_bytes)
        return sum(self.held)

    def copy_s(self, held_bytes: int) -> float:
        return BLOCK / 2 / (self.fast if held_bytes <= self.own_bytes else self.slow)


@given(st.integers(4, 80), st.integers(1, 20))
def test_a_driver_that_falls_back_is_seen_at_the_cards_memory(own: int, beyond: int) -> None:
    card = Card(own_bytes=own * BLOCK, falls_back=True)
    cliff = find_cliff(timed_copies(card.allocate, card.copy_s, (own + beyond) * BLOCK, BLOCK))
    assert cliff is not None
    assert cliff.held_bytes == own * BLOCK
    assert cliff.before_bytes_per_s / cliff.after_bytes_per_s == pytest.approx(card.fast / card.slow)


@given(st.integers(1, 80))
def test_a_driver_that_says_no_has_no_cliff(own: int) -> None:
    card = Card(own_bytes=own * BLOCK, falls_back=False)
    found = timed_copies(card.allocate, card.copy_s, 2 * own * BLOCK, BLOCK)
    assert len(found) == own
    assert find_cliff(found) is None


@given(st.lists(st.floats(300e9, 500e9), min_size=2, max_size=40))
def test_noise_is_no_cliff(rates: list[float]) -> None:
    assert find_cliff(copies(rates)) is None


@given(st.lists(st.floats(300e9, 500e9), min_size=4, max_size=40), st.data())
def test_one_slow_copy_is_no_cliff(rates: list[float], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(rates) - 2))
    slowed = [*rates[:place], 5e9, *rates[place + 1 :]]
    assert find_cliff(copies(slowed)) is None


def test_a_slow_beginning_hides_no_cliff() -> None:
    cliff = find_cliff(copies([60e9, 90e9, 400e9, 410e9, 405e9, 12e9, 11e9, 12e9]))
    assert cliff is not None
    assert cliff.held_bytes == 5 * BLOCK


def test_the_order_of_the_copies_does_not_matter() -> None:
    found = copies([400e9, 400e9, 10e9, 10e9])
    assert find_cliff(found[::-1]) == find_cliff(found)


@pytest.mark.parametrize("rates", [[], [400e9]])
def test_too_few_copies_tell_nothing(rates: list[float]) -> None:
    assert find_cliff(copies(rates)) is None


def test_real_memory_is_really_copied() -> None:
    device = torch.device("cpu")
    measure(device, 8 * MIB, MIB)  # whatever it finds on a busy machine, it ends and gives its memory back
    found = timed_copies(lambda size: torch.ones(size, dtype=torch.uint8), lambda block: 1.0, 4 * MIB, MIB)
    assert [copy.held_bytes for copy in found] == [MIB, 2 * MIB, 3 * MIB, 4 * MIB]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
def test_a_card_answers_in_one_line_of_json() -> None:
    done = subprocess.run([sys.executable, "-m", "hayate.runtime.cliff"], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    assert told is None or told["before_bytes_per_s"] > told["after_bytes_per_s"]
