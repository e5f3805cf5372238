"""Safetensors files are written whole or not at all, and as safetensors itself reads them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file

from hayate.errors import OutputError, TensorMismatch
from hayate.weights.read import open_checkpoint
from hayate.weights.write import Entry, dtype_code, entry_of, write_safetensors

DTYPES = [
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float64,
    torch.int64,
    torch.uint8,
    torch.bool,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
]

ITEM_BYTES = {dtype_code(dtype): dtype.itemsize for dtype in DTYPES}


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def write(path: Path, tensors: dict[str, torch.Tensor], metadata=None, **options) -> None:
    write_safetensors(
        path, [entry_of(name, each) for name, each in tensors.items()], tensors.__getitem__, metadata, **options
    )


def raw(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    specs=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
            lambda t: t != "__metadata__"
        ),
        st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 5), max_size=4)),
        max_size=6,
    ),
    metadata=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])), max_size=3
    ),
)
def test_safetensors_reads_back_every_bit(tmp_path, specs, metadata):
    generator = torch.Generator().manual_seed(1)
    tensors = {
        name: torch.randint(0, 2, shape, generator=generator).to(dtype) for name, (dtype, shape) in specs.items()
    }
    path = tmp_path / "a.safetensors"
    write(path, tensors, metadata, may_replace=True)
    read = load_file(path)
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (read[name].dtype, read[name].shape) == (tensor.dtype, tensor.shape)
        assert raw(read[name]) == raw(tensor)
    with safe_open(path, "pt") as file:
        assert (file.metadata() or {}) == metadata
    with open_checkpoint(path) as checkpoint:  # nothing has to be copied to be computed with
        for info in checkpoint.tensors.values():
            assert info.start % ITEM_BYTES[info.dtype] == 0


def test_tensors_are_asked_for_one_at_a_time_and_strided_ones_are_written_as_they_look(tmp_path):
    tensor = torch.arange(12.0).reshape(3, 4).T
    write(tmp_path / "a.safetensors", {"t": tensor})
    assert torch.equal(load_file(tmp_path / "a.safetensors")["t"], tensor)


def test_an_existing_file_is_kept_unless_replacing_is_asked_for(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"mine")
    with pytest.raises(OutputError, match="is there already"):
        write(path, {"t": torch.ones(2)})
    assert path.read_bytes() == b"mine"
    write(path, {"t": torch.ones(2)}, may_replace=True)
    assert torch.equal(load_file(path)["t"], torch.ones(2))


def test_a_file_that_appears_meanwhile_is_kept(tmp_path):
    path = tmp_path / "a.safetensors"

    def produce(_):
        path.write_bytes(b"somebody else's")
        return torch.ones(2)

    with pytest.raises(OutputError, match="is there already"):
        write_safetensors(path, [Entry(name="t", dtype="F32", shape=(2,))], produce)
    assert path.read_bytes() == b"somebody else's"
    assert names_in(tmp_path) == ["a.safetensors"]


@pytest.mark.parametrize("fault", [KeyboardInterrupt, RuntimeError, MemoryError])
def test_whatever_stops_the_work_leaves_nothing(tmp_path, fault):
    tensors = {"a": torch.ones(1000), "b": torch.ones(1000)}

    def produce(name):
        if name == "b":
            raise fault
        return tensors[name]

    with pytest.raises(fault):
        write_safetensors(tmp_path / "x.safetensors", [entry_of(n, t) for n, t in tensors.items()], produce)
    assert names_in(tmp_path) == []


def test_a_tensor_that_is_not_as_announced_stops_the_work(tmp_path):
    for other in (torch.ones(3), torch.ones(2, dtype=torch.float16)):
        with pytest.raises(TensorMismatch, match="'t' is"):
            write_safetensors(
                tmp_path / "x.safetensors", [Entry(name="t", dtype="F32", shape=(2,))], lambda name, other=other: other
            )
    assert names_in(tmp_path) == []


def test_two_tensors_of_one_name_are_refused(tmp_path):
    entry = Entry(name="t", dtype="F32", shape=(2,))
    with pytest.raises(TensorMismatch, match="two tensors"):
        write_safetensors(tmp_path / "x.safetensors", [entry, entry], lambda name: torch.ones(2))


def test_no_room_is_said_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(OutputError, match="no room"):
        write(tmp_path / "x.safetensors", {"t": torch.ones(100)})
    assert names_in(tmp_path) == []


def test_a_missing_folder_is_said(tmp_path):
    with pytest.raises(OutputError, match="no folder"):
        write(tmp_path / "none" / "x.safetensors", {"t": torch.ones(1)})


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of file size")
def test_a_disk_that_fills_up_leaves_nothing(tmp_path):
    """The limit of file size stands for a disk that fills up half-way: the system refuses the write itself."""
    script = f"""
import resource, torch
from pathlib import Path
from hayate.errors import OutputError
from hayate.weights.write import entry_of, write_safetensors
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
tensor = torch.ones(100_000)
try:
    write_safetensors(Path({str(tmp_path)!r}, "x.safetensors"), [entry_of("t", tensor)], lambda name: tensor)
except OutputError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "can't be written" in done.stdout
    assert names_in(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_said(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="can't be written"):
            write(tmp_path / "x.safetensors", {"t": torch.ones(1)})
    finally:
        tmp_path.chmod(0o700)


def test_the_header_is_padded_and_keeps_the_order_of_entries(tmp_path):
    write(
        tmp_path / "x.safetensors", {"z": torch.ones(3), "a": torch.ones(3), "wide": torch.ones(1, dtype=torch.float64)}
    )
    data = (tmp_path / "x.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    assert length % 8 == 0
    assert list(json.loads(data[8 : 8 + length])) == ["wide", "z", "a"]
