"""Extensions for a process of our own: the same ones act there as here."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from hayate.extensions.current import built_in_session, current
from hayate.extensions.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """Where another process finds the extensions, and which of them act."""

    folder: str
    data_dir: str
    limit_s: float
    names: tuple[str, ...]

    def session(self) -> Session:
        """Those that are off here, or have failed, are left out."""
        made = Session.open(Path(self.folder), Path(self.data_dir), limit_s=self.limit_s)
        others = (each.name for each in made.standings if each.name not in self.names)
        made.leave_out(dict.fromkeys(others, "it is left out where this was begun"))
        return made


def hand_over() -> str:
    """This process' extensions as a word of a command line."""
    session = current()
    if session.folder is None or session.state is None:
        return ""
    handed = Handed(
        folder=str(session.folder.absolute()),
        data_dir=str(session.state.folder.absolute()),
        limit_s=session.limit_s,
        names=tuple(each.name for each in session.standings if each.acts),
    )
    return json.dumps(asdict(handed))


def take_over(word: str) -> Session:
    """The session of `hand_over`'s word; that of the built-in extensions where it is empty."""
    if not word:
        return built_in_session()
    words = json.loads(word)
    return Handed(**{**words, "names": tuple(words["names"])}).session()
