"""The list of extensions, as the command line and the page show it."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Literal

from hayate.extensions.current import session_for
from hayate.extensions.discovery import Found, Origin
from hayate.extensions.requirements import unmet
from hayate.extensions.session import Session
from hayate.extensions.standing import Standing
from hayate.extensions.state import LastTime
from hayate.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An extension in the list."""

    name: str
    version: str
    summary: str
    origin: str
    state: Literal["on", "off", "unusable"]
    problem: str
    """Why it can't be used, or what failed when it was last in use."""
    hooks: tuple[str, ...]
    """What it adds, as "kind: name"."""
    import_s: float
    hook_s: float
    calls: int
    last_at_s: float | None
    """When these were measured, in seconds since 1970; None if it never was in use."""
    source: str
    """Where it was installed from, if it was."""
    requires: tuple[str, ...] = ()
    """Packages, as pip reads them."""

    @property
    def title(self) -> str:
        return f"{self.name} {self.version}".strip()


def list_extensions(settings: Settings, flags: Container[str] = ()) -> tuple[tuple[Row, ...], tuple[str, ...]]:
    """Every extension, and what was wrong with the files about them; nothing is imported."""
    return rows_of(session_for(settings, flags))


def rows_of(session: Session) -> tuple[tuple[Row, ...], tuple[str, ...]]:
    """The rows of a session, with what other processes remember of the extensions."""
    if session.state is None:
        return (), ()
    last, installed = session.state.last_times(), session.state.read().installed
    rows = tuple(
        _row(each, last.get(each.name), installed[each.name].source if each.name in installed else "")
        for each in session.standings
    )
    return rows, tuple(session.state.notes)


def _row(standing: Standing, last: LastTime | None, source: str) -> Row:
    found = standing.found
    manifest = found.manifest
    hooks = () if manifest is None else manifest.hooks.items()
    mine = last or LastTime(at_s=0.0)
    failed = f"when it was last in use {mine.problem}" if mine.problem else ""
    lack = unmet(manifest.requires) if manifest is not None and standing.is_on else ""
    return Row(
        name=standing.name,
        version="" if manifest is None else manifest.version,
        summary="" if manifest is None else manifest.summary,
        origin=found.origin.value,
        state=_state(found, standing.is_on),
        problem=found.problem or lack or standing.problem or failed,
        hooks=tuple(f"{kind}: {name}" for kind, places in hooks for name in places),
        import_s=mine.import_s,
        hook_s=mine.hook_s,
        calls=mine.calls,
        last_at_s=None if last is None else last.at_s,
        source=source,
        requires=() if manifest is None else manifest.requires,
    )


def _state(found: Found, is_on: bool) -> Literal["on", "off", "unusable"]:
    if found.origin is Origin.A1111 or not found.is_usable:
        return "unusable"
    return "on" if is_on else "off"
