"""The database of jobs: its tables, how it is opened, and what becomes of one that is broken."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from datetime import datetime
from pathlib import Path

from hayate.errors import MissingDependency, OutputError, UsageError

VERSION = 1
FILE_NAME = "jobs.sqlite3"
OLDEST = (3, 35, 0)
"""SQLite that knows RETURNING."""
BUSY_MS = 5000

SCHEMA = """
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    body_hash TEXT NOT NULL,
    inputs TEXT NOT NULL,
    priority INTEGER NOT NULL,
    key TEXT UNIQUE,
    client TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    attempt INTEGER NOT NULL DEFAULT 0,
    is_cancel_asked INTEGER NOT NULL DEFAULT 0,
    created_s REAL NOT NULL,
    started_s REAL,
    ended_s REAL,
    result TEXT,
    failure TEXT
);
CREATE INDEX jobs_waiting ON jobs (priority DESC, number) WHERE state = 'queued';
CREATE INDEX jobs_unfinished ON jobs (state) WHERE state IN ('queued', 'running');
CREATE TABLE pictures (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    place INTEGER NOT NULL,
    path TEXT NOT NULL,
    seed INTEGER NOT NULL,
    subseed INTEGER NOT NULL,
    infotext TEXT NOT NULL,
    width_px INTEGER NOT NULL,
    height_px INTEGER NOT NULL,
    is_saved INTEGER NOT NULL,
    UNIQUE (job, place)
);
CREATE TRIGGER jobs_end_for_good BEFORE UPDATE OF state, result, failure, ended_s ON jobs
WHEN old.state IN ('done', 'failed', 'cancelled')
BEGIN SELECT raise(ABORT, 'a job that has ended stays as it is'); END;
"""


def open_database(folder: Path) -> tuple[sqlite3.Connection, tuple[str, ...]]:
    """The database in `folder`, made if there is none, and what the user should know of it.

    One that is broken is put aside under another name, and a new one is begun.
    Raises: UsageError for one of a newer Hayate, OutputError where none can be made, MissingDependency.
    """
    if sqlite3.sqlite_version_info < OLDEST:
        version = ".".join(map(str, OLDEST))
        raise MissingDependency(f"SQLite {sqlite3.sqlite_version} is too old", hint=f"{version} or newer is needed")
    path, notes = folder / FILE_NAME, ()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return _opened(path), notes
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):  # locked, read-only, no room: nothing is broken
                raise OutputError(f"{path} can't be opened: {error}", hint="see the setting data_dir") from error
            aside = put_aside(path)
            note = f"the list of jobs was damaged ({error}); it is kept as {aside.name}, and a new one was begun"
            return _opened(path), (note,)
    except OSError as error:
        raise OutputError(f"{path} can't be written: {error.strerror}", hint="see the setting data_dir") from error


def connect(path: Path) -> sqlite3.Connection:
    """A connection for any thread, one at a time; each statement is its own transaction unless one is begun."""
    connection = sqlite3.connect(path, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    return connection


def put_aside(path: Path) -> Path:
    """Renames a broken database, and what SQLite keeps beside it; its new place."""
    stamp = datetime.now().strftime("%Y-%m-%dT%H-%M-%S")
    number = 0
    while (aside := path.with_name(f"{path.name}.broken-{stamp}{f'-{number}' if number else ''}")).exists():
        number += 1
    for ending in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.replace(f"{path}{ending}", f"{aside}{ending}")  # noqa: PTH105
    os.replace(path, aside)  # noqa: PTH105
    return aside


def _opened(path: Path) -> sqlite3.Connection:
    """Raises: sqlite3.DatabaseError for a broken one, UsageError for one of a newer Hayate."""
    connection = connect(path)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # a job that was accepted outlives a loss of power
        connection.execute("PRAGMA foreign_keys = ON")
        found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(found.splitlines()[-1])
        _migrate(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Raises: UsageError, sqlite3.DatabaseError."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise UsageError(f"{path} is of a newer Hayate", hint="update this one, or choose another data_dir")
    if version == 0:
        # executescript commits what is open and begins nothing, so the transaction is a part of the script.
        connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
        return
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if missing := {"jobs", "pictures"} - tables:
        raise sqlite3.DatabaseError(f"it has no {' and no '.join(sorted(missing))}")
