"""What launch.py says, and the errors that end it."""

from __future__ import annotations

import sys


class SetupError(Exception):
    """The environment can't be made; printed as one line with a hint."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message} ({hint})")


class KilledError(SetupError):
    """A step was killed from outside, so it may have left packages that are only half there."""


def say(text: str) -> None:
    """Write to stderr at once: stdout belongs to the program that is started."""
    sys.stderr.write(text)
    sys.stderr.flush()
