"""A1111's scripts: many requests of one, and what is made of their pictures."""

from __future__ import annotations

from hayate.errors import UsageError
from hayate.jobs.scripts import Script
from hayate.jobs.tasks.generate import Making
from hayate.jobs.tasks.station import Outcome


def run_script(script: Script, making: Making) -> Outcome:
    """Raises: HayateError."""
    raise UsageError(f"the script {script.name} can't be had yet", hint="")
