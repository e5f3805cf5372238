"""Imports with a time limit: each in a thread of its own, so that one that hangs holds up nobody for long."""

from __future__ import annotations

import importlib
import sys
import threading
import time
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hayate.errors import clip
from hayate.extensions.discovery import PARENT
from hayate.extensions.inside import throw
from hayate.extensions.output import captured

PATIENCE_S = 1.0
"""How long the next import waits for the one before: two at a time only take each other's."""


class Abandoned(BaseException):
    """Thrown into an import whose time is up; not an Exception, lest the extension catches it."""


class Import:
    """One module of an extension, being imported."""

    def __init__(self, module: str, log: Path) -> None:
        self.module = module
        self.seconds = 0.0
        self.problem = ""
        """Why it could not be imported, or not in time."""
        self.is_overdue = False
        """Whether it was given up because it took too long."""
        self.found: Any = None
        self._log = log
        self._done = threading.Event()
        self._began = threading.Lock()
        self._started_s: float | None = None
        self._thread: threading.Thread | None = None

    @property
    def is_done(self) -> bool:
        return self._done.is_set()

    @property
    def has_begun(self) -> bool:
        return self._started_s is not None

    def begin(self) -> None:
        """Starts the import, unless it was started before."""
        with self._began:
            if self._started_s is not None:
                return
            self._started_s = time.perf_counter()
            self._thread = threading.Thread(target=self._run, name=f"import {self.module}", daemon=True)
            self._thread.start()

    def finish(self, limit_s: float) -> None:
        """Waits until it is done, or has taken `limit_s` seconds from its start on: then it is given up."""
        self.begin()
        assert self._started_s is not None
        rest_s = limit_s - (time.perf_counter() - self._started_s)
        if not self._done.wait(max(0.0, rest_s)) and not self.problem:
            self.seconds = time.perf_counter() - self._started_s
            self.problem = f"its import took longer than {limit_s:g} s"
            self.is_overdue = True
            self._abandon()

    def wait(self, seconds: float) -> None:
        """Waits for a while."""
        self._done.wait(seconds)

    def now(self) -> None:
        """Imports it in this thread: for what is our own."""
        self._started_s = time.perf_counter()
        self.found = importlib.import_module(self.module)
        self.seconds = time.perf_counter() - self._started_s
        self._done.set()

    def _run(self) -> None:
        try:
            self._import()
        except Abandoned:  # came when the import had just ended
            pass
        finally:
            self._done.set()

    def _import(self) -> None:
        started = time.perf_counter()
        try:
            with captured(self._log):
                found = importlib.import_module(self.module)
        except BaseException as error:  # noqa: BLE001 - the door of extensions: whatever theirs raises ends here
            if not self.problem:
                self.problem = f"its import failed: {told(error)}"
        else:
            if not self.problem:
                self.found = found
        if not self.problem or self.found is None:
            self.seconds = self.seconds or time.perf_counter() - started

    def _abandon(self) -> None:
        """Ends the thread at its next line of Python; one that never comes to it stays, and harms nobody."""
        if self._thread is not None and self._thread.ident is not None and self._thread.is_alive():
            throw(self._thread.ident, Abandoned)


def begin_all(imports: Sequence[Import]) -> None:
    """Imports one after the other beside the caller; who takes long is not waited for."""

    def run() -> None:
        for each in imports:
            each.begin()
            each.wait(PATIENCE_S)

    if imports:
        threading.Thread(target=run, name="imports of extensions", daemon=True).start()


def told(error: BaseException) -> str:
    """An error of somebody else's code in one line, with the place in it."""
    words = clip(" ".join(str(error).split()), 200)
    trace, line = error.__traceback__, ""
    while trace is not None:
        code = trace.tb_frame.f_code
        if not code.co_filename.startswith("<"):
            line = f" ({Path(code.co_filename).name} line {trace.tb_lineno})"
        trace = trace.tb_next
    return f"{type(error).__name__}{': ' if words else ''}{words}{line}"


def make_parent(folder: Path) -> None:
    """Lets the folders of extensions be imported as modules of one package, and as nothing else.

    What was imported from another folder of extensions is forgotten: its modules have the same names.
    """
    place = [str(folder.resolve())]
    if getattr(sys.modules.get(PARENT), "__path__", None) == place:
        return
    for name in [name for name in sys.modules if name.startswith(f"{PARENT}.")]:
        del sys.modules[name]
    parent = types.ModuleType(PARENT, "Extensions in folders; each is a package of its own.")
    parent.__path__ = place
    sys.modules[PARENT] = parent
    importlib.invalidate_caches()  # the folder may be younger than the last look at it
