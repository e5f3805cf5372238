"""The durable queue: what was accepted is done once, or its failure is told, whatever ends in between."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from hayate.errors import JobError, KeyReused, QueueFull, UnknownJob, UsageError, clip
from hayate.jobs.accepted import MOST_KEY_CHARACTERS, checked, new_id
from hayate.jobs.records import Failure, JobRecord, NewJob, Picture, PictureRecord, Result, State
from hayate.jobs.rows import PICTURE_COLUMNS, job_of, kept_of, picture_record_of, pictures_by_job
from hayate.jobs.schema import FILE_NAME, connect, open_database

MOST_WAITING = 1000
MOST_ATTEMPTS = 2
MOST_AT_ONCE = 1000
"""How many rows one page of the history has at most."""
CRASHED = Failure(type="Crashed", message="crashed twice", hint="the worker's log says more: server/worker.log")


class Queue:
    """Jobs in a SQLite database; any thread may call anything.

    A job is handed out by `claim` and comes back by `finish`, `put_back` or `crashed`; its terminal state is for good.
    """

    def __init__(self, folder: Path, *, most_waiting: int = MOST_WAITING) -> None:
        """Raises: UsageError, OutputError."""
        self._most_waiting = most_waiting
        self._connection, self.notes = open_database(folder)
        self._reader = connect(folder / FILE_NAME)
        self._writing, self._reading = threading.Lock(), threading.Lock()

    def known(self, new: NewJob) -> JobRecord | None:
        """The earlier job with the key and the body of this one. Raises: UsageError, KeyReused."""
        if new.key is None:
            return None
        _, digest = checked(new)
        with self._reading:
            row = _with_key(self._reader, new.key)
            return None if row is None else self._full(_same(row, digest), self._reader)

    def add(self, new: NewJob, inputs: Collection[str] = ()) -> tuple[JobRecord, bool]:
        """The job, and whether it is a new one: with the key and the body of an earlier one it is that one.

        `inputs` are the names of the pictures that it starts from.
        Raises: UsageError, QueueFull, KeyReused.
        """
        body, digest = checked(new)
        with self._transaction() as write:
            if new.key is not None and (known := _with_key(write, new.key)) is not None:
                return self._full(_same(known, digest), write), False
            if _count(write, State.QUEUED) >= self._most_waiting:
                raise QueueFull(f"{self._most_waiting} jobs are waiting", hint="try again later, or cancel some")
            row = write.execute(
                "INSERT INTO jobs (id, kind, body, body_hash, inputs, priority, key, client, state, created_s)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'queued', ?) RETURNING *",
                (
                    new_id(),
                    new.kind,
                    body,
                    digest,
                    json.dumps(sorted(inputs)),
                    new.priority,
                    new.key,
                    clip(new.client, MOST_KEY_CHARACTERS),
                    time.time(),
                ),
            ).fetchone()
            return job_of(row, ()), True

    def claim(self) -> JobRecord | None:
        """The job to begin now, which runs from here on; None where none waits."""
        with self._transaction() as write:
            row = write.execute(
                "UPDATE jobs SET state = 'running', attempt = attempt + 1, started_s = ? WHERE number ="
                " (SELECT number FROM jobs WHERE state = 'queued' ORDER BY priority DESC, number LIMIT 1) RETURNING *",
                (time.time(),),
            ).fetchone()
            return None if row is None else job_of(row, ())

    def finish(
        self, id_: str, state: State, *, result: Result | None = None, failure: Failure | None = None
    ) -> JobRecord:
        """The running job, ended; one that does not run stays as it is.

        Raises: UnknownJob.
        """
        assert state.is_terminal
        with self._transaction() as write:
            row = write.execute(
                "UPDATE jobs SET state = ?, ended_s = ?, result = ?, failure = ? WHERE id = ? AND state = 'running'"
                " RETURNING *",
                (state.value, time.time(), *kept_of(result, failure), id_),
            ).fetchone()
            if row is None:
                return self._full(_row(write, id_), write)
            pictures = () if result is None else result.pictures
            _add_pictures(write, id_, pictures)
            return job_of(row, pictures)

    def put_back(self, id_: str) -> JobRecord:
        """The running job waits again, as if it had not been begun. Raises: UnknownJob."""
        with self._transaction() as write:
            write.execute(
                "UPDATE jobs SET state = CASE WHEN is_cancel_asked THEN 'cancelled' ELSE 'queued' END,"
                " ended_s = CASE WHEN is_cancel_asked THEN ? END, attempt = attempt - 1, started_s = NULL"
                " WHERE id = ? AND state = 'running'",
                (time.time(), id_),
            )
            return self._full(_row(write, id_), write)

    def crashed(self, id_: str, reason: str = "") -> JobRecord:
        """The running job after the end of its worker: it waits once more, or has failed. Raises: UnknownJob."""
        with self._transaction() as write:
            _recover(write, id_, reason)
            return self._full(_row(write, id_), write)

    def recover(self) -> tuple[JobRecord, ...]:
        """What a crash of the server left running, in its new states."""
        with self._transaction() as write:
            found = [row["id"] for row in write.execute("SELECT id FROM jobs WHERE state = 'running'")]
            _recover(write, None, "")
            return tuple(self._full(_row(write, id_), write) for id_ in found)

    def cancel(self, id_: str) -> tuple[JobRecord, bool]:
        """A waiting job is cancelled, a running one is marked, one that has ended stays; and whether this ended it.

        Raises: UnknownJob.
        """
        with self._transaction() as write:
            ended = write.execute(
                "UPDATE jobs SET state = 'cancelled', ended_s = ? WHERE id = ? AND state = 'queued'",
                (time.time(), id_),
            )
            write.execute("UPDATE jobs SET is_cancel_asked = 1 WHERE id = ? AND state = 'running'", (id_,))
            return self._full(_row(write, id_), write), ended.rowcount > 0

    def delete(self, id_: str) -> None:
        """Forgets a job that has ended. Raises: UnknownJob, UsageError."""
        with self._transaction() as write:
            if not State(_row(write, id_)["state"]).is_terminal:
                raise UsageError(f"the job {id_} has not ended", hint="cancel it first")
            write.execute("DELETE FROM jobs WHERE id = ?", (id_,))

    def forget(self, *, before_s: float, most: int) -> tuple[str, ...]:
        """Forgets what ended before a time, and all but the last `most` that have ended; their ids.

        Their keys are free then, so this is for what nobody will ask for again.
        """
        with self._transaction() as write:
            rows = write.execute(
                "DELETE FROM jobs WHERE state IN ('done', 'failed', 'cancelled') AND (ended_s < ? OR number <="
                " (SELECT number FROM jobs WHERE state IN ('done', 'failed', 'cancelled')"
                " ORDER BY number DESC LIMIT 1 OFFSET ?)) RETURNING id",
                (before_s, most),
            ).fetchall()
            return tuple(row["id"] for row in rows)

    def job(self, id_: str) -> JobRecord:
        """Raises: UnknownJob."""
        with self._reading:
            return self._full(_row(self._reader, id_), self._reader)

    def jobs(
        self, *, states: Collection[State] = (), kinds: Collection[str] = (), before: str = "", limit: int = 100
    ) -> tuple[JobRecord, ...]:
        """The newest first; `before` is the id that the page before ended with. Raises: UnknownJob."""
        wanted: list[tuple[str, Sequence[Any]]] = []
        if states:
            wanted.append((f"state IN ({_marks(states)})", [state.value for state in states]))
        if kinds:
            wanted.append((f"kind IN ({_marks(kinds)})", list(kinds)))
        with self._reading:
            if before:
                wanted.append(("number < ?", [_row(self._reader, before)["number"]]))
            where = " AND ".join(each for each, _ in wanted) or "1"
            values = [value for _, each in wanted for value in each]
            rows = self._reader.execute(
                f"SELECT * FROM jobs WHERE {where} ORDER BY number DESC LIMIT ?", (*values, _limit(limit))
            ).fetchall()
            return self._all_full(rows)

    def queued(self) -> tuple[JobRecord, ...]:
        """Those that wait, in the order in which they are claimed."""
        with self._reading:
            rows = self._reader.execute("SELECT * FROM jobs WHERE state = 'queued' ORDER BY priority DESC, number")
            return tuple(job_of(row, ()) for row in rows)

    def count(self, state: State) -> int:
        """How many jobs are in a state."""
        with self._reading:
            return _count(self._reader, state)

    def pictures(
        self, *, before: int | None = None, limit: int = 100, only_saved: bool = True
    ) -> tuple[PictureRecord, ...]:
        """The newest first; `before` is the number that the page before ended with."""
        with self._reading:
            rows = self._reader.execute(
                "SELECT * FROM pictures WHERE number < ? AND is_saved >= ? ORDER BY number DESC LIMIT ?",
                (2**62 if before is None else before, only_saved, _limit(limit)),
            ).fetchall()
            return tuple(map(picture_record_of, rows))

    def inputs_in_use(self, *, ended_after_s: float) -> frozenset[str]:
        """The pictures that jobs start from which have not ended, or ended after a time."""
        with self._reading:
            rows = self._reader.execute(
                "SELECT inputs FROM jobs WHERE inputs != '[]' AND (ended_s IS NULL OR ended_s > ?)", (ended_after_s,)
            ).fetchall()
            return frozenset(name for row in rows for name in json.loads(row["inputs"]))

    def close(self) -> None:
        """Nothing can be asked of it any more."""
        with self._writing, self._reading:
            self._reader.close()
            self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All of it, or nothing; on the disk when it is left. Raises: JobError where the disk takes nothing."""
        with self._writing:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.commit()
            except sqlite3.OperationalError as error:
                self._connection.rollback()
                raise JobError(f"the list of jobs can't be written: {error}", hint="is the disk full?") from error
            except BaseException:
                self._connection.rollback()
                raise

    def _full(self, row: sqlite3.Row, connection: sqlite3.Connection) -> JobRecord:
        return job_of(row, pictures_by_job(connection, [row["id"]]).get(row["id"], ()))

    def _all_full(self, rows: Sequence[sqlite3.Row]) -> tuple[JobRecord, ...]:
        found = pictures_by_job(self._reader, [row["id"] for row in rows])
        return tuple(job_of(row, found.get(row["id"], ())) for row in rows)


def _recover(write: sqlite3.Connection, id_: str | None, reason: str) -> None:
    """Running jobs whose worker has ended: cancelled if that was asked, else once more, and no second time.

    `id_` is the one, None all of them.
    """
    failure = CRASHED if not reason else replace(CRASHED, hint=reason)
    write.execute(
        "UPDATE jobs SET state = CASE WHEN is_cancel_asked THEN 'cancelled' WHEN attempt < :most THEN 'queued'"
        " ELSE 'failed' END, ended_s = CASE WHEN is_cancel_asked OR attempt >= :most THEN :now END,"
        " failure = CASE WHEN NOT is_cancel_asked AND attempt >= :most THEN :failure END"
        " WHERE state = 'running' AND (:id IS NULL OR id = :id)",
        {"most": MOST_ATTEMPTS, "now": time.time(), "failure": kept_of(None, failure)[1], "id": id_},
    )


def _add_pictures(write: sqlite3.Connection, id_: str, pictures: Sequence[Picture]) -> None:
    names = ", ".join(PICTURE_COLUMNS)
    write.executemany(
        f"INSERT INTO pictures (job, place, {names}) VALUES (?, ?, {_marks(PICTURE_COLUMNS)})",
        [(id_, place, *(getattr(picture, name) for name in PICTURE_COLUMNS)) for place, picture in enumerate(pictures)],
    )


def _row(connection: sqlite3.Connection, id_: str) -> sqlite3.Row:
    """Raises: UnknownJob."""
    row = connection.execute("SELECT * FROM jobs WHERE id = ?", (id_,)).fetchone()
    if row is None:
        raise UnknownJob(f"there is no job {clip(id_)!r}", hint="it was deleted, or is of another data_dir")
    return row


def _with_key(connection: sqlite3.Connection, key: str) -> sqlite3.Row | None:
    return connection.execute("SELECT * FROM jobs WHERE key = ?", (key,)).fetchone()


def _same(row: sqlite3.Row, digest: str) -> sqlite3.Row:
    """Raises: KeyReused where a job with another body has the key."""
    if row["body_hash"] != digest:
        raise KeyReused(f"the key {clip(row['key'])!r} belongs to another job", hint="take another key for another job")
    return row


def _count(connection: sqlite3.Connection, state: State) -> int:
    return connection.execute("SELECT count(*) FROM jobs WHERE state = ?", (state.value,)).fetchone()[0]


def _limit(limit: int) -> int:
    return max(0, min(limit, MOST_AT_ONCE))


def _marks(values: Collection[Any]) -> str:
    return ", ".join("?" * len(values))
