"""Damaged model files by the thousand: every one must be read, or refused in one clean line.

`python -m tests.weights.fuzz [COUNT] [SEED]` prints what came of them.
"""

from __future__ import annotations

import json
import random
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save

from hayate.errors import HayateError
from hayate.weights.detect import detect_checkpoint
from hayate.weights.header import MAX_HEADER_BYTES
from hayate.weights.read import open_checkpoint

LIES: tuple[object, ...] = (
    *(-1, 0, 1, 7, 2**31, 2**32 - 1, 2**53, 2**63, 2**64 - 1, 2**64, 10**30, 1.5, 1e308),
    *(
        None,
        True,
        "F32",
        "F16",
        "I64",
        "F99",
        "",
        "\u0000",
        [],
        {},
        [[]],
        [2**32, 2**32],
        [-1],
        [1] * 1000,
        "x" * 10_000,
    ),
)


def samples() -> list[bytes]:
    """Whole files, small but of every kind: a checkpoint's names, several dtypes, metadata, an empty tensor."""
    names = ("model.diffusion_model.input_blocks.0.0.weight", "first_stage_model.decoder.conv_in.weight")
    text = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
    kinds = {str(kind): torch.ones(3).to(kind) for kind in (torch.float16, torch.bfloat16, torch.int64, torch.bool)}
    return [
        save({name: torch.randn(4, 4, 3, 3) for name in names} | {text: torch.randn(8, 4)}, {"modelspec.title": "x"}),
        save({**kinds, "empty": torch.empty(0), "scalar": torch.tensor(1.0)}),
        save({}),
    ]


def damaged(chance: random.Random, whole: bytes) -> bytes:
    """One of the ways in which a file is not what it was."""
    ways: tuple[Callable[[random.Random, bytes], bytes], ...] = (_flip, _cut, _lie, _lie, _length, _splice, _grow)
    for _ in range(chance.randint(1, 3)):
        whole = chance.choice(ways)(chance, whole)
    return whole


def outcome(path: Path) -> str:
    """Reads a file as the program would, to the last tensor; what came of it. Other errors are not caught."""
    try:
        with open_checkpoint(path) as checkpoint:
            for name in checkpoint.tensors:
                tensor = checkpoint.get(name)
                assert tensor.shape == checkpoint.tensors[name].shape
                tensor.view(-1)[:1].clone()
            detect_checkpoint(checkpoint)
    except HayateError as error:
        refused = error
    else:
        return "read"
    assert "\n" not in refused.message, refused.message
    assert len(refused.message) < 1000
    return type(refused).__name__


def _flip(chance: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8, 64))):
        if changed:
            changed[chance.randrange(min(len(changed), chance.choice((8, 64, 600, len(changed)))))] ^= (
                1 << chance.randrange(8)
            )
    return bytes(changed)


def _cut(chance: random.Random, data: bytes) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def _grow(chance: random.Random, data: bytes) -> bytes:
    return data + chance.randbytes(chance.choice((1, 8, 1000)))


def _splice(chance: random.Random, data: bytes) -> bytes:
    start, other = chance.randrange(len(data) + 1), chance.randrange(len(data) + 1)
    return data[:start] + data[other : other + chance.randrange(200)] + data[start:]


def _length(chance: random.Random, data: bytes) -> bytes:
    length = chance.choice((0, 1, 2, len(data), MAX_HEADER_BYTES, MAX_HEADER_BYTES + 1, 2**63, 2**64 - 1))
    return struct.pack("<Q", length) + data[8:]


def _lie(chance: random.Random, data: bytes) -> bytes:
    """The header says something else, and is well-formed."""
    length = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + length])
        names = list(header)
        entry = header[chance.choice(names)]
        key = chance.choice(list(entry))
        lie = chance.choice(LIES)
        if isinstance(entry[key], list) and entry[key] and chance.random() < 0.7:
            entry[key][chance.randrange(len(entry[key]))] = lie
        else:
            entry[key] = lie
        if chance.random() < 0.2:
            header[chance.choice(["", "__metadata__", *names])] = chance.choice([entry, lie])
    except (ValueError, IndexError, AttributeError, TypeError, RecursionError):
        return data
    text = json.dumps(header).encode("utf-8", "replace")
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def fuzz(count: int, seed: int, folder: Path) -> Counter[str]:
    """The outcomes of so many damaged files."""
    chance, wholes, outcomes = random.Random(seed), samples(), Counter[str]()
    path = folder / "fuzzed.safetensors"
    for index in range(count):
        path.write_bytes(damaged(chance, wholes[index % len(wholes)]))
        outcomes[outcome(path)] += 1
    return outcomes


if __name__ == "__main__":
    many, first = (int(word) for word in (sys.argv[1:] + ["10000", "0"][len(sys.argv) - 1 :]))
    started_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        print(dict(fuzz(many, first, Path(folder))), f"{time.monotonic() - started_s:.1f} s")
