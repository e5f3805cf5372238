"""Draws the training and validation sets once, into memory-mapped arrays in training/work."""

from __future__ import annotations

import argparse
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from landscapes import draw
from shapes import SIZE_PX
from world import CLASSES, held_out, labels, trained

WORK = Path(__file__).parent / "work"
SPLITS = {"train": 0, "validation": 10_000_000, "held_out": 20_000_000}
"""First seed of each split."""


def render(split: str, count: int) -> None:
    """Write `count` drawings of a split and their labels.

    Every combination of the split is drawn equally often; only the `held_out` split shows held-out ones.
    """
    combinations = held_out() if split == "held_out" else trained()
    jobs = [(combinations[i % len(combinations)], SPLITS[split] + i) for i in range(count)]
    path = WORK / f"{split}.npy"
    pixels = np.lib.format.open_memmap(path.with_suffix(".part"), "w+", np.uint8, (count, SIZE_PX, SIZE_PX, 3))
    with Pool() as pool:
        for i, picture in enumerate(pool.imap(_draw, jobs, chunksize=64)):
            pixels[i] = picture
    np.save(WORK / f"{split}_labels.npy", np.stack([labels(landscape) for landscape, _ in jobs]))
    path.with_suffix(".part").rename(path)


def load(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Drawings and labels of a rendered split.

    Shapes: [N, 128, 128, 3] uint8 (memory-mapped) and [N, 5] int64.
    """
    drawings, numbers = np.load(WORK / f"{split}.npy", mmap_mode="r"), np.load(WORK / f"{split}_labels.npy")
    assert numbers.shape == (len(drawings), len(CLASSES))
    return drawings, numbers


def _draw(job: tuple) -> np.ndarray:
    return draw(*job)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=int, default=24_000)
    parser.add_argument("--validation", type=int, default=1_000)
    counts = parser.parse_args()
    WORK.mkdir(exist_ok=True)
    for split, count in (("held_out", 990), ("validation", counts.validation), ("train", counts.train)):
        render(split, count)


if __name__ == "__main__":
    main()
