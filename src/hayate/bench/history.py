"""What was measured on this machine, kept in SQLite: one row per measurement, never changed."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hayate.bench.machine import title_of
from hayate.errors import HayateError, OutputError, UsageError

FILE_NAME = "history.sqlite3"
VERSION = 1
BUSY_S = 10.0
_TABLE = """CREATE TABLE IF NOT EXISTS measurements (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at TEXT NOT NULL, label TEXT NOT NULL, preset TEXT NOT NULL, model TEXT NOT NULL, content TEXT NOT NULL
)"""


class NewerHistory(HayateError):
    """The history was written by a newer Hayate."""


@dataclass(slots=True, kw_only=True)
class History:
    """The measurements in one file, oldest first."""

    path: Path
    notes: list[str] = field(default_factory=list)
    """What had to be done to the file, for the user to know."""

    def add(self, measurement: Mapping[str, Any]) -> int:
        """Keeps a measurement; its number.

        Raises: OutputError where it can't be written.
        """
        row = (measurement["at"], measurement["label"], measurement["preset"], measurement["model"]["name"])
        content = json.dumps({key: value for key, value in measurement.items() if key != "id"})
        with self._opened() as database:
            cursor = database.execute(
                "INSERT INTO measurements (at, label, preset, model, content) VALUES (?, ?, ?, ?, ?)", (*row, content)
            )
            assert cursor.lastrowid is not None
            return cursor.lastrowid

    def latest(self, count: int) -> list[dict[str, Any]]:
        """The last `count` measurements, oldest first."""
        with self._opened() as database:
            rows = database.execute(
                "SELECT id, content FROM measurements ORDER BY id DESC LIMIT ?", (count,)
            ).fetchall()
        return [_measurement(*row) for row in reversed(rows)]

    def find(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Measurements by number, by label (the last of that label), or "last".

        Raises: UsageError for one that isn't there.
        """
        with self._opened() as database:
            return [_measurement(*_row(database, name)) for name in names]

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """The database, with what is done in it kept as a whole; a damaged file is set aside first."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            database = self._checked() or self._fresh()
        except (OSError, sqlite3.OperationalError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise OutputError(
                f"the history {self.path} can't be opened: {reason}", hint="see the setting data_dir"
            ) from error
        try:
            with database:
                yield database
        except sqlite3.OperationalError as error:
            raise OutputError(f"the history {self.path} can't be used: {error}", hint="is the disk full?") from error
        finally:
            database.close()

    def _checked(self) -> sqlite3.Connection | None:
        """The database if it is whole; None if it was damaged and is out of the way now."""
        database = sqlite3.connect(self.path, timeout=BUSY_S)
        try:
            version = database.execute("PRAGMA user_version").fetchone()[0]
            if version > VERSION:
                message = f"the history {self.path} was written by a newer Hayate (format {version})"
                raise NewerHistory(message, hint="update Hayate, or set data_dir to another folder")
            if database.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                raise sqlite3.DatabaseError("quick_check failed")
            database.execute(_TABLE)
            database.execute("SELECT id, at, label, preset, model, content FROM measurements LIMIT 0")
            database.execute(f"PRAGMA user_version = {VERSION}")
        except (sqlite3.OperationalError, HayateError):
            database.close()
            raise
        except sqlite3.DatabaseError as error:
            database.close()
            self._quarantine(error)
            return None
        return database

    def _quarantine(self, error: Exception) -> None:
        aside = self.path.with_name(f"{self.path.name}.damaged-{datetime.now(UTC):%Y%m%d-%H%M%S}")
        self.path.replace(aside)
        self.notes.append(f"the history was damaged ({error}); it is kept as {aside}, and a new one begins")

    def _fresh(self) -> sqlite3.Connection:
        database = self._checked()
        assert database is not None, "a file that was just made is whole"
        return database


def _row(database: sqlite3.Connection, name: str) -> tuple[int, str]:
    asked, values = "SELECT id, content FROM measurements", (name,)
    if name == "last":
        asked, values = f"{asked} ORDER BY id DESC LIMIT 1", ()
    elif name.isascii() and name.isdigit() and len(name) < 19:
        asked += " WHERE id = ?"
    else:
        asked += " WHERE label = ? ORDER BY id DESC LIMIT 1"
    found = database.execute(asked, values).fetchone()
    if found is None:
        count, last = database.execute("SELECT count(*), max(id) FROM measurements").fetchone()
        hint = (
            f"there are {count}, up to number {last}; see hayate bench history"
            if count
            else "measure one: hayate bench quick"
        )
        raise UsageError(f"no measurement {name!r}", hint=hint)
    return found


def _measurement(number: int, content: str) -> dict[str, Any]:
    return {"id": number, **json.loads(content)}


def as_markdown(measurements: Sequence[Mapping[str, Any]]) -> str:
    """A table for a forum or an issue, with the machine that it is of."""
    lines = [
        "| # | what | model | size | batch | it/s (range) | images/min | first image s | PSNR dB | machine |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for each in measurements:
        work, summary = each["work"], each["summary"]
        speed, minute = summary["it_per_s"], summary["images_per_minute"]["median"]
        cells = [
            each["id"],
            each["label"] or each["preset"],
            each["model"]["name"],
            f"{work['width_px']}×{work['height_px']}",
            f"{work['batch_size']} × {work['batch_count']}",
            f"{speed['median']:.4g} ({speed['low']:.4g}–{speed['high']:.4g})",
            f"{minute:.4g}",
            f"{each['first']['total']:.1f}",
            decibels(each.get("difference")),
            title_of(each["machine"]),
        ]
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def decibels(difference: Mapping[str, Any] | None) -> str:
    """A measurement's difference in a few characters."""
    if difference is None:
        return "–"
    return "same bits" if difference["psnr_db"] is None else f"{difference['psnr_db']:.1f}"
