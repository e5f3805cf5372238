"""Where textual inversions are: the files of a folder by the names that prompts give them."""

from __future__ import annotations

import os
from pathlib import Path

ENDINGS = (".safetensors", ".pt", ".bin", ".png")


def embedding_files(folder: Path) -> dict[str, Path]:
    """The files in `folder` and below by the names that prompts give them; of two with one name the first by path.

    Pictures count last, since most of them only show what an embedding beside them makes.
    """
    paths = [
        Path(parent, name)
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name[0] != "." and name.lower().endswith(ENDINGS) and not name.lower().endswith(".preview.png")
    ]
    found: dict[str, Path] = {}
    for path in sorted(paths, key=lambda path: (ENDINGS.index(path.suffix.lower()) == len(ENDINGS) - 1, path)):
        found.setdefault(path.stem, path)
    return found
