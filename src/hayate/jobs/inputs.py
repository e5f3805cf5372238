"""Pictures that jobs start from: taken as bytes, looked at before they are decoded, kept under their content's name."""

from __future__ import annotations

import hashlib
import io
import os
import secrets
import struct
import time
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType

from hayate.errors import OutputError, UsageError

FOLDER = "inputs"
MOST_BYTES = 96 * 2**20
ENDINGS: Mapping[str, str] = MappingProxyType({"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp"})
"""The formats that are taken, by what a file holds and not by what it is called."""
TEMPORARY = ".tmp"


class Inputs:
    """The folder of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / FOLDER

    def keep(self, data: bytes) -> Path:
        """The picture's file, written if it is not there yet.

        Raises: UsageError for what is no PNG, JPEG or WebP, or is too large; OutputError.
        """
        path = self.folder / f"{hashlib.sha256(data).hexdigest()}{ENDINGS[check_picture(data)]}"
        try:
            if path.is_file():
                os.utime(path)  # whoever tidies up sees that it is wanted again
            else:
                _write(path, data)
        except OSError as error:
            hint = "make room, or see the setting data_dir"
            raise OutputError(f"the picture can't be kept: {error.strerror}", hint=hint) from error
        return path

    def tidy(self, in_use: Collection[str], *, before_s: float) -> int:
        """Removes what no job needs and nobody has handed in since a time; how many files."""
        removed = 0
        for path in self.folder.glob("*") if self.folder.is_dir() else ():
            if path.name not in in_use and path.stat().st_mtime < before_s:
                path.unlink(missing_ok=True)
                removed += 1
        return removed


def check_picture(data: bytes) -> str:
    """The format of a picture, of which nothing is decoded. Raises: UsageError."""
    from PIL import Image, UnidentifiedImageError

    from hayate.pipeline.opened import MAX_PIXELS

    if len(data) > MOST_BYTES:
        raise UsageError(f"the picture has {len(data)} bytes", hint=f"at most {MOST_BYTES} are taken")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_PIXELS is the cap here
            with Image.open(io.BytesIO(data), formats=tuple(ENDINGS)) as picture:
                width, height, kind = picture.width, picture.height, picture.format
    except Image.DecompressionBombError:
        raise UsageError("the picture has too many pixels", hint=f"at most {MAX_PIXELS} are read") from None
    except UnidentifiedImageError:
        raise UsageError("this is no picture", hint="PNG, JPEG and WebP are taken") from None
    except (OSError, ValueError, SyntaxError, struct.error, EOFError) as error:
        raise UsageError(f"the picture can't be read: {str(error)[:100]}", hint="is it damaged?") from error
    if width * height > MAX_PIXELS:
        hint = f"at most {MAX_PIXELS} pixels are read"
        raise UsageError(f"the picture is too large: {width} x {height} pixels", hint=hint)
    return str(kind)


def _write(path: Path, data: bytes) -> None:
    """The whole file under its name, or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{secrets.token_hex(8)}{TEMPORARY}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)  # noqa: PTH105 - of the same content, should there be one by now
    finally:
        temporary.unlink(missing_ok=True)


def names_of(paths: Collection[str]) -> frozenset[str]:
    """What the files are called in the folder."""
    return frozenset(Path(path).name for path in paths)


def hours_ago(hours: float) -> float:
    """A time in seconds since 1970."""
    return time.time() - 3600 * hours
