"""Scripts of extensions: known by their manifests wherever jobs are checked, imported only where they are run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from hayate.errors import UsageError
from hayate.extensions.chosen import chosen, held
from hayate.extensions.control import Value, checked_values
from hayate.extensions.current import current
from hayate.extensions.standing import Hook
from hayate.jobs.names import check_request_names
from hayate.jobs.wire import read_object
from hayate.request import TextToImage, validate
from hayate.runtime.asked import Asked
from hayate.settings import Settings

MOST_REQUESTS = 1000
Wanted = tuple[TextToImage, Asked]


@dataclass(frozen=True, slots=True, kw_only=True)
class LentScript:
    """`jobs.scripts.Script`: a script's name, and the value of each of its controls."""

    name: str
    values: Mapping[str, Value]
    needs_picture: bool = False

    def check(self, request: TextToImage, asked: Asked, settings: Settings) -> None:
        """What its manifest tells; what its code says is heard where it is run. Raises: UsageError."""
        del asked, settings
        if self.needs_picture and request.start is None:
            raise UsageError(f"the script {self.name} needs a picture to start from", hint="start: {path: …}")

    def said(self) -> dict[str, Value]:
        """The values that are not as by default."""
        hook = current().find("scripts", self.name)
        defaults = {} if hook is None else {control.key: control.default for control in hook.controls}
        return {key: value for key, value in self.values.items() if value != defaults.get(key)}


def lent_script(hook: Hook, given: Mapping[str, Any]) -> LentScript:
    """The script of a hook, with what a job says to it.

    Raises: UnknownName for a field that its manifest does not have, UsageError for a value that can't be.
    """
    values = checked_values(hook.controls, given, f"the script {hook.name}")
    return LentScript(name=hook.name, values=values, needs_picture=hook.needs_picture)


def lent_requests(script: LentScript, request: TextToImage, asked: Asked, settings: Settings) -> Sequence[Wanted]:
    """What an extension's script makes in place of a request; its module is imported now.

    Raises: UsageError where the extension fails, gives something else or refuses; UnknownName.
    """
    found = chosen("scripts", script.name, type)
    if found is None:
        raise UsageError(f"the script {script.name} is gone", hint="its extension was switched off or removed")
    hook, kind = found

    def work() -> list[Wanted]:
        own = read_object(kind, script.values, f"the script {script.name}")
        own.check(request, asked, settings)
        return list(map(_wanted, islice(own.requests(request, asked), MOST_REQUESTS + 1)))

    wanted = held(hook, work)()
    if not 1 <= len(wanted) <= MOST_REQUESTS:
        count = f"more than {MOST_REQUESTS}" if wanted else "0"
        raise UsageError(f"the script {script.name} gives {count} requests", hint=f"1 to {MOST_REQUESTS} can be made")
    for each, _ in wanted:
        validate(each)
        check_request_names(each, settings)
    return wanted


def _wanted(made: Any) -> Wanted:
    is_pair = isinstance(made, tuple) and len(made) == 2
    if not is_pair or not isinstance(made[0], TextToImage) or not isinstance(made[1], Asked):
        raise TypeError(f"it gave {type(made).__name__} and no pair of TextToImage and Asked")
    return made
