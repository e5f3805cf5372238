"""Pictures on disk: files with their texts, written whole or not at all, under names that nobody has yet."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from hayate.errors import OutputError, clip
from hayate.pipeline.formats import ENDINGS, Format, PictureTexts, encode_picture

TEMPORARY = ".hayate-tmp"
"""How a file that is being written ends."""
GRID = "grid-"
_NUMBERED = re.compile(rf"\.?(\d{{5,9}})(?:-.*|\.[a-z]+)|\.(\d{{5,9}}){re.escape(TEMPORARY)}")
_NUMBERED_GRID = re.compile(rf"{GRID}(\d{{4,9}})\..*()")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where pictures go: a folder, and a file name if one was given."""

    folder: Path
    name: str | None = None
    """With the ending; None numbers the files as A1111 does, `00000-<seed>.png`."""
    format: Format = field(default_factory=Format)


def resolve_target(where: str | Path, format_: Format | None = None) -> Target:
    """The target that a path stands for: a file if it ends as a picture's name does, else a folder.

    A file's ending decides the format; without one it is `format_`, else PNG.
    Raises: OutputError for a picture format that is not written.
    """
    format_ = format_ or Format()
    text = str(where)
    # os.path, unlike Path, raises neither for an unknown ~user nor for a name that is too long.
    path = Path(os.path.expanduser(where))  # noqa: PTH111
    if text.endswith(("/", os.sep)) or os.path.isdir(path):  # noqa: PTH112
        return Target(folder=path, format=format_)
    ending = path.suffix.lower()
    if ending in ENDINGS:
        return Target(folder=path.parent, name=path.name, format=replace(format_, name=ENDINGS[ending]))
    if ending in (".gif", ".bmp", ".tif", ".tiff", ".jxl", ".heic"):
        known = ", ".join(sorted(ENDINGS))
        raise OutputError(f"{clip(path.name)}: no {ending} is written", hint=f"one of {known}, or give a folder")
    return Target(folder=path, format=format_)


def check_writable(target: Target) -> None:
    """Make the folder and try to write into it, so that a failure comes before the work and not after it.

    Raises: OutputError.
    """
    with _explained(target.folder):
        target.folder.mkdir(parents=True, exist_ok=True)
        if target.name:
            with contextlib.suppress(FileNotFoundError):
                (target.folder / _copy_name(target.name, 9999)).lstat()  # fails for a name that is too long
        trial = target.folder / f".{secrets.token_hex(8)}{TEMPORARY}"
        os.close(os.open(trial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        trial.unlink()


def save_picture(image: np.ndarray, target: Target, *, stem: str, texts: PictureTexts) -> Path:
    """Write one picture and return its path; an existing file is never touched, the next free name is taken.

    `stem` follows the number where the target has no name. The file appears under its name only when all of it is on
    the disk.
    Shapes: image [H, W, 3] uint8.
    Raises: OutputError; nothing is left behind then.
    """
    data = encode_picture(image, texts, target.format)
    with _explained(target.folder):
        target.folder.mkdir(parents=True, exist_ok=True)
        if target.name:
            return _save_as(data, target.folder, target.name)
        return _save_numbered(data, target.folder, f"-{stem}{target.format.ending}" if stem else target.format.ending)


def save_grid(image: np.ndarray, target: Target, texts: PictureTexts) -> Path:
    """Write a grid beside the pictures, as A1111 does: `grid-0000.png`, or `<name>-grid.png` beside a named one.

    Shapes: image [H, W, 3] uint8.
    Raises: OutputError; nothing is left behind then.
    """
    data = encode_picture(image, texts, target.format)
    with _explained(target.folder):
        target.folder.mkdir(parents=True, exist_ok=True)
        if target.name:
            name = Path(target.name)
            return _save_as(data, target.folder, f"{name.stem}-grid{name.suffix}")
        number = _highest_number(target.folder, pattern=_NUMBERED_GRID) + 1
        return _save_as(data, target.folder, f"{GRID}{number:04}{target.format.ending}")


def _save_numbered(data: bytes, folder: Path, rest: str) -> Path:
    """Write `00000<rest>` with the next number.

    The temporary file bears the number, so two savers can't have the same one: whoever creates it first owns it.
    """
    number = _highest_number(folder) + 1
    while True:
        temporary = folder / f".{number:05}{TEMPORARY}"
        try:
            file = _create(temporary)
        except FileExistsError:
            number += 1
            continue
        with _removed(temporary):
            with file:
                # Another saver may have finished with this number between our look at the folder and now.
                if (highest := _highest_number(folder, besides=temporary.name)) >= number:
                    number = highest + 1
                    continue
                _write_whole(file, data)
            path = folder / f"{number:05}{rest}"
            _publish(temporary, path)
            return path


def _save_as(data: bytes, folder: Path, name: str) -> Path:
    """Write `name`, or `name-1`, `name-2`, … if it is taken."""
    temporary = folder / f".{secrets.token_hex(8)}{TEMPORARY}"
    with _removed(temporary):
        with _create(temporary) as file:
            _write_whole(file, data)
        copy = 0
        while True:
            path = folder / _copy_name(name, copy)
            try:
                _publish(temporary, path)
            except FileExistsError:
                copy += 1
            else:
                return path


def _copy_name(name: str, copy: int) -> str:
    path = Path(name)
    return f"{path.stem}-{copy}{path.suffix}" if copy else name


def _create(path: Path) -> BinaryIO:
    """A new file; unlike a `tempfile`'s, it gets the permissions that the user's files have."""
    return path.open("xb")


def _write_whole(file: BinaryIO, data: bytes) -> None:
    """All of `data`, down to the disk."""
    file.write(data)
    file.flush()
    os.fsync(file.fileno())


def _publish(temporary: Path, path: Path) -> None:
    """Give a finished file its name, at once and without replacing another.

    Raises: FileExistsError.
    """
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EMLINK, errno.EACCES):
            raise
        # No hard links here (FAT, some network folders): take the name with an empty file, then put ours in its place.
        path.open("xb").close()
        os.replace(temporary, path)  # noqa: PTH105
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Bring a new name to the disk; where a folder can't be opened (Windows), the system does it in its own time."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def _removed(temporary: Path) -> Iterator[None]:
    """Remove the temporary file at the end, whatever happened."""
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _highest_number(folder: Path, besides: str = "", pattern: re.Pattern[str] = _NUMBERED) -> int:
    """The highest number of a picture in the folder, one that is being written included; −1 if there is none."""
    with os.scandir(folder) as entries:
        found = (pattern.fullmatch(entry.name) for entry in entries if entry.name != besides)
        return max((int(match[1] or match[2]) for match in found if match), default=-1)


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turn what the system says about writing into one line with a hint."""
    hints = {
        errno.ENOSPC: "the disk is full: make room, or choose another place",
        errno.EDQUOT: "your quota is used up: make room, or choose another place",
        errno.EROFS: "the disk is read-only: choose another place",
        errno.EACCES: "you may not write there: choose another place",
        errno.EPERM: "you may not write there: choose another place",
        errno.ENAMETOOLONG: "the name is too long: most systems take 255 bytes",
        errno.ENOTDIR: "a part of the path is a file",
        errno.EEXIST: "it is a file, not a folder",
    }
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        code = error.errno if isinstance(error, OSError) else None
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        hint = hints.get(code or 0, "choose another place with -o")
        raise OutputError(f"can't write to {clip(str(folder), 200)}: {reason}", hint=hint) from error
