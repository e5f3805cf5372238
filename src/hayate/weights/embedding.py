"""Textual inversions: files with a few vectors for a text encoder, in the forms that trainers write."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from hayate.errors import BrokenFile, RefusedFormat, TensorMismatch, UsageError
from hayate.models.config import Family, ModelConfig
from hayate.weights.hashes import file_sha256, file_stamp
from hayate.weights.pickles import read_pickle_tensors
from hayate.weights.read import open_checkpoint

MAX_VECTORS = 75
"""More do not fit into a chunk."""
PNG_KEY = "sd-ti-embedding"
MAX_PNG_TEXT = 1 << 26
_PNG = b"\x89PNG\r\n\x1a\n"
_read: dict[tuple[Path, tuple[int, int]], Mapping[str, Tensor]] = {}
_MOST_READ = 64


def read_embedding(path: Path, config: ModelConfig) -> tuple[Tensor, ...] | None:
    """An embedding's vectors for each of the model's text encoders, or None for a picture without any.

    Shapes: [vectors, width] for each encoder, float32, as many in each.
    Raises: UsageError where there is no file; BrokenFile, RefusedFormat; TensorMismatch for another family's.
    Cost: milliseconds; for a pickle, the first time, a process of a second or two.
    """
    tensors = _tensors(path)
    if tensors is None:
        return None
    widths = [text.width for text in config.text]
    found = _by_encoder(tensors)
    if config.family is Family.SDXL_REFINER:
        found = found[-1:]  # it has SDXL's second text encoder alone
    has = [each.shape[1] for each in found]
    if has != widths:
        shown = [" and ".join(map(str, each)) for each in (has, widths)]
        raise TensorMismatch(
            f"the embedding {path.stem} has vectors of {shown[0]} numbers, this model reads {shown[1]}",
            hint="it was made for another family of models",
        )
    counts = {len(each) for each in found}
    if len(counts) != 1 or not 1 <= min(counts) <= MAX_VECTORS:
        raise TensorMismatch(
            f"the embedding {path.stem} has {' and '.join(map(str, sorted(counts)))} vectors",
            hint=f"1 to {MAX_VECTORS}, as many for each text encoder",
        )
    if not all(bool(each.isfinite().all()) for each in found):
        raise BrokenFile(f"{path}: the embedding is not finite", hint="take another version of it")
    return tuple(found)


def embedding_hash(path: str | Path, cache_dir: Path | None = None) -> str:
    """The 12 digits of A1111's "TI hashes": of the whole file's SHA-256.

    Raises: UsageError when the file can't be read.
    """
    return file_sha256(path, cache_dir)[:12]


def _tensors(path: Path) -> Mapping[str, Tensor] | None:
    """What is in the file, by content and not by ending; remembered while the file stays as it is."""
    try:
        key = path.resolve(), file_stamp(path)
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror or error}", hint="check the path") from error
    if key not in _read:
        tensors = _from_png(path) if start == _PNG else _from_file(path)
        if tensors is None:
            return None
        while len(_read) >= _MOST_READ:
            _read.pop(next(iter(_read)))
        _read[key] = tensors
    return _read[key]


def _from_file(path: Path) -> Mapping[str, Tensor]:
    if path.suffix.lower() == ".safetensors":
        with open_checkpoint(path) as file:
            return {name: file.get(name).float().clone() for name in file.tensors}
    return {name: tensor.float() for name, tensor in read_pickle_tensors(path).items() if tensor.is_floating_point()}


def _from_png(path: Path) -> Mapping[str, Tensor] | None:
    """The tensors in a picture's text chunk; None for a picture that has none.

    A1111 hides them in the pixels as well; those are not looked for.
    """
    try:
        with Image.open(path) as picture:
            text = getattr(picture, "text", {}).get(PNG_KEY)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError) as error:
        raise BrokenFile(f"{path} can't be read as a picture", hint="download it again") from error
    if text is None:
        return None
    if len(text) > MAX_PNG_TEXT:
        raise RefusedFormat(f"{path}: its embedding has {len(text):,} characters", hint="embeddings are small")
    try:
        content = json.loads(base64.b64decode(text, validate=True))
        parameters: Mapping[str, Any] = content["string_to_param"]
        return {
            f"string_to_param.{name}": torch.tensor(value["TORCHTENSOR"], dtype=torch.float32)
            for name, value in parameters.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise BrokenFile(f"{path}: the embedding in the picture can't be read", hint="download it again") from error


def _by_encoder(tensors: Mapping[str, Tensor]) -> list[Tensor]:
    """The vectors by text encoder: `clip_l` and `clip_g` for SDXL; A1111's, kohya's or diffusers' one tensor else.

    Raises: RefusedFormat for a file that holds something else.
    """
    if {"clip_l", "clip_g"} <= tensors.keys():
        found = [tensors["clip_l"], tensors["clip_g"]]
    else:
        named = [tensor for name, tensor in tensors.items() if name == "emb_params" or name.startswith("string_to_pa")]
        found = named or list(tensors.values())
        if len(found) != 1:
            names = ", ".join(list(tensors)[:3])
            raise RefusedFormat(f"it is no embedding: it holds {len(tensors)} tensors ({names} …)", hint="one is usual")
    vectors = [tensor[None] if tensor.dim() == 1 else tensor for tensor in found]
    if any(tensor.dim() != 2 for tensor in vectors):
        raise RefusedFormat("it is no embedding: its tensor is no table of vectors", hint="a LoRA goes into lora_dir")
    return vectors
