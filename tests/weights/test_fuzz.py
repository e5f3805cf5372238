"""Ten thousand damaged files: clean errors alone, in bounded memory; and a sample of damaged pickles."""

from __future__ import annotations

import random
import resource
import sys
from pathlib import Path

import pytest
import torch

from hayate.errors import HayateError
from hayate.weights.pickles import convert_pickle
from hayate.weights.scan import scan
from tests.weights.fuzz import fuzz, samples

COUNT = 10_000


@pytest.mark.skipif(sys.platform == "win32", reason="memory is not told")
def test_damaged_files_are_read_or_refused_in_bounded_memory(tmp_path: Path) -> None:
    fuzz(100, 1, tmp_path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = fuzz(COUNT, 0, tmp_path)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * (1 if sys.platform == "darwin" else 1024)
    assert outcomes.total() == COUNT
    assert outcomes.keys() >= {"BrokenFile", "RefusedFormat"}, "damage of more than one kind was found"
    assert grown < 64 * 2**20


def test_whole_files_are_no_damaged_ones(tmp_path: Path) -> None:
    from hayate.weights.read import open_checkpoint

    for index, content in enumerate(samples()):
        path = tmp_path / f"{index}.safetensors"
        path.write_bytes(content)
        with open_checkpoint(path) as checkpoint:
            assert all(checkpoint.get(name).shape == info.shape for name, info in checkpoint.tensors.items())


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_damaged_pickles_are_scanned_or_refused(is_zip: bool, tmp_path: Path) -> None:
    chance, path = random.Random(0), tmp_path / "a.ckpt"
    torch.save({"state_dict": {"w": torch.randn(64)}}, path, _use_new_zipfile_serialization=is_zip)
    whole = path.read_bytes()
    for index in range(500):
        path.write_bytes(_damaged(chance, whole, is_cut=index % 3 == 0))
        said = ""
        try:
            scan(path)
        except HayateError as error:
            said = error.message
        assert "\n" not in said


def test_damaged_pickles_are_converted_or_refused(tmp_path: Path) -> None:
    """A few only, since each has a process of its own."""
    chance, path, copy = random.Random(0), tmp_path / "a.ckpt", tmp_path / "copy.safetensors"
    for index in range(4):
        torch.save({"state_dict": {"w": torch.randn(64)}}, path, _use_new_zipfile_serialization=index % 2 == 0)
        path.write_bytes(_damaged(chance, path.read_bytes(), is_cut=index < 2))
        said = ""
        try:
            convert_pickle(path, copy)
            copy.unlink()
        except HayateError as error:
            said = error.message
        assert "\n" not in said
        assert [each.name for each in tmp_path.iterdir()] == [path.name]


def _damaged(chance: random.Random, whole: bytes, *, is_cut: bool) -> bytes:
    if is_cut:
        return whole[: chance.randrange(len(whole))]
    changed = bytearray(whole)
    for _ in range(chance.choice((1, 4, 16))):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)
