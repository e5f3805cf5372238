"""The page's scripts and styles, found once; no name leads to anything else."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from hayate.server.ui.page import ui_folder

TYPES = MappingProxyType(
    {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".webmanifest": "application/manifest+json"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticFile:
    """A file that the page is made of."""

    content: bytes
    media_type: str
    tag: str
    """Changes with the content: a browser that has it is answered in a few bytes."""


@functools.cache
def static_files() -> Mapping[str, StaticFile]:
    """Every file by its path under `/static/`."""
    folder = ui_folder() / "static"
    paths = sorted(path for path in folder.rglob("*") if path.suffix in TYPES)
    return MappingProxyType(
        {
            path.relative_to(folder).as_posix(): _static(path.read_bytes(), f"{TYPES[path.suffix]}; charset=utf-8")
            for path in paths
        }
    )


def _static(content: bytes, media_type: str) -> StaticFile:
    tag = f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'
    return StaticFile(content=content, media_type=media_type, tag=tag)
