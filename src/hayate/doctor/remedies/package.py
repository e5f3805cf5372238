"""A package that nothing needs is uninstalled; undoing installs the same version again."""

from __future__ import annotations

from hayate.doctor.finding import Action
from hayate.doctor.probes.ask import Unanswered, ask
from hayate.doctor.remedies.base import Outcome
from hayate.doctor.undo import Done
from hayate.errors import EngineError

LIMIT_S = 600.0


class PackageRemoval:
    """By the pip of this environment."""

    def __init__(self, python: str) -> None:
        self._python = python

    def plan(self, action: Action) -> Done:
        return Done(job=action.job, subject=action.subject, before={"version": action.value})

    def do(self, done: Done) -> Outcome:
        self._pip("uninstall", "--yes", done.subject)
        return Outcome(text=f"{done.subject} {done.before['version']} is uninstalled")

    def undo(self, done: Done) -> str:
        pinned = f"{done.subject}=={done.before['version']}"
        self._pip("install", "--no-deps", pinned)
        return f"{pinned} is installed again"

    def _pip(self, *words: str) -> None:
        try:
            ask([self._python, "-m", "pip", "--disable-pip-version-check", *words], LIMIT_S)
        except Unanswered as error:
            message = f"pip could not {words[0]} {words[-1]}: {error}"
            raise EngineError(message, hint="installing needs the network") from error
