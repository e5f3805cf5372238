"""Textual inversions as trainers write them, and as nobody should."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import save_file
from torch import Tensor

from hayate.errors import BrokenFile, HayateError, RefusedFormat, TensorMismatch
from hayate.models.config import Family
from hayate.weights import embedding
from hayate.weights.embedding import embedding_hash, read_embedding
from tests.tiny_models import tiny_config

SD1, SDXL = tiny_config(Family.SD1), tiny_config(Family.SDXL)
torch.manual_seed(2)
VECTORS = torch.randn(3, 64).half()


def save_png(path: Path, text: str | None) -> None:
    chunks = PngInfo()
    if text is not None:
        chunks.add_text("sd-ti-embedding", text)
    Image.new("RGB", (8, 8)).save(path, pnginfo=chunks)


def as_a1111_picture(vectors: Tensor) -> str:
    content = {"string_to_token": {"*": 265}, "string_to_param": {"*": {"TORCHTENSOR": vectors.tolist()}}, "name": "x"}
    return base64.b64encode(json.dumps(content).encode()).decode()


WRITERS: dict[str, Any] = {
    "A1111.pt": lambda path: torch.save(
        {
            "string_to_token": {"*": 265},
            "string_to_param": {"*": VECTORS},
            "name": "x",
            "step": 100,
            "sd_checkpoint": None,
        },
        path,
    ),
    "diffusers.bin": lambda path: torch.save({"<x>": VECTORS}, path),
    "kohya.safetensors": lambda path: save_file({"emb_params": VECTORS}, path),
    "diffusers.safetensors": lambda path: save_file({"<x>": VECTORS}, path),
    "picture.png": lambda path: save_png(path, as_a1111_picture(VECTORS)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_form_holds_the_same_vectors(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name)
    found = read_embedding(tmp_path / name, SD1)
    assert found is not None
    (vectors,) = found
    assert vectors.dtype == torch.float32
    assert torch.equal(vectors, VECTORS.float())


def test_one_vector_may_be_flat(tmp_path: Path) -> None:
    save_file({"<x>": VECTORS[0].clone()}, tmp_path / "a.safetensors")
    found = read_embedding(tmp_path / "a.safetensors", SD1)
    assert found is not None
    assert torch.equal(found[0], VECTORS[:1].float())


def test_sdxl_has_vectors_for_both_encoders(tmp_path: Path) -> None:
    parts = {"clip_l": torch.randn(2, 64), "clip_g": torch.randn(2, 128)}
    save_file(parts, tmp_path / "a.safetensors")
    found = read_embedding(tmp_path / "a.safetensors", SDXL)
    assert found is not None
    assert all(torch.equal(own, parts[name]) for own, name in zip(found, ("clip_l", "clip_g"), strict=True))
    with pytest.raises(TensorMismatch, match="64 and 128 numbers, this model reads 64"):
        read_embedding(tmp_path / "a.safetensors", SD1)
    save_file(parts | {"clip_g": torch.randn(3, 128)}, tmp_path / "b.safetensors")
    with pytest.raises(TensorMismatch, match="2 and 3 vectors"):
        read_embedding(tmp_path / "b.safetensors", SDXL)


def test_a_picture_without_vectors_is_none(tmp_path: Path) -> None:
    save_png(tmp_path / "a.png", None)
    assert read_embedding(tmp_path / "a.png", SD1) is None


BAD: dict[str, tuple[Any, type[HayateError]]] = {
    "another family": (lambda path: save_file({"emb_params": torch.randn(2, 768)}, path), TensorMismatch),
    "no vectors": (lambda path: save_file({"emb_params": torch.empty(0, 64)}, path), TensorMismatch),
    "too many": (lambda path: save_file({"emb_params": torch.randn(76, 64)}, path), TensorMismatch),
    "not finite": (lambda path: save_file({"emb_params": torch.full((2, 64), torch.nan)}, path), BrokenFile),
    "no table": (lambda path: save_file({"emb_params": torch.randn(2, 2, 64)}, path), RefusedFormat),
    "a LoRA": (
        lambda path: save_file({"a.lora_up": torch.ones(2, 2), "a.lora_down": torch.ones(2, 2)}, path),
        RefusedFormat,
    ),
    "empty": (lambda path: path.write_bytes(b""), BrokenFile),
    "cut": (lambda path: path.write_bytes(b"\x40\0\0\0\0\0\0\0{"), BrokenFile),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_embedding_for_the_model_is_refused(what: str, tmp_path: Path) -> None:
    write, error = BAD[what]
    write(tmp_path / "a.safetensors")
    with pytest.raises(error):
        read_embedding(tmp_path / "a.safetensors", SD1)


@pytest.mark.parametrize("text", ["", "*", base64.b64encode(b"{}").decode(), base64.b64encode(b"[1]").decode(),
    base64.b64encode(b'{"string_to_param": {"*": {"TORCHTENSOR": [[1], [1, 2]]}}}').decode(),
    base64.b64encode(b'{"string_to_param": {"*": {"TORCHTENSOR": "abc"}}}').decode(),
    base64.b64encode(b'{"string_to_param": {"*": {"TORCHTENSOR": [[1%s]]}}}' % (b"0" * 400)).decode()])  # fmt: skip
def test_a_damaged_text_in_a_picture_is_refused(text: str, tmp_path: Path) -> None:
    save_png(tmp_path / "a.png", text)
    with pytest.raises((BrokenFile, RefusedFormat)):
        read_embedding(tmp_path / "a.png", SD1)


def test_a_picture_of_too_many_pixels_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_png(tmp_path / "a.png", as_a1111_picture(VECTORS))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 16)
    with pytest.raises(BrokenFile):
        read_embedding(tmp_path / "a.png", SD1)


class Shell:
    """Unpickling it runs a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (self.command,)


def test_a_pickle_that_would_do_something_is_refused_and_does_nothing(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    torch.save({"string_to_param": {"*": VECTORS}, "evil": Shell(f"touch {canary}")}, tmp_path / "a.pt")
    with pytest.raises(RefusedFormat):
        read_embedding(tmp_path / "a.pt", SD1)
    assert not canary.exists()


def test_a_file_is_read_once_while_it_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.pt"
    WRITERS["A1111.pt"](path)
    read_embedding(path, SD1)
    monkeypatch.setattr(embedding, "read_pickle_tensors", lambda path: pytest.fail("read again"))
    assert read_embedding(path, SD1) is not None
    os.utime(path, (1, 1))
    with pytest.raises(pytest.fail.Exception):
        read_embedding(path, SD1)


def test_the_hash_is_of_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"emb_params": VECTORS}, path)
    assert embedding_hash(path) == hashlib.sha256(path.read_bytes()).hexdigest()[:12]
