"""Where the output of extensions goes: into a log of each one, and never where somebody reads ours."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TextIO, cast

MAX_LOG_BYTES = 1024 * 1024
_sink: ContextVar[TextIO | None] = ContextVar("sink", default=None)
"""Of this thread, or task: what is written now belongs there."""
_installing = threading.Lock()


class Switched:
    """A stream that goes elsewhere while `captured` says so; to each thread its own."""

    def __init__(self, beneath: TextIO) -> None:
        self.beneath = beneath

    def __getattr__(self, name: str) -> Any:
        return getattr(_sink.get() or self.beneath, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.beneath)


@contextlib.contextmanager
def captured(log: Path) -> Iterator[None]:
    """Inside it what this thread writes to `sys.stdout` and `sys.stderr` goes to the end of a log.

    What goes past Python, such as a C library's own output, is not caught.
    """
    _install()
    token = None
    with _opened(log) as file:
        token = _sink.set(file)
        try:
            yield
        finally:
            _sink.reset(token)


def log_path(folder: Path, name: str) -> Path:
    """The log of an extension, in a data folder."""
    return folder / "extensions" / f"{name}.log"


def log_tail(log: Path, characters: int = 4000) -> str:
    """The end of a log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - characters))
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""


@contextlib.contextmanager
def _opened(log: Path) -> Iterator[TextIO]:
    """The log, begun anew when it has grown large; where none can be written, what is said is lost."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        mode = "w" if log.exists() and log.stat().st_size > MAX_LOG_BYTES else "a"
        file = log.open(mode, encoding="utf-8", errors="backslashreplace", buffering=1)
    except OSError:
        file = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - closed below
    with file:
        yield file


def _install() -> None:
    """Puts our streams before Python's, unless they are there: pytest and others put their own there as well."""
    with _installing:
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is not None and not isinstance(stream, Switched):
                setattr(sys, name, cast(TextIO, Switched(stream)))
