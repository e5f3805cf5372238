"""How a callback of the loop breaks it off: this batch alone, or, by `errors.Cancelled`, the whole job."""

from __future__ import annotations


class Skipped(Exception):
    """Somebody gave up the batch that is being made; the next one is begun."""
