"""The drawn world behind the built-in model: its pictures, its captions, what is held out, and its judge."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

TRAINING = Path(__file__).parents[2] / "training"
sys.path.insert(0, str(TRAINING))

import captions  # noqa: E402
import shapes  # noqa: E402
from budget import pixels_to_signal  # noqa: E402
from judge import load_judge, verdicts  # noqa: E402
from landscapes import draw  # noqa: E402
from world import CLASSES, combinations, held_out, labels, trained  # noqa: E402

FRESH_SEED = 30_000_000
"""Above every seed that the training used."""


def test_a_tenth_is_held_out_and_shows_every_value() -> None:
    kept, trained_on = set(held_out()), set(trained())
    assert not kept & trained_on
    assert kept | trained_on == set(combinations())
    assert 0.08 < len(kept) / len(combinations()) < 0.12
    for name, values in CLASSES.items():
        assert {getattr(landscape, name) for landscape in kept} == set(values)


def test_a_drawing_follows_from_attributes_and_seed() -> None:
    landscape = combinations()[123]
    assert np.array_equal(draw(landscape, 5), draw(landscape, 5))
    assert not np.array_equal(draw(landscape, 5), draw(landscape, 6))


@pytest.mark.parametrize(
    ("cover", "area"),
    [
        (shapes.disc(60.3, 61.7, 20.5), math.pi * 20.5**2),
        (shapes.box(10.25, 20.5, 40.75, 33.0), 30.5 * 12.5),
        (shapes.polygon([(20, 30), (100, 40), (50, 110)]), 0.5 * abs(80 * 80 - 30 * 10)),
        (shapes.ellipse(64, 64, 40, 12), math.pi * 40 * 12),
        (shapes.capsule((30, 30), (90, 70), 6), math.pi * 36 + 12 * math.hypot(60, 40)),
    ],
    ids=["disc", "box", "polygon", "ellipse", "capsule"],
)
def test_coverage_adds_up_to_the_area(cover: np.ndarray, area: float) -> None:
    assert cover.sum() == pytest.approx(area, rel=0.01)


def test_a_full_caption_names_every_attribute() -> None:
    rng = np.random.default_rng(0)
    for landscape in combinations():
        text = captions.caption(landscape, rng, is_full=True)
        places = captions.GROUND_TAGS[landscape.foreground] + captions.GROUND_PLACES[landscape.foreground]
        times = captions.TIME_TAGS[landscape.time] + captions.TIME_PHRASES[landscape.time]
        assert landscape.light in text
        assert any(f"{word} {landscape.light}" in text for word in captions.WORDS[landscape.light_colour])
        assert any(
            f"{word} {noun}" in text for word in captions.WORDS[landscape.mountains] for noun in captions.MOUNTAIN_NOUNS
        )
        assert any(place in text for place in places)
        assert any(time in text for time in times)


def test_an_object_is_named_exactly_when_it_is_there() -> None:
    rng = np.random.default_rng(1)
    nouns = {noun.split()[-1] for choices in captions.OBJECT_NOUNS.values() for noun in choices}
    for landscape in combinations():
        words = captions.caption(landscape, rng).replace(",", "").split()
        assert bool(nouns & set(words)) == (landscape.object != "none")


def test_the_judge_names_what_fresh_drawings_show() -> None:
    chosen = combinations()[::9]
    pictures = np.stack([draw(landscape, FRESH_SEED + i) for i, landscape in enumerate(chosen)])
    found = verdicts(load_judge(), pixels_to_signal(torch.from_numpy(pictures)).contiguous()).numpy()
    right = (found == np.stack([labels(landscape) for landscape in chosen])).mean(axis=0)
    assert right.min() >= 0.98
