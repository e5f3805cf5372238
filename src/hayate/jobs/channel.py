"""The worker's end of the pipes: lines to the server, lines from it, and nothing that others print between them."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from typing import BinaryIO

from hayate.jobs.messages import Report, line_of


class Channel:
    """Any thread may say something; one listens."""

    def __init__(self, commands: BinaryIO, reports: BinaryIO) -> None:
        self._commands, self._reports = commands, reports
        self._lock = threading.Lock()

    @staticmethod
    def of_this_process() -> Channel:
        """Takes standard input and output for itself: what libraries print, in C too, goes to standard error."""
        commands = os.fdopen(os.dup(0), "rb")
        reports = os.fdopen(os.dup(1), "wb")
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        sys.stdout = sys.stderr
        return Channel(commands, reports)

    def say(self, report: Report) -> None:
        """A whole line. Where nobody listens any more this process has no purpose, and ends."""
        line = line_of(report)
        try:
            with self._lock:
                self._reports.write(line)
                self._reports.flush()
        except OSError:
            os._exit(0)

    def lines(self) -> Iterator[bytes]:
        """Commands, until the server is gone."""
        yield from self._commands
