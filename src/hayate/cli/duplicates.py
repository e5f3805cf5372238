"""`hayate models duplicates`: the same numbers under other names."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hayate.errors import UsageError
from hayate.settings import load_settings

if TYPE_CHECKING:
    from hayate.weights.contents import Alike

_TITLES = {"unet": "U-Net", "text": "text encoder", "vae": "VAE", "ema": "EMA weights", "other": "other tensors"}


def duplicates(
    folder: Annotated[Path | None, typer.Argument(help="Where to look; the models' folder unless given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Find models that hold the same tensors under other names, and those that share a U-Net, text encoder or VAE.

    Nothing is removed. Files are read once, then the cache knows them.
    """
    from hayate.weights.contents import distinct_files, find_alike, spare_bytes
    from hayate.weights.folders import model_files

    settings = load_settings({})
    root = folder or settings.models_dir
    if not root.is_dir():
        raise UsageError(f"{root} is no folder", hint="give the folder of the models")
    paths = distinct_files(model_files(root))
    found = find_alike(paths, settings.cache_dir, _say if sys.stderr.isatty() and not as_json else lambda path: None)
    if as_json:
        sys.stdout.write(
            json.dumps({"folder": str(root), "files": len(paths), "groups": [*map(_object, found)]}) + "\n"
        )
        return
    for group in found:
        sys.stdout.write(f"{_title(group)}\n")
        for path in group.paths:
            sys.stdout.write(f"  {path.relative_to(root)}\n")
    spare = spare_bytes(found)
    summary = f"{spare / 1e9:.2f} GB are there twice" if spare else "no model is there twice"
    sys.stdout.write(f"{len(paths)} files; {summary}\n")


def _say(path: Path) -> None:
    sys.stderr.write(f"reading {path.name}\n")


def _title(group: Alike) -> str:
    if group.is_whole:
        return f"the same tensors ({group.size_bytes / 1e9:.2f} GB each):"
    return f"the same {' and '.join(_TITLES[part] for part in group.parts)}:"


def _object(group: Alike) -> dict[str, object]:
    return {
        "is_whole": group.is_whole,
        "parts": list(group.parts),
        "size_bytes": group.size_bytes,
        "paths": [str(path) for path in group.paths],
    }
