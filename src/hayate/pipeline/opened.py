"""Picture files of the user's, opened with one clear line for whatever is wrong with them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from hayate.errors import UsageError, clip, nearest

MAX_PIXELS = 8192 * 8192
_SHOWN_FILES = 2000
_ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff"})


@contextmanager
def opened_picture(path: Path, title: str = "") -> Iterator[Image.Image]:
    """The picture of a file, whose pixels are not decoded yet; `title` says what it is for, such as "the mask ".

    Raises: UsageError for a file that is missing, empty, too large or no picture, also while it is decoded.
    """
    name = f"{title}{clip(str(path), 200)}"
    try:
        if path.stat().st_size == 0:
            raise UsageError(f"{name} is empty: it has 0 bytes", hint="copy or download it again")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_PIXELS is the cap here
            with Image.open(path) as file:
                if file.width * file.height > MAX_PIXELS:
                    raise _too_large(name, f": {file.width} x {file.height} pixels")
                yield file
    except Image.DecompressionBombError as error:
        raise _too_large(name, "") from error
    except FileNotFoundError as error:
        raise UsageError(f"no such file: {name}", hint=_beside(path)) from error
    except IsADirectoryError as error:
        raise UsageError(f"{name} is a folder", hint="give the path of a picture in it") from error
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
        raise UsageError(f"{name} can't be read as a picture", hint="a PNG, JPEG or WebP") from error


def _too_large(name: str, size: str) -> UsageError:
    return UsageError(f"{name} is too large{size}", hint=f"at most {MAX_PIXELS} pixels are read")


def _beside(path: Path) -> str:
    """The pictures in the folder with the most similar names."""
    try:
        names = [each.name for each in path.parent.iterdir() if each.suffix.lower() in _ENDINGS]
    except OSError:
        return "check the path"
    near = nearest(path.name, names[:_SHOWN_FILES])
    return f"nearest there: {', '.join(near)}" if near else "check the path"
