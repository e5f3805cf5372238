"""Switching an extension on or off; running servers take it over with their next job."""

from __future__ import annotations

from hayate.errors import UnknownName
from hayate.extensions.discovery import find_extensions
from hayate.extensions.state import StateFile
from hayate.settings import Settings


def switch(settings: Settings, name: str, *, is_on: bool) -> None:
    """Raises: UnknownName, OutputError."""
    known = [each.name for each in find_extensions(settings.extensions_dir)]
    if name not in known:
        raise UnknownName("extension", name, known)
    file = StateFile(settings.data_dir)
    file.write(file.read().switched(name, is_on))
