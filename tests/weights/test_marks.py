"""Samples tell files apart, and those with the same tensors not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from hayate.weights import overflowing
from hayate.weights.hashes import file_sha256
from hayate.weights.marks import SAMPLE_BYTES, layout_mark, sampled_mark
from hayate.weights.overflowing import is_known_to_overflow
from hayate.weights.read import read_header


def write(path: Path, seed: int = 0, **changes: torch.Tensor) -> Path:
    generator = torch.Generator().manual_seed(seed)
    tensors = {f"a.{index}": torch.randn((64, 33 + index), generator=generator) for index in range(4)}
    save_file({**tensors, **changes}, path, metadata={"seed": str(seed)})
    return path


def test_the_same_tensors_have_the_same_mark_whatever_the_metadata(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.safetensors"), tmp_path / "b.safetensors"
    generator = torch.Generator().manual_seed(0)
    tensors = {f"a.{index}": torch.randn((64, 33 + index), generator=generator) for index in range(4)}
    save_file(dict(reversed(tensors.items())), second, metadata={"title": "another"})
    assert sampled_mark(read_header(first)) == sampled_mark(read_header(second))


def test_other_numbers_and_other_layouts_have_other_marks(tmp_path: Path) -> None:
    files = [
        write(tmp_path / "a.safetensors"),
        write(tmp_path / "b.safetensors", seed=1),
        write(tmp_path / "c.safetensors", b=torch.ones(3)),
        write(tmp_path / "d.safetensors", b=torch.ones(3).half()),
    ]
    headers = [read_header(file) for file in files]
    assert len({sampled_mark(header) for header in headers}) == 4
    assert layout_mark(headers[0]) == layout_mark(headers[1])
    assert len({layout_mark(header) for header in headers}) == 3


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tensor=st.integers(0, 3), offset=st.integers(-SAMPLE_BYTES // 2 + 4, SAMPLE_BYTES // 2 - 4))
def test_a_byte_of_a_sample_changes_the_mark(tensor: int, offset: int, tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors")
    header = read_header(path)
    before = sampled_mark(header)
    info = header.tensors[f"a.{tensor}"]
    place = (info.start + info.end) // 2 + offset
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    assert sampled_mark(read_header(path)) != before


def test_a_vae_that_is_known_to_overflow_is_known_by_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "vae.safetensors")
    size_bytes = path.stat().st_size
    assert not is_known_to_overflow(path, size_bytes, tmp_path)
    monkeypatch.setattr(overflowing, "KNOWN", frozenset({file_sha256(path)}))
    assert not is_known_to_overflow(path, size_bytes, tmp_path)  # of another size, and no hash is known: not read
    monkeypatch.setattr(overflowing, "SDXL_VAE_BYTES", size_bytes)
    assert is_known_to_overflow(path, size_bytes, tmp_path)
    monkeypatch.setattr(overflowing, "SDXL_VAE_BYTES", 1)
    assert is_known_to_overflow(path, size_bytes, tmp_path)  # now the cache knows it
    assert not is_known_to_overflow(tmp_path / "gone", 1, tmp_path)
