"""A file that is put out of the way, and a folder that is made."""

from __future__ import annotations

import secrets
from pathlib import Path

from hayate.doctor.finding import Action
from hayate.doctor.remedies.base import Outcome, expanded, make, move
from hayate.doctor.undo import Done
from hayate.errors import UsageError


class SettingAside:
    """Moves a file into the doctor's own folder."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / "doctor" / "aside"

    def plan(self, action: Action) -> Done:
        path = expanded(action.subject)
        if not path.exists():
            raise UsageError(f"{path} is not there any more", hint="run hayate doctor again")
        kept = self._folder / f"{secrets.token_hex(4)}-{path.name}"
        return Done(job=action.job, subject=str(path), before={"kept": str(kept)})

    def do(self, done: Done) -> Outcome:
        path, kept = Path(done.subject), Path(done.before["kept"])
        move(path, kept)
        return Outcome(text=f"{path.name} is set aside in {kept.parent}")

    def undo(self, done: Done) -> str:
        path, kept = Path(done.subject), Path(done.before["kept"])
        if path.exists() and kept.exists():
            raise UsageError(f"there is a new {path}", hint=f"the old one stays in {kept}")
        if kept.exists():
            move(kept, path)
        return f"{path} is back"


class NewFolder:
    """Makes a folder, with those above it that are missing."""

    def plan(self, action: Action) -> Done:
        path = expanded(action.subject)
        missing = [each for each in (*reversed(path.parents), path) if not each.exists()]
        if not missing:
            raise UsageError(f"{path} is there already", hint="run hayate doctor again")
        return Done(job=action.job, subject=str(path), before={"first": str(missing[0])})

    def do(self, done: Done) -> Outcome:
        make(Path(done.subject))
        return Outcome(text=f"{done.subject} is there")

    def undo(self, done: Done) -> str:
        path, first = Path(done.subject), Path(done.before["first"])
        for each in (path, *path.parents):
            if not each.is_relative_to(first) or not each.is_dir():
                continue
            if any(each.iterdir()):
                raise UsageError(f"{each} is in use", hint="it stays")
            each.rmdir()
        return f"{first} is gone"
