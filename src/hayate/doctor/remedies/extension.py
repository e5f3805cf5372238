"""An extension that makes starts longer is disabled: it stays where it is, and is not imported."""

from __future__ import annotations

from pathlib import Path

from hayate.doctor.finding import Action
from hayate.doctor.remedies.base import Outcome
from hayate.doctor.undo import Done
from hayate.errors import UsageError
from hayate.extensions.state import StateFile


class SwitchingOff:
    """What `hayate extensions disable` does; running servers follow with their next job."""

    def __init__(self, data_dir: Path) -> None:
        self._file = StateFile(data_dir)

    def plan(self, action: Action) -> Done:
        if action.subject in self._file.read().disabled:
            raise UsageError(f"{action.subject} is disabled already", hint="run hayate doctor again")
        return Done(job=action.job, subject=action.subject)

    def do(self, done: Done) -> Outcome:
        self._file.write(self._file.read().switched(done.subject, is_on=False))
        return Outcome(text=f"{done.subject} is disabled, from the next job on")

    def undo(self, done: Done) -> str:
        state = self._file.read()
        if done.subject in state.disabled:
            self._file.write(state.switched(done.subject, is_on=True))
            return f"{done.subject} is enabled again, from the next job on"
        return f"{done.subject} is enabled already"
