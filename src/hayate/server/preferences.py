"""What was chosen through the API or on the page, and outlives the server: `options.json` in the data folder."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hayate.errors import HayateError, OutputError, clip
from hayate.settings import Settings, changed_settings

logger = logging.getLogger(__name__)

FILE_NAME = "options.json"
MAX_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """All that was chosen."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """Values over those of the settings file."""
    others: Mapping[str, Any] = field(default_factory=dict)
    """Options that A1111 has and Hayate keeps for whoever asks, under A1111's names."""
    page: Mapping[str, Any] = field(default_factory=dict)
    """The page's own: its language, its theme."""
    model: str | None = None
    vae: str | None = None


class Preferences:
    """The choices in memory and on the disk; safe from any thread."""

    def __init__(self, folder: Path, base: Settings) -> None:
        self._path = folder / FILE_NAME
        self._base = base
        self._lock = threading.Lock()
        self._chosen: Chosen | None = None

    @property
    def chosen(self) -> Chosen:
        """What was chosen; read when it is first asked for. A damaged file is put aside and begun anew.

        Of workers that have a device each, a device that was chosen for one is left out, and kept.
        """
        with self._lock:
            return self._acting(self._read())

    def begin_with(self, names: Mapping[str, str], *, replaces: bool) -> None:
        """Chooses a `model` or `vae` for this start where none was chosen, or if it `replaces` that, in its place.

        Nothing is written before something is changed.
        """
        with self._lock:
            chosen = self._read()
            if replaces or not (chosen.model or chosen.vae):
                self._chosen = replace(chosen, **names)

    def settings(self) -> Settings:
        """The settings as they are with what was chosen."""
        return changed_settings(self._base, self.chosen.settings, allows_paths=False)

    def check(self, settings: Mapping[str, Any]) -> None:
        """Raises: UsageError, UnknownName for values that can't be chosen."""
        changed_settings(self._base, settings, allows_paths=False)

    def change(
        self,
        *,
        settings: Mapping[str, Any] | None = None,
        others: Mapping[str, Any] | None = None,
        page: Mapping[str, Any] | None = None,
        names: Mapping[str, str | None] | None = None,
    ) -> Chosen:
        """Lays new choices over the old ones and writes them; `names` has `model`, `vae` or both.

        A value of None takes a choice back. Raises: UsageError, UnknownName; OutputError where it can't be written.
        """
        changed_settings(self._base, settings or {}, allows_paths=False)
        with self._lock:
            before = self._read()
            chosen = replace(
                before,
                settings=_over(before.settings, settings or {}),
                others=_over(before.others, others or {}),
                page=_over(before.page, page or {}),
                **(names or {}),
            )
            if chosen != before:
                self._write(chosen)
            self._chosen = chosen
            return self._acting(chosen)

    def _acting(self, chosen: Chosen) -> Chosen:
        if self._base.devices is None or "device" not in chosen.settings:
            return chosen
        return replace(chosen, settings={key: value for key, value in chosen.settings.items() if key != "device"})

    def _read(self) -> Chosen:
        if self._chosen is None:
            self._chosen = self._from_file()
        return self._chosen

    def _from_file(self) -> Chosen:
        try:
            with self._path.open("rb") as file:
                raw = file.read(MAX_BYTES + 1)
            if len(raw) > MAX_BYTES:
                raise ValueError(f"it is larger than {MAX_BYTES} bytes")
            chosen = _chosen_of(json.loads(raw))
            acting = self._acting(chosen)
            changed_settings(self._base, acting.settings, allows_paths=False)
            if acting is not chosen:
                logger.warning("the device that %s chooses waits: devices has the workers' own", self._path)
            return chosen
        except FileNotFoundError:
            return Chosen()
        except OSError as error:
            logger.warning("%s can't be read, and is left as it is: %s", self._path, error.strerror)
            return Chosen()
        except (ValueError, TypeError, RecursionError, HayateError) as error:
            aside = self._path.with_name(f"{FILE_NAME}.broken-{time.strftime('%Y%m%d-%H%M%S')}")
            logger.warning("%s is damaged and was put aside as %s: %s", self._path, aside.name, clip(str(error), 200))
            try:
                self._path.replace(aside)
            except OSError as failure:
                logger.warning("%s can't be put aside: %s", self._path, failure.strerror)
            return Chosen()

    def _write(self, chosen: Chosen) -> None:
        """The whole file under its name, or the one of before."""
        content = {name: getattr(chosen, name) for name in ("settings", "others", "page", "model", "vae")}
        temporary = self._path.with_name(f".{FILE_NAME}.hayate-tmp")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("w", encoding="utf-8") as file:
                json.dump(content, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            reason = error.strerror or str(error)
            raise OutputError(f"can't write {self._path}: {reason}", hint="nothing was changed") from error


def _over(before: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in {**before, **changes}.items() if value is not None}


def _chosen_of(content: Any) -> Chosen:
    """Raises: TypeError, ValueError, UsageError for what is not this file's content."""
    if not isinstance(content, dict):
        raise TypeError("it is no JSON object")
    parts = {name: dict(content.get(name) or {}) for name in ("settings", "others", "page")}
    model, vae = content.get("model"), content.get("vae")
    if not isinstance(model, str | None) or not isinstance(vae, str | None):
        raise TypeError("a model's name is no text")
    return Chosen(**parts, model=model, vae=vae)
