"""What A1111's options say for one call: those that were set for good, under those that the call itself overrides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hayate.errors import UsageError, clip
from hayate.server.a1111.option_keys import ACTING, KEPT, MODEL, NAMES, READ_ONLY, VAE
from hayate.server.preferences import Chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options as they hold for one call."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """Hayate's settings that differ from the file's."""
    kept: Mapping[str, Any] = field(default_factory=dict)
    model: str | None = None
    """As a caller names it."""
    standing_model: str | None = None
    """The one that was set for good."""
    vae: str | None = None
    notes: tuple[str, ...] = ()

    def value(self, key: str) -> Any:
        """Of one of `KEPT`."""
        return self.kept.get(key, KEPT[key].default)

    def changed(self, key: str) -> Any:
        """The same, or None where it is the default."""
        value = self.value(key)
        return None if value == KEPT[key].default else value


def options_for(chosen: Chosen, overrides: Mapping[str, Any]) -> Options:
    """The options with a call's `override_settings`; those that say where files go are left out with a note.

    Raises: UsageError, UnknownName for a value that can't be; those of settings are checked with the job.
    """
    read = read_options(overrides)
    return Options(
        settings={**chosen.settings, **read.settings},
        kept={**chosen.others, **read.kept},
        model=read.model if MODEL in overrides else chosen.model,
        standing_model=chosen.model,
        vae=read.vae if VAE in overrides else chosen.vae,
        notes=read.notes,
    )


def read_options(values: Mapping[str, Any]) -> Options:
    """The options among `values`, checked; what is not one, or may not be set, is a note.

    Raises: UsageError, UnknownName.
    """
    settings: dict[str, Any] = {}
    kept: dict[str, Any] = {}
    notes: list[str] = []
    for key, value in values.items():
        if key in ACTING:
            settings[ACTING[key].setting] = ACTING[key].read(value)
        elif key in KEPT:
            kept[key] = KEPT[key].check(key, value)
        elif key in READ_ONLY:
            notes.append(f"the option {key} is not set from outside")
        elif key not in NAMES:
            notes.append(f"the option {clip(key)!r} is not known here")
    return Options(
        settings=settings,
        kept=kept,
        model=_name(values, MODEL),
        vae=_name(values, VAE),
        notes=tuple(notes),
    )


def _name(values: Mapping[str, Any], key: str) -> str | None:
    """Raises: UsageError."""
    value = values.get(key)
    if value is not None and not isinstance(value, str):
        raise UsageError(f"the option {key} can't be {clip(repr(value), 60)}", hint="a name from the lists")
    return value if value and value.strip() else None
