"""Pictures that the browser handed in, found again by their names."""

from __future__ import annotations

from pathlib import Path

from hayate.errors import UsageError
from hayate.settings import Settings


def handed_in(name: str, settings: Settings) -> Path:
    """The file of a picture that was handed in.

    Raises: UsageError for a name that is none of theirs, wherever it leads.
    """
    folder = settings.data_dir / "server" / "inputs"
    path = folder / Path(name).name
    if "\0" in name or not name or not path.is_file() or path.is_symlink():
        raise UsageError("there is no such picture here", hint="hand it in again")
    return path
