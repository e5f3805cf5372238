"""Opening files: tensors as safetensors gives them, and one clear error for everything else."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hayate.errors import BrokenFile, RefusedFormat, UsageError
from hayate.weights.read import open_checkpoint, read_header


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    return {
        "half": torch.randn(3, 5).half(),
        "brain": torch.randn(7).bfloat16(),
        "single": torch.randn(2, 3, 4),
        "eight": torch.randn(4).to(torch.float8_e4m3fn),
        "whole": torch.arange(5),
        "scalar": torch.tensor(3.5),
        "empty": torch.empty(0, 4),
        "claims": torch.tensor([True, False]),
    }


def test_tensors_are_those_that_safetensors_reads(tmp_path, tensors):
    path = tmp_path / "model.bin"  # the content decides, not the extension
    save_file(tensors, path, metadata={"format": "pt"})
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.metadata == {"format": "pt"}
        assert checkpoint.size_bytes == path.stat().st_size
        ours = {name: checkpoint.get(name) for name in checkpoint.tensors}
    theirs = load_file(path)
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert ours[name].dtype == tensor.dtype
        assert ours[name].shape == tensor.shape
        assert torch.equal(ours[name].view(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8))


def test_writing_to_a_tensor_leaves_the_file_alone(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(4)}, path)
    with open_checkpoint(path) as checkpoint:
        tensor = checkpoint.get("a")
        again = checkpoint.get("a")
    tensor.fill_(1)
    assert again.data_ptr() == tensor.data_ptr()  # no copy was made
    assert torch.equal(load_file(path)["a"], torch.zeros(4))


def test_a_tensor_off_alignment_is_read(tmp_path):
    path = tmp_path / "odd.safetensors"
    header = (
        b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}}'
    )
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\x07" + b"\x00\x00\x80\x3f")
    with open_checkpoint(path) as checkpoint:
        tensor = checkpoint.get("b")
    assert tensor.item() == 1.0
    assert tensor.data_ptr() % tensor.itemsize == 0  # some processors can't read it otherwise


def test_a_dtype_without_a_torch_name_is_refused_when_it_is_wanted(tmp_path):
    path = tmp_path / "four.safetensors"
    header = b'{"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\x00")
    with open_checkpoint(path) as checkpoint, pytest.raises(RefusedFormat, match="'a' has dtype F4"):
        checkpoint.get("a")


class Canary:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


def tar_bytes() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("sys_info"))
    return buffer.getvalue()


def zip_bytes() -> bytes:
    buffer = io.BytesIO()
    torch.save({"state_dict": {"a": torch.zeros(2)}}, buffer)
    return buffer.getvalue()


FOREIGN = {
    "empty": (b"", BrokenFile, "is empty"),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", BrokenFile, "git lfs pull"),
    "HTML": (b"\n<!DOCTYPE html><html><body>Log in</body></html>", BrokenFile, "web page"),
    "HTML with a mark": (b"\xef\xbb\xbf<html>", BrokenFile, "web page"),
    "JSON": (b'{"error": "unauthorized"}', BrokenFile, "JSON"),
    "zip": (zip_bytes(), RefusedFormat, "hayate models convert"),
    "tar": (tar_bytes(), RefusedFormat, "hayate models convert"),
    "GGUF": (b"GGUF\x03\x00\x00\x00" + bytes(24), RefusedFormat, "GGUF"),
    "text": (b"just some words, nothing else", BrokenFile, "not a safetensors file"),
    "three bytes": (b"abc", BrokenFile, "not a safetensors file"),
    "zeros": (bytes(64), BrokenFile, "not a safetensors file"),
    "cut in the header": ((200).to_bytes(8, "little") + b'{"a":', BrokenFile, "truncated"),
}


@pytest.mark.parametrize("extension", [".safetensors", ".SafeTensors", ".ckpt"])
@pytest.mark.parametrize("case", FOREIGN)
def test_what_is_no_safetensors_file_is_told_by_its_content(tmp_path, case, extension):
    content, kind, sentence = FOREIGN[case]
    path = tmp_path / f"model{extension}"
    path.write_bytes(content)
    with pytest.raises(kind) as caught:
        open_checkpoint(path)
    assert sentence in str(caught.value)
    assert str(path) in caught.value.message
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("extension", [".ckpt", ".pt", ".bin", ".SafeTensors"])
def test_a_pickle_is_refused_and_never_run(tmp_path, protocol, extension):
    path, canary = tmp_path / f"model{extension}", tmp_path / "canary"
    path.write_bytes(pickle.dumps(Canary(canary), protocol=protocol))
    with pytest.raises(RefusedFormat, match="pickle"):
        open_checkpoint(path)
    assert not canary.exists()


def test_a_truncated_file_names_the_tensor_that_it_ends_in(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(100), "b": torch.zeros(100)}, path)
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(BrokenFile, match=r"model\.safetensors is truncated: tensor 'b'"):
        open_checkpoint(path)


def test_folders_missing_files_and_odd_files_are_refused(tmp_path):
    with pytest.raises(UsageError, match="there is no file"):
        open_checkpoint(tmp_path / "none.safetensors")
    with pytest.raises(RefusedFormat, match="is a folder"):
        open_checkpoint(tmp_path)
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(RefusedFormat, match="diffusers folder"):
        open_checkpoint(tmp_path)
    for name in ("a\0b", "x" * 5000):
        with pytest.raises(BrokenFile, match="can't be read"):
            open_checkpoint(name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe.safetensors")
    with pytest.raises(RefusedFormat, match="not a regular file"):
        open_checkpoint(tmp_path / "pipe.safetensors")


def test_a_file_without_permission_is_reported(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(1)}, path)

    def denied(*_: object, **__: object) -> None:  # as for other users than root, whom no permission stops
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(BrokenFile, match=r"model\.safetensors can't be read: permission denied"):
        open_checkpoint(path)


def test_reading_a_header_needs_no_torch(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(3)}, path)
    code = (
        "import sys; from hayate.weights.read import read_header; from hayate.weights import detect, folders, hashes\n"
        f"assert read_header({str(path)!r}).tensors['a'].shape == (3,); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux's list of open files")
def test_the_file_is_open_no_longer_than_its_tensors_live(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(3)}, path)

    def is_open() -> bool:
        return path in {link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}

    read_header(path)
    assert not is_open()
    with open_checkpoint(path) as checkpoint:
        tensor = checkpoint.get("a")
    assert is_open()
    assert torch.equal(tensor, torch.zeros(3))
    del tensor
    assert not is_open()
