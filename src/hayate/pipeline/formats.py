"""Pictures as the bytes of a file: PNG, JPEG, WebP and AVIF, each with its texts where A1111 puts them."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from hayate.errors import MissingDependency, OutputError

if TYPE_CHECKING:
    import numpy as np

PARAMETERS = "parameters"
"""Key of A1111's text in a PNG."""
RECORD = "hayate"
"""Key of the lossless JSON text in a PNG."""
EXIF_FOLDER = 0x8769
USER_COMMENT = 0x9286
"""Where a JPEG, WebP or AVIF has A1111's text: in its EXIF."""
ENDINGS: Mapping[str, str] = MappingProxyType(
    {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", ".avif": "avif"}
)
"""The format that a file name's ending means."""
LARGEST_PX: Mapping[str, int] = MappingProxyType({"png": 2**31 - 1, "jpeg": 65_500, "webp": 16_383, "avif": 32_768})
"""The longest side that each format can have."""
MAX_PIXELS = 100_000_000
"""Larger pictures are neither written nor decoded; 4096 × 4096 is a sixth of it."""
_JPEG_EXIF_BYTES = 65_000
"""A JPEG's EXIF is one segment of 64 KiB, its own tables included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureTexts:
    """What a picture says about itself."""

    parameters: str
    """A1111's text."""
    record: Mapping[str, Any] | None = None
    """Everything, without loss, as JSON can hold it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A picture format, and how much of a picture it keeps."""

    name: str = "png"
    quality: int = 80
    """1 to 100; PNG loses nothing at any."""

    @property
    def ending(self) -> str:
        """A file's, as A1111 writes it."""
        return ".jpg" if self.name == "jpeg" else f".{self.name}"


def check_format(format_: Format) -> None:
    """Raises: MissingDependency where the installed Pillow can't write such files."""
    from PIL import features

    if format_.name in ("webp", "avif") and not features.check(format_.name):
        hint = "Pillow 11.3 or newer writes it: pip install -U pillow; or take --format png"
        raise MissingDependency(f"this Pillow has no {format_.name.upper()}", hint=hint)


def is_too_large(format_: Format, width_px: int, height_px: int) -> bool:
    """Whether a picture has more pixels than a file should, or is longer than its format can be."""
    return width_px * height_px > MAX_PIXELS or max(width_px, height_px) > LARGEST_PX[format_.name]


def check_fits(format_: Format, *prompts: str) -> None:
    """Raises: OutputError where the prompts alone are more than a file's EXIF holds."""
    if format_.name == "jpeg" and sum(map(_utf16_bytes, prompts)) > _JPEG_EXIF_BYTES - 8192:
        hint = "--format png, webp and avif hold any prompt"
        raise OutputError("the prompt is longer than a JPEG's EXIF can hold", hint=hint)


def encode_picture(image: np.ndarray, texts: PictureTexts, format_: Format) -> bytes:
    """The bytes of a file. JPEG, WebP and AVIF have the parameters as EXIF UserComment, and no record.

    A text that is too long for a JPEG is left out rather than the picture.
    Shapes: image [H, W, 3] uint8.
    Source: A1111 behaviour.
    """
    from PIL import Image

    if format_.name == "png":
        return encode_png(image, texts)
    exif = Image.Exif()
    if format_.name != "jpeg" or _utf16_bytes(texts.parameters) < _JPEG_EXIF_BYTES:
        exif[EXIF_FOLDER] = {USER_COMMENT: b"UNICODE\0" + _plain(texts.parameters).encode("utf-16-be")}
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format=format_.name.upper(), quality=format_.quality, exif=exif)
    return buffer.getvalue()


def encode_png(image: np.ndarray, texts: PictureTexts) -> bytes:
    """The bytes of a PNG file; the parameters are tEXt if Latin-1 can hold them, else iTXt, as A1111 writes them.

    Shapes: image [H, W, 3] uint8.
    """
    from PIL import Image, PngImagePlugin

    assert image.dtype == "uint8"
    assert image.ndim == 3
    assert image.shape[2] == 3
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text(PARAMETERS, _plain(texts.parameters))
    if texts.record is not None:
        chunks.add_text(RECORD, json.dumps(texts.record, default=str))
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", pnginfo=chunks)
    return buffer.getvalue()


def _plain(text: str) -> str:
    """`text` without lone surrogates, from an argument that is no UTF-8: they exist in no encoding."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _utf16_bytes(text: str) -> int:
    return len(text.encode("utf-16-be", "replace"))
