"""What callers call the pictures that they handed in, and where those lie: nobody outside learns of folders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hayate.settings import Settings


def with_input_paths(body: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """A job's body in which the names of pictures that were handed in are their paths.

    What is no plain name stays as it is, and is refused by whoever checks the body.
    """
    folder = settings.data_dir.absolute() / "server" / "inputs"
    return _renamed(body, lambda name: name if _is_odd(name) else str(folder / name))


def with_input_names(body: Mapping[str, Any]) -> dict[str, Any]:
    """The same back, as callers are shown it."""
    return _renamed(body, lambda path: Path(path).name)


def _renamed(body: Mapping[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    made = dict(body)
    images = made.get("images")
    if isinstance(images, list | tuple):
        made["images"] = [change(each) if isinstance(each, str) else each for each in images]
    request = made.get("request")
    start = request.get("start") if isinstance(request, Mapping) else None
    if isinstance(request, Mapping) and isinstance(start, Mapping):
        found = {name: change(start[name]) for name in ("path", "mask") if isinstance(start.get(name), str)}
        made["request"] = {**request, "start": {**start, **found}}
    return made


def _is_odd(name: str) -> bool:
    return not name or name.startswith(".") or bool(set(name) & set("/\\\0"))
