"""What a picture file says about how it was made: PNG texts, EXIF comments, NovelAI's own form."""

from __future__ import annotations

import io
import json
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from hayate.errors import UnknownName, UsageError, clip
from hayate.pipeline.formats import EXIF_FOLDER, MAX_PIXELS, PARAMETERS, RECORD, USER_COMMENT
from hayate.pipeline.infotext import MAX_CHARACTERS, Infotext, format_infotext, order_parameters, parse_infotext

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP", "AVIF")

_NOVELAI_SCHEDULES = MappingProxyType(
    {"karras": "Karras", "exponential": "Exponential", "polyexponential": "Polyexponential", "native": "Uniform"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureInfo:
    """A picture file's own words about itself."""

    format: str
    width_px: int
    height_px: int
    parameters: str | None = None
    """A1111's text, as it stands in the file."""
    infotext: Infotext | None = None
    """The same, taken apart."""
    record: Mapping[str, Any] | None = None
    """The lossless record, if Hayate made the picture."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """Every other text in the file."""


def read_picture_info(path: str | Path) -> PictureInfo:
    """What the file says; the pixels are not decoded unless a text may stand behind them.

    Raises: UsageError for a file that is missing, unreadable, no PNG, JPEG, WebP or AVIF picture, or oversized.
    """
    return _opened(Path(path), clip(str(path), 200))


def picture_info_of(data: bytes) -> PictureInfo:
    """The same of a file's bytes.

    Raises: UsageError.
    """
    return _opened(io.BytesIO(data), "the picture")


def _opened(file: Path | io.BytesIO, title: str) -> PictureInfo:
    from PIL import Image, UnidentifiedImageError, features

    formats = [name for name in FORMATS if name not in ("WEBP", "AVIF") or features.check(name.lower())]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_PIXELS is the cap here
            with Image.open(file, formats=formats) as image:
                return _read(image, title)
    except FileNotFoundError:
        raise UsageError(f"no file {title}", hint="check the path") from None
    except UnidentifiedImageError:
        raise UsageError(f"{title} is not a picture", hint="only PNG, JPEG, WebP and AVIF are read") from None
    except Image.DecompressionBombError:
        raise UsageError(f"{title} has too many pixels", hint=f"at most {MAX_PIXELS}") from None
    except (OSError, ValueError, SyntaxError, struct.error, EOFError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise UsageError(f"can't read {title}: {clip(reason, 100)}", hint="is it damaged?") from error


def harmless(text: str) -> str:
    """`text` without control characters: a picture from a stranger must not steer the terminal."""
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


def _read(image: Image, title: str) -> PictureInfo:
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.width} × {image.height} px"
        raise UsageError(f"{title} is too large: {size}", hint=f"at most {MAX_PIXELS} pixels are read")
    if image.format == "PNG" and PARAMETERS not in image.info:
        image.load()  # some programs write their texts behind the pixels
    texts = {key: value for key, value in image.info.items() if isinstance(key, str) and isinstance(value, str)}
    for key, text in texts.items():
        if len(text) > MAX_CHARACTERS:
            message = f"{title}: its text {clip(key)!r} has {len(text)} characters"
            raise UsageError(message, hint=f"at most {MAX_CHARACTERS} are read")
    parameters = texts.pop(PARAMETERS, None) or _user_comment(image)
    infotext = parse_infotext(parameters) if parameters else _read_novelai(texts, image)
    return PictureInfo(
        format=image.format or "",
        width_px=image.width,
        height_px=image.height,
        parameters=parameters or (format_infotext(infotext) if infotext else None),
        infotext=infotext,
        record=_record(texts.pop(RECORD, "")),
        texts=texts,
    )


def _record(text: str) -> Mapping[str, Any] | None:
    """The lossless record; a damaged one counts as none, since the parameters say nearly the same."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _user_comment(image: Image) -> str | None:
    """The EXIF comment of a JPEG, WebP or AVIF, where A1111 puts the parameters."""
    comment = image.getexif().get_ifd(EXIF_FOLDER).get(USER_COMMENT)
    if not isinstance(comment, bytes) or len(comment) > 4 * MAX_CHARACTERS:
        return comment if isinstance(comment, str) else None
    charset, text = comment[:8], comment[8:]
    if charset == b"UNICODE\0":
        # The standard leaves the byte order open: in the wrong one Latin letters end up as characters of U+xx00.
        is_little = text[1::2].count(0) > text[0::2].count(0)
        return text.decode("utf-16-le" if is_little else "utf-16-be", errors="replace").removeprefix("\ufeff")
    if charset == b"ASCII\0\0\0":
        return text.decode("ascii", errors="replace")
    return comment.decode("utf-8", errors="replace").lstrip("\0") or None


def _read_novelai(texts: Mapping[str, str], image: Image) -> Infotext | None:
    """NovelAI's JSON in A1111's terms.

    Source: A1111 behaviour.
    """
    if texts.get("Software") != "NovelAI":
        return None
    comment = _record(texts.get("Comment", ""))
    if comment is None:
        return None
    values = {
        "Steps": comment.get("steps"),
        "Sampler": _sampler_name(str(comment.get("sampler", ""))),
        "Schedule type": _NOVELAI_SCHEDULES.get(str(comment.get("noise_schedule"))),
        "CFG scale": comment.get("scale"),
        "Seed": comment.get("seed"),
        "Size": f"{image.width}x{image.height}",
        "Clip skip": 2,
        "ENSD": 31337,
    }
    return Infotext(
        prompt=texts.get("Description", ""),
        negative_prompt=str(comment.get("uc", "")),
        parameters=order_parameters(values),
    )


def _sampler_name(alias: str) -> str:
    from hayate.samplers.catalogue import resolve_sampler

    try:
        return resolve_sampler(alias)[0].name
    except UnknownName:
        return "Euler a"
