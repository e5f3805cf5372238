"""The start of an img2img picture: what its text says of it, and the files that it began with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import MappingProxyType
from typing import Any

from PIL import Image

from hayate.errors import HayateError, UnknownName
from hayate.pipeline.infotext import Infotext
from hayate.pipeline.pasted_values import Reading, read_values
from hayate.pipeline.start_keys import FIRST_NOISE, IMAGE_HASH, MASK_HASH, RESIZE_TITLES, extended_by
from hayate.request import FILLS

_RESIZE_NAMES = MappingProxyType({title: name for name, title in RESIZE_TITLES.items()})

MOST_BYTES = 1 << 28


def _resize_mode(title: str) -> str:
    if title not in _RESIZE_NAMES:
        raise UnknownName("resize mode", title, list(_RESIZE_NAMES))
    return _RESIZE_NAMES[title]


def _fill(name: str) -> str:
    if name not in FILLS:
        raise UnknownName("masked content", name, FILLS)
    return name


_KEYS: Mapping[str, Reading] = MappingProxyType(
    {
        "Denoising strength": (("denoising",), float),
        FIRST_NOISE: (("noise_multiplier",), float),
        "Resize mode": (("resize_mode",), _resize_mode),
        "Mask blur": (("mask_blur",), int),
        "Outpaint": (("extend_px",), extended_by),
        "Masked area padding": (("padding_px",), int),
        "Masked content": (("fill",), _fill),
        "Mask mode": (("is_mask_inverted",), lambda text: text == "Inpaint not masked"),
    }
)
START_KEYS = frozenset({*_KEYS, IMAGE_HASH, MASK_HASH, "Inpaint area"})
"""What says something of the picture that another one began with."""


def pasted_start(info: Infotext, faults: list[str]) -> dict[str, Any]:
    """The fields of a `StartImage` that the text has, but for its files."""
    if "Hires upscaler" in info.parameters or "Denoising strength" not in info.parameters:
        return {}
    values: dict[str, Any] = {}
    for key, reading in _KEYS.items():
        if key in info.parameters:
            values |= read_values(key, reading[0], info.parameters[key], (reading[1], faults))
    if MASK_HASH in info.parameters or "Outpaint" in info.parameters:
        values.setdefault("mask_blur", 0)
    return values


def start_files(info: Infotext, record: Mapping[str, Any] | None, picture: Path, outputs_dir: Path) -> dict[str, str]:
    """The `path` and `mask` that the record names, if they are here and their pixels are still the same ones.

    Looked for where it was, and by its name beside the picture, in the working folder and among the outputs. What a
    stranger's picture names is opened only to compare it with the hash beside it.
    """
    from hayate.pipeline.pictures import read_mask, read_picture  # loads torch, which a pasted text does not need

    asked = (record or {}).get("asked")
    start = asked.get("start") if isinstance(asked, dict) else None
    found: dict[str, str] = {}
    for field, key, read in (("path", IMAGE_HASH, read_picture), ("mask", MASK_HASH, read_mask)):
        if key not in info.parameters:
            continue
        name = start.get(field) if isinstance(start, dict) else None
        places = _places(name, (picture.parent, Path.cwd(), outputs_dir)) if isinstance(name, str) else iter(())
        same = next((path for path in places if _hash(path, read) == info.parameters[key]), None)
        if same is None:
            return {}
        found[field] = str(same)
    return found


def _places(name: str, folders: tuple[Path, ...]) -> Iterator[Path]:
    """Where a file may be that was called `name` on this machine, or on another one; never on another host."""
    plain = PureWindowsPath(PurePosixPath(name).name).name
    places = [*([] if name.startswith(("\\\\", "//")) else [Path(name)]), *(folder / plain for folder in folders)]
    for path in places:
        try:
            if plain and path.is_file() and path.stat().st_size <= MOST_BYTES:
                yield path
        except (OSError, ValueError):  # a name that this system can't have
            continue


def _hash(path: Path, read: Any) -> str | None:
    from hayate.pipeline.pictures import pixel_hash

    try:
        picture: Image.Image = read(path)
    except HayateError:
        return None
    return pixel_hash(picture)
