"""Pickled files are read as data: what they hold comes back, and what they would do is not done."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from hayate.errors import BrokenFile, HayateError, RefusedFormat, UsageError
from hayate.weights import pickles
from hayate.weights.pickles import read_pickle_tensors


class Call:
    """Unpickling it calls something."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


def test_tensors_of_dictionaries_in_dictionaries_come_back_by_name(tmp_path: Path) -> None:
    path = tmp_path / "some.pt"
    half, whole = torch.randn(3, 4).half(), torch.arange(6).reshape(2, 3).T
    torch.save({"string_to_param": {"*": half}, "deep": {"er": {"w": whole}}, "name": "x", "step": 7}, path)
    found = read_pickle_tensors(path)
    assert set(found) == {"string_to_param.*", "deep.er.w"}
    assert torch.equal(found["string_to_param.*"], half)
    assert torch.equal(found["deep.er.w"], whole)
    path.unlink()
    assert torch.equal(found["deep.er.w"], whole), "what was read needs the file no more"


def test_nothing_that_a_pickle_asks_for_is_done(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    calls = {
        "shell": Call(os.system, f"touch {canary}"),
    }
    for name, call in calls.items():
        path = tmp_path / f"{name}.pth"
        torch.save({"weight": torch.ones(2), "evil": call}, path)
        with pytest.raises(RefusedFormat, match="it asks for"):
            read_pickle_tensors(path)
    plain = tmp_path / "plain.pth"
    plain.write_bytes(pickle.dumps(calls["shell"], protocol=2))
    with pytest.raises(HayateError):
        read_pickle_tensors(plain)
    assert not canary.exists()


@pytest.mark.parametrize("event", ["socket.connect", "subprocess.Popen", "os.system", "os.exec"])
def test_the_reader_may_do_nothing_else(event: str) -> None:
    with pytest.raises(PermissionError, match=event):
        pickles._refuse_all_else(event, ())
    pickles._refuse_all_else("open", ())


def test_a_tensor_that_claims_more_than_the_memory_is_a_broken_file(tmp_path: Path) -> None:
    """A small file whose tensor is expanded: written out it would be 64 GiB."""
    path = tmp_path / "bomb.pth"
    torch.save({"w": torch.ones(1).expand(2**34)}, path)
    assert path.stat().st_size < 10_000
    with pytest.raises(BrokenFile, match="not opened"):
        read_pickle_tensors(path)


def test_broken_files_are_one_line(tmp_path: Path) -> None:
    whole = tmp_path / "whole.pth"
    torch.save({"w": torch.ones(100)}, whole)
    broken = {
        "truncated.pth": whole.read_bytes()[:-200],
    }
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(HayateError, match="is not opened") as caught:
            read_pickle_tensors(tmp_path / name)
        assert "\n" not in str(caught.value)
    (tmp_path / "empty.pth").touch()
    with pytest.raises(BrokenFile, match="is empty"):
        read_pickle_tensors(tmp_path / "empty.pth")
    with pytest.raises(UsageError, match="there is no file"):
        read_pickle_tensors(tmp_path / "none.pth")
    torch.save({"step": 3}, whole)
    with pytest.raises(RefusedFormat, match="no tensors"):
        read_pickle_tensors(whole)
