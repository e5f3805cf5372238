"""A database that is broken is put aside, and never in the way of the start."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from hayate.errors import OutputError, UsageError
from hayate.jobs.queue import Queue
from hayate.jobs.records import NewJob, State
from hayate.jobs.schema import FILE_NAME, VERSION


def filled(folder: Path) -> None:
    queue = Queue(folder)
    for number in range(200):
        queue.add(NewJob(kind="generate", body={"text": "x" * 500, "number": number}))
        if number % 2 and (claimed := queue.claim()) is not None:
            queue.finish(claimed.id, State.DONE)
    queue.close()


@pytest.mark.parametrize("seed", range(6))
def test_random_bytes_in_the_file_cost_the_list_and_not_the_start(tmp_path: Path, seed: int) -> None:
    filled(tmp_path)
    path, draw = tmp_path / FILE_NAME, random.Random(seed)
    data = bytearray(path.read_bytes())
    for _ in range(20):
        start = draw.randrange(len(data) - 600)
        data[start : start + 500] = draw.randbytes(500)
    path.write_bytes(data)
    queue = Queue(tmp_path)
    assert len(queue.notes) == 1
    (aside,) = (
        each for each in tmp_path.iterdir() if ".broken-" in each.name and not each.name.endswith(("wal", "shm"))
    )
    assert aside.name in queue.notes[0]
    assert aside.read_bytes() == bytes(data)
    assert queue.jobs() == ()
    assert queue.add(NewJob(kind="generate", body={}))[1]


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\0" + b"\0" * 5000])
def test_another_file_under_the_name_is_put_aside(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    queue = Queue(tmp_path)
    assert queue.add(NewJob(kind="generate", body={}))[1]
    assert len(queue.notes) == 1


def test_two_broken_ones_in_a_second_are_both_kept(tmp_path: Path) -> None:
    for _ in range(2):
        (tmp_path / FILE_NAME).write_bytes(b"no database" * 100)
        Queue(tmp_path).close()
    assert len(list(tmp_path.glob("*.broken-*"))) == 2


def test_tables_that_are_not_there_are_a_damage_too(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE_NAME) as other:
        other.execute("CREATE TABLE something (x)")
        other.execute(f"PRAGMA user_version = {VERSION}")
    assert "it has no jobs" in Queue(tmp_path).notes[0]


def test_one_of_a_newer_hayate_is_left_alone(tmp_path: Path) -> None:
    filled(tmp_path)
    with sqlite3.connect(tmp_path / FILE_NAME) as other:
        other.execute(f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(UsageError, match="newer Hayate"):
        Queue(tmp_path)
    assert not list(tmp_path.glob("*.broken-*"))


def test_a_sound_one_is_kept_with_what_is_in_it(tmp_path: Path) -> None:
    filled(tmp_path)
    queue = Queue(tmp_path)
    assert queue.notes == ()
    assert (queue.count(State.DONE), queue.count(State.QUEUED)) == (100, 100)


def test_a_folder_that_can_not_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="can't be written"):
        Queue(tmp_path / "file" / "folder")


def test_writes_are_on_the_disk_when_they_are_told(tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    modes = [queue._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    assert modes == ["wal", 2]
