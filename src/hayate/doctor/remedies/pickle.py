"""A pickle becomes a safetensors file; the pickle is kept beside it under a name that no list shows."""

from __future__ import annotations

from pathlib import Path

from hayate.doctor.finding import Action
from hayate.doctor.remedies.base import Outcome, expanded, move, stamp
from hayate.doctor.undo import Done
from hayate.errors import OutputError, UsageError
from hayate.weights.convert import Conversion
from hayate.weights.rewrite import convert_file

ASIDE = ".aside"


class PickleConversion:
    """What `hayate models convert` does, types and all as they are, without the training's averages."""

    def plan(self, action: Action) -> Done:
        path = expanded(action.subject)
        target = path.with_suffix(".safetensors")
        if not path.is_file():
            raise UsageError(f"{path} is not there any more", hint="run hayate doctor again")
        for there in (target, _kept(path)):
            if there.exists():
                raise UsageError(f"{there} is there already", hint="move it away")
        return Done(job=action.job, subject=str(path), before={"target": str(target)})

    def do(self, done: Done) -> Outcome:
        path, target = Path(done.subject), Path(done.before["target"])
        convert_file(path, target, Conversion())
        try:
            move(path, _kept(path))
        except OutputError:
            target.unlink(missing_ok=True)
            raise
        text = f"{target} was made of {path.name}, which is kept as {_kept(path).name}"
        return Outcome(text=text, after={"stamp": stamp(target)})

    def undo(self, done: Done) -> str:
        path, target = Path(done.subject), Path(done.before["target"])
        kept = _kept(path)
        if kept.exists():
            move(kept, path)
        if not path.exists():
            raise UsageError(f"{kept} is gone, so {path.name} can't come back", hint=f"{target.name} stays")
        if target.exists() and stamp(target) == done.after.get("stamp"):
            target.unlink()
            return f"{path} is back, and {target.name} is gone"
        return f"{path} is back" + (f"; {target.name} is not as it was left, and stays" if target.exists() else "")


def _kept(path: Path) -> Path:
    return path.with_name(path.name + ASIDE)
