"""The header of a safetensors file: its table of tensors, checked by every rule of the format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from hayate.errors import BrokenFile, clip

# safetensors itself allows 100 MB. Real headers stay below 1 MB (SDXL: 0.4 MB), and a hostile one of 100 MB would
# cost the JSON parser 16 s and 2.6 GB.
MAX_HEADER_BYTES = 32 * 1024 * 1024
MAX_TENSORS = 100_000
_MAX_UINT64 = 2**64 - 1
_REMEMBERED_BYTES = 1 << 20
"""What a header may take to be remembered: those of models have 100 to 400 KB."""

DTYPE_BITS: Mapping[str, int] = MappingProxyType(
    {
        **dict.fromkeys(("BOOL", "U8", "I8"), 8),
        **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
        **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
        **dict.fromkeys(("U32", "I32", "F32"), 32),
        **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
        "F4": 4,
        "F6_E2M3": 6,
        "F6_E3M2": 6,
    }
)
"""Size of one element of each dtype that safetensors knows."""

_FIELDS = {"dtype", "shape", "data_offsets"}
_NATURAL = {int}

AGAIN = "download or copy the file again"
"""The hint for any damage that only the source of the file can mend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInfo:
    """What a header says of one tensor; `start` and `end` count bytes from the beginning of the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def size_bytes(self) -> int:
        return self.end - self.start

    @property
    def is_float(self) -> bool:
        """Whether it holds floating-point numbers."""
        return self.dtype.startswith(("F", "BF"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A file's table of tensors, in the order of their data, and its free-form metadata."""

    path: Path
    size_bytes: int
    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]


def parse_header(raw: bytes, *, path: Path, size_bytes: int) -> Header:
    """Checks the JSON of a header against the file's size: every rule of the format, and no tensor named twice.

    Raises: BrokenFile that names the file and the first offending tensor.
    Cost: some 10 ms for a model; a merge opens its files again and again, so the last few are remembered.
    Source: the safetensors format, as safetensors 0.8 checks it; stricter in that duplicate names, empty names, leading
    white space and unknown fields are refused.
    """
    parse = _remembered if len(raw) <= _REMEMBERED_BYTES else _parsed
    return parse(raw, path, size_bytes)


def _parsed(raw: bytes, path: Path, size_bytes: int) -> Header:
    entries = _load_json(raw, path)
    metadata = _check_metadata(entries.pop("__metadata__", None), path)
    if len(entries) > MAX_TENSORS:
        raise BrokenFile(f"{path} lists {len(entries):,} tensors, but at most {MAX_TENSORS:,} are allowed")
    data_start = 8 + len(raw)
    infos = [(name, _check_entry(name, entry, data_start, path)) for name, entry in entries.items()]
    infos.sort(key=lambda item: (item[1].start, item[1].end))
    _check_layout(infos, data_start, size_bytes, path)
    return Header(
        path=path, size_bytes=size_bytes, tensors=MappingProxyType(dict(infos)), metadata=MappingProxyType(metadata)
    )


_remembered = lru_cache(maxsize=8)(_parsed)


def _load_json(raw: bytes, path: Path) -> dict[str, Any]:
    try:
        text = raw.decode("utf-8")
        header = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_int=_natural,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
        )
        if "\\u" in text:
            json.dumps(header, ensure_ascii=False).encode("utf-8")  # an escaped lone surrogate is no text
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else clip(str(error), 160)
        raise BrokenFile(f"{path} has a malformed header: {reason}", hint=AGAIN) from error
    if not isinstance(header, dict):
        raise BrokenFile(f"{path} has a malformed header: it is no JSON object", hint=AGAIN)
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise ValueError(f"{clip(twice)!r} is there twice")
    return table


def _natural(digits: str) -> int:
    if digits[0] == "-" or len(digits) > 20 or (number := int(digits)) > _MAX_UINT64:
        raise ValueError(f"{clip(digits, 24)} is no size")
    return number


def _refuse_number(digits: str) -> NoReturn:
    raise ValueError(f"{clip(digits, 24)} is no whole number")


def _check_metadata(metadata: Any, path: Path) -> dict[str, str]:
    if metadata is None:
        return {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise BrokenFile(f"{path} has malformed metadata: it must map names to texts", hint=AGAIN)
    return metadata


def _check_entry(name: str, entry: Any, data_start: int, path: Path) -> TensorInfo:
    """One tensor's entry, checked in itself: fields, types, dtype, and size against shape."""
    if not name:
        raise BrokenFile(f"{path} has a tensor without a name", hint=AGAIN)
    try:
        start, end = _check_fields(entry)
    except ValueError as error:
        raise BrokenFile(f"{path}: tensor {clip(name)!r} {error}", hint=AGAIN) from error
    return TensorInfo(dtype=entry["dtype"], shape=tuple(entry["shape"]), start=data_start + start, end=data_start + end)


def _check_fields(entry: Any) -> tuple[int, int]:
    """The offsets of an entry that is right in itself.

    Raises: ValueError, whose text goes on from the tensor's name.
    """
    if not isinstance(entry, dict) or entry.keys() != _FIELDS:
        raise ValueError("must have exactly dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise ValueError(f"has the unknown dtype {clip(str(dtype))!r}")
    if not (_is_naturals(shape) and _is_naturals(offsets) and len(offsets) == 2):
        raise ValueError("has a malformed shape or data_offsets")
    start, end = offsets
    size_bits = DTYPE_BITS[dtype]
    for length in shape:
        size_bits *= length
        if size_bits > _MAX_UINT64:
            raise ValueError("has an impossible shape")
    if size_bits != 8 * (end - start):
        raise ValueError(f"has {end - start:,} bytes, but its shape and dtype take {size_bits / 8:,g}")
    return start, end


def _is_naturals(value: Any) -> bool:
    return isinstance(value, list) and set(map(type, value)) <= _NATURAL


def _check_layout(infos: list[tuple[str, TensorInfo]], data_start: int, size_bytes: int, path: Path) -> None:
    """Checks that the tensors, in order of their data, fill the rest of the file exactly."""
    end = data_start
    for name, info in infos:
        if info.start != end:
            fault = "overlaps the one before it" if info.start < end else "leaves a hole before it"
            raise BrokenFile(f"{path}: tensor {clip(name)!r} {fault}", hint=AGAIN)
        end = info.end
        if end > size_bytes:
            last = infos[-1][1].end
            raise BrokenFile(
                f"{path} is truncated: tensor {clip(name)!r} ends beyond the file ({size_bytes:,} of {last:,} bytes)",
                hint=AGAIN,
            )
    if end != size_bytes:
        raise BrokenFile(f"{path} has {size_bytes - end:,} bytes after its last tensor", hint=AGAIN)
