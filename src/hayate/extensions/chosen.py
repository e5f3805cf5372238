"""What is asked of extensions by name: a failure is the asker's to know, for nothing else may take its place.

Extensions that act on every job are another matter: `pipeline.hooked` goes on without one that fails.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from hayate.errors import UsageError
from hayate.extensions.current import current
from hayate.extensions.standing import Crashed, Hook

Kind = TypeVar("Kind")
Result = TypeVar("Result")


def chosen(kind: str, name: str, wanted: type[Kind] | None = None) -> tuple[Hook, Kind] | None:
    """What an extension adds under a name, in any case; its module is imported now. None where none adds it.

    Raises: UsageError where the extension fails, or gives something else than `wanted`.
    """
    hook = current().find(kind, name)
    if hook is None:
        return None
    try:
        found = current().load(hook)
    except Crashed as error:
        raise refusal(hook, error) from error
    if wanted is not None and not isinstance(found, wanted):
        error = current().crashed(hook, TypeError(f"it is {type(found).__name__} and no {wanted.__name__}"))
        raise refusal(hook, error)
    return hook, found


def why_absent(kind: str, name: str) -> str:
    """Why what an extension adds under a name can't be had now; "" where no extension adds it."""
    wanted = name.casefold()
    for each in current().standings:
        if each.found.manifest is None or wanted not in map(str.casefold, each.manifest.hooks.get(kind, {})):
            continue
        if not each.is_on:
            return f"it is of the extension {each.name}, which is switched off"
        if problem := each.found.problem or each.problem:
            return f"it is of the extension {each.name}, which is left out: {problem}"
    return ""


def held(hook: Hook, work: Callable[..., Result]) -> Callable[..., Result]:
    """`work`, which is an extension's, timed, with its output caught and its errors in words."""

    def call(*words: object) -> Result:
        try:
            return current().call(hook, lambda: work(*words))
        except Crashed as error:
            raise refusal(hook, error) from error

    return call


def refusal(hook: Hook, error: Crashed) -> UsageError:
    """What is told to whoever asked for something of an extension that fails."""
    title = f"{hook.name!r} of the extension {hook.owner.name} can't be had"
    return UsageError(f"{title}: {error.problem}", hint="choose another one; the extension's log has more")
