"""The header parser against safetensors itself: it accepts nothing that safetensors refuses."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import numpy as np
import pytest
import safetensors
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from hayate.errors import BrokenFile, ModelFileError
from hayate.weights.header import MAX_HEADER_BYTES, MAX_TENSORS, parse_header
from hayate.weights.read import read_header

PATH = Path("model.safetensors")


def entry(dtype: str = "F32", shape: object = (1,), offsets: object = (0, 4), **more: object) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


def text(**entries: object) -> bytes:
    return json.dumps(entries).encode()


def parse(raw: bytes, data_bytes: int):
    return parse_header(raw, path=PATH, size_bytes=8 + len(raw) + data_bytes)


def file_of(raw: bytes, data_bytes: int) -> bytes:
    return struct.pack("<Q", len(raw)) + raw + bytes(data_bytes)


REFUSED_BY_BOTH = {
    "not UTF-8": (b'{"\xff":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', 4),
    "not JSON": (b"{hello}", 0),
    "a list": (b"[]", 0),
    "null": (b"null", 0),
    "trailing bytes": (text(a=entry()), 5),
    "short data": (text(a=entry()), 3),
    "overlap": (text(a=entry(), b=entry(offsets=(2, 6))), 6),
    "hole": (text(a=entry(), b=entry(offsets=(8, 12))), 12),
    "first offset": (text(a=entry(offsets=(4, 8))), 8),
    "negative offset": (text(a=entry(offsets=(-4, 0))), 0),
    "reversed": (text(a=entry(offsets=(4, 0))), 4),
    "size": (text(a=entry(shape=(2,))), 4),
    "overflow": (text(a=entry(shape=(2**40, 2**40, 0), offsets=(0, 0))), 0),
    "beyond 64 bits": (text(a=entry(shape=(0, 2**64), offsets=(0, 0))), 0),
    "a number of 5000 digits": (b'{"a":{"dtype":"F32","shape":[' + b"1" * 5000 + b'],"data_offsets":[0,4]}}', 4),
    "negative shape": (text(a=entry(shape=(-1,))), 4),
    "minus zero": (b'{"a":{"dtype":"F32","shape":[-0],"data_offsets":[0,0]}}', 0),
    "float shape": (text(a=entry(shape=(1.0,))), 4),
    "true as a shape": (text(a=entry(shape=(True,))), 4),
    "NaN": (b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}}', 4),
    "shape is no list": (text(a=entry(shape="1")), 4),
    "three offsets": (text(a=entry(offsets=(0, 2, 4))), 4),
    "unknown dtype": (text(a=entry(dtype="F33")), 4),
    "dtype is no text": (text(a=entry(dtype=[])), 4),  # type: ignore[arg-type]
    "no dtype": (b'{"a":{"shape":[1],"data_offsets":[0,4]}}', 4),
    "entry is no object": (text(a=4), 4),
    "half a byte": (text(a=entry(dtype="F4", shape=(1,), offsets=(0, 1))), 1),
    "metadata twice": (b'{"__metadata__":{},"__metadata__":{}}', 0),
    "metadata of numbers": (b'{"__metadata__":{"a":1}}', 0),
    "metadata is a list": (b'{"__metadata__":[]}', 0),
    "lone surrogate": (b'{"\\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', 4),
    "lone surrogate in metadata": (b'{"__metadata__":{"a":"\\ud800"}}', 0),
    "control character": (b'{"a\x01":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', 4),
    "deep nesting": (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 0),
    "byte order mark": (b"\xef\xbb\xbf{}", 0),
}
REFUSED_HERE = {
    "a name twice": (b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},' + text(a=entry())[1:], 4),
    "an unknown field": (text(a=entry(checksum="00")), 4),
    "an empty name": (text(**{"": entry()}), 4),
}
ACCEPTED = {
    "no tensors": (b"{}", 0),
    "padded": (text(a=entry()) + b"   ", 4),
    "metadata null": (b'{"__metadata__":null}', 0),
    "empty tensor at the end": (text(a=entry(), v_pred=entry(shape=(0,), offsets=(4, 4))), 4),
    "scalar": (text(a=entry(shape=())), 4),
    "four bits": (text(a=entry(dtype="F4", shape=(2,), offsets=(0, 1))), 1),
    "a path as a name": (text(**{"../../etc/x": entry()}), 4),
}


@pytest.mark.parametrize("case", REFUSED_BY_BOTH)
def test_refuses_what_safetensors_refuses(case):
    raw, data_bytes = REFUSED_BY_BOTH[case]
    with pytest.raises(safetensors.SafetensorError):
        safetensors.deserialize(file_of(raw, data_bytes))
    with pytest.raises(BrokenFile, match=r"model\.safetensors"):
        parse(raw, data_bytes)


@pytest.mark.parametrize("case", REFUSED_HERE)
def test_is_stricter_than_safetensors(case):
    raw, data_bytes = REFUSED_HERE[case]
    safetensors.deserialize(file_of(raw, data_bytes))
    with pytest.raises(BrokenFile):
        parse(raw, data_bytes)


@pytest.mark.parametrize("case", ACCEPTED)
def test_accepts_what_is_valid(case):
    raw, data_bytes = ACCEPTED[case]
    expected = dict(safetensors.deserialize(file_of(raw, data_bytes)))
    header = parse(raw, data_bytes)
    assert {name: list(info.shape) for name, info in header.tensors.items()} == {
        name: info["shape"] for name, info in expected.items()
    }


def test_the_first_offending_tensor_is_named():
    with pytest.raises(BrokenFile, match=r"model\.safetensors is truncated: tensor 'second'"):
        parse(text(first=entry(), third=entry(offsets=(8, 12)), second=entry(offsets=(4, 8))), 5)
    with pytest.raises(BrokenFile, match="'bad'"):
        parse(text(good=entry(), bad=entry(offsets=(4, 9))), 9)


def test_too_many_tensors_are_refused():
    entries = {f"t{index}": entry(shape=(0,), offsets=(0, 0)) for index in range(MAX_TENSORS + 1)}
    with pytest.raises(BrokenFile, match="100,001 tensors"):
        parse(json.dumps(entries).encode(), 0)


def test_a_header_above_the_cap_is_not_read(tmp_path):
    path = tmp_path / "huge.safetensors"
    path.write_bytes(struct.pack("<Q", MAX_HEADER_BYTES + 1) + b"{" + bytes(100))
    with pytest.raises(BrokenFile, match="claims a header of"):
        read_header(path)


tensors = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(lambda n: n != "__metadata__"),
    st.tuples(st.sampled_from(["F16", "F32", "U8", "F64"]), st.lists(st.integers(0, 4), max_size=3)),
    max_size=5,
)


def valid_file(chosen: dict[str, tuple[str, list[int]]], metadata: dict[str, str]) -> bytes:
    """A file as safetensors itself writes it."""
    dtypes = {"F16": np.float16, "F32": np.float32, "U8": np.uint8, "F64": np.float64}
    arrays = {
        name: np.arange(math.prod(shape)).reshape(shape).astype(dtypes[kind]) for name, (kind, shape) in chosen.items()
    }
    return save(arrays, metadata or None)


@given(tensors, st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.text('ab\n"{'), max_size=3))
@settings(max_examples=100, deadline=None)
def test_reads_what_safetensors_writes(tmp_path_factory, chosen, metadata):
    data = valid_file(chosen, metadata)
    path = tmp_path_factory.getbasetemp() / "written.safetensors"
    path.write_bytes(data)
    header = read_header(path)
    assert header.metadata == metadata
    expected = dict(safetensors.deserialize(data))
    assert {
        name: (info.dtype, list(info.shape), data[info.start : info.end]) for name, info in header.tensors.items()
    } == {name: (info["dtype"], info["shape"], bytes(info["data"])) for name, info in expected.items()}


@st.composite
def damaged_files(draw) -> bytes:
    """A valid file with bytes flipped, cut off, put in or appended."""
    data = bytearray(valid_file(draw(tensors), draw(st.dictionaries(st.text("ab"), st.text("ab"), max_size=2))))
    header_end = 8 + struct.unpack("<Q", data[:8])[0]
    for _ in range(draw(st.integers(1, 4))):
        where = draw(st.integers(0, min(header_end + 4, len(data))))
        damage = draw(st.sampled_from(["flip", "cut", "insert", "append"]))
        if damage == "flip" and where < len(data):
            data[where] = draw(st.one_of(st.integers(0, 255), st.sampled_from(b'0123456789-"[]{},: ')))
        elif damage == "cut":
            del data[where:]
        elif damage == "insert":
            data[where:where] = draw(st.binary(min_size=1, max_size=3))
        else:
            data += draw(st.binary(min_size=1, max_size=3))
    return bytes(data)


@given(damaged_files())
@settings(max_examples=400, deadline=None)
def test_a_damaged_file_is_refused_or_read_as_safetensors_reads_it(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    path.write_bytes(data)
    try:
        header = read_header(path)
    except ModelFileError:
        return
    expected = {name: (info["dtype"], info["shape"]) for name, info in safetensors.deserialize(data)}
    assert {name: (info.dtype, list(info.shape)) for name, info in header.tensors.items()} == expected
