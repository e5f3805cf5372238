"""Many pictures to start from: those of a folder or a pattern, and for each its mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from hayate.errors import OutputError, UsageError, clip
from hayate.pipeline.formats import ENDINGS

MAX_FILES = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StartFile:
    """One picture of many."""

    picture: Path
    mask: Path | None


def is_many(image: Path) -> bool:
    """Whether a path stands for several pictures: it is a folder, or no file and has a `*`, `?` or `[` in it."""
    return image.is_dir() or (not image.exists() and any(letter in str(image) for letter in "*?["))


def start_files(image: Path, masks: Path | None) -> tuple[StartFile, ...]:
    """The pictures of a folder or a pattern by their names, each with the mask of the same name, or with the one mask.

    A mask of another ending serves too, such as a PNG for a JPEG; a folder with one mask alone is for all.
    Raises: UsageError where there are none, or one has no mask.
    """
    pictures = _pictures_of(image)
    if masks is None or not masks.is_dir():
        return tuple(StartFile(picture=picture, mask=masks) for picture in pictures)
    known = _pictures_of(masks)
    return tuple(StartFile(picture=picture, mask=_mask_for(picture, known, masks)) for picture in pictures)


def output_for(picture: Path, folder: Path, ending: str) -> Path:
    """Where a picture that is made of `picture` goes: its own name in another folder.

    Raises: OutputError for a folder that is a file's name.
    """
    if folder.suffix.lower() in ENDINGS and not folder.is_dir():
        raise OutputError(f"{clip(folder.name)} is one file, and there are many", hint="give a folder with -o")
    return folder / f"{picture.stem}{ending}"


def _pictures_of(place: Path) -> list[Path]:
    """Raises: UsageError."""
    if place.is_dir():
        endings = Image.registered_extensions()
        found = [path for path in place.iterdir() if path.suffix.lower() in endings]
    else:
        fixed = Path(place.anchor) if place.is_absolute() else Path()
        found = list(fixed.glob(str(place.relative_to(place.anchor) if place.is_absolute() else place)))
    pictures = sorted(path for path in found if path.is_file() and not path.name.startswith("."))
    if not pictures:
        raise UsageError(f"{clip(str(place), 200)} has no pictures", hint="a folder or a pattern such as in/*.png")
    if len(pictures) > MAX_FILES:
        raise UsageError(f"{clip(str(place), 200)} has {len(pictures)} pictures", hint=f"at most {MAX_FILES}")
    return pictures


def _mask_for(picture: Path, masks: Sequence[Path], folder: Path) -> Path:
    """Raises: UsageError."""
    if len(masks) == 1:
        return masks[0]
    same = [mask for mask in masks if mask.name == picture.name] or [
        mask for mask in masks if mask.stem == picture.stem
    ]
    if not same:
        hint = f"name its mask {clip(picture.name)} as well"
        raise UsageError(f"{clip(picture.name)} has no mask in {clip(str(folder), 200)}", hint=hint)
    return same[0]
