"""Rows of the database as records, and back."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace

from hayate.jobs.records import Failure, JobRecord, Picture, PictureRecord, Result, State
from hayate.jobs.wire import as_object, read_object

PICTURE_COLUMNS = ("path", "seed", "subseed", "infotext", "width_px", "height_px", "is_saved")


def job_of(row: sqlite3.Row, pictures: Sequence[Picture]) -> JobRecord:
    """A job's row, with the pictures that are in rows of their own."""
    result = None if row["result"] is None else read_object(Result, json.loads(row["result"]), "a result")
    return JobRecord(
        id=row["id"],
        kind=row["kind"],
        body=json.loads(row["body"]),
        priority=row["priority"],
        key=row["key"],
        client=row["client"],
        state=State(row["state"]),
        attempt=row["attempt"],
        created_s=row["created_s"],
        started_s=row["started_s"],
        ended_s=row["ended_s"],
        result=None if result is None else replace(result, pictures=tuple(pictures)),
        failure=None if row["failure"] is None else read_object(Failure, json.loads(row["failure"]), "a failure"),
        is_cancel_asked=bool(row["is_cancel_asked"]),
    )


def kept_of(result: Result | None, failure: Failure | None) -> tuple[str | None, str | None]:
    """The texts of a job's row; the pictures are not in them."""
    kept = None if result is None else json.dumps(as_object(replace(result, pictures=())))
    return kept, None if failure is None else json.dumps(as_object(failure))


def pictures_by_job(connection: sqlite3.Connection, ids: Sequence[str]) -> Mapping[str, tuple[Picture, ...]]:
    """The pictures of jobs, in their order."""
    marks = ", ".join("?" * len(ids))
    found: dict[str, list[Picture]] = {}
    for row in connection.execute(f"SELECT * FROM pictures WHERE job IN ({marks}) ORDER BY job, place", ids):
        found.setdefault(row["job"], []).append(_picture_of(row))
    return {id_: tuple(pictures) for id_, pictures in found.items()}


def picture_record_of(row: sqlite3.Row) -> PictureRecord:
    return PictureRecord(number=row["number"], job=row["job"], picture=_picture_of(row))


def _picture_of(row: sqlite3.Row) -> Picture:
    values = {name: row[name] for name in PICTURE_COLUMNS}
    return Picture(**{**values, "is_saved": bool(values["is_saved"])})
