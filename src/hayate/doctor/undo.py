"""What fixes did, kept so that it can be taken back: written before a fix begins, and completed when it has ended."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from hayate.doctor.finding import Job
from hayate.errors import Busy, OutputError, UsageError
from hayate.jobs.lock import InstanceLock

FILE_NAME = "undo.json"
MAX_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """One fix: what it was done to, what was there before, and what it left."""

    job: Job
    subject: str
    before: Mapping[str, str] = field(default_factory=dict)
    after: Mapping[str, str] = field(default_factory=dict)
    """Empty where the fix was cut short."""
    check: str = ""
    at: str = ""

    def ended(self, after: Mapping[str, str]) -> Done:
        return replace(self, after=dict(after))


class Ledger:
    """The fixes that can be taken back, the oldest first, in a JSON file that is replaced whole."""

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / "doctor" / FILE_NAME

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Inside it no other process fixes or undoes anything here.

        Raises: Busy where one does; OutputError where nothing can be written down.
        """
        lock = InstanceLock(self.path.parent)
        try:
            lock.take()
        except OutputError:
            raise
        except UsageError as error:
            raise Busy("the doctor is fixing or undoing something already", hint="wait until that is done") from error
        try:
            yield
        finally:
            lock.release()

    def read(self) -> tuple[Done, ...]:
        """Raises: UsageError for a file that can't be understood: it is not thrown away, for it may be mended."""
        try:
            rows = json.loads(self.path.read_bytes()[:MAX_BYTES])
            return tuple(Done(**{**row, "job": Job(row["job"])}) for row in rows)
        except FileNotFoundError:
            return ()
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise UsageError(f"{self.path} can't be read: {error}", hint="mend it, or move it away") from error

    def add(self, done: Done) -> Done:
        """The record with its time; it is on the disk when this returns."""
        stamped = replace(done, at=datetime.now(UTC).isoformat(timespec="seconds"))
        self._write((*self.read(), stamped))
        return stamped

    def change(self, old: Done, new: Done | None) -> None:
        """Puts `new` in the place of `old`, or takes it out."""
        rows = [new if row == old else row for row in self.read()]
        self._write(tuple(row for row in rows if row is not None))

    def _write(self, rows: tuple[Done, ...]) -> None:
        temporary = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("w", encoding="utf-8") as file:
                file.write(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)  # noqa: PTH105
        except OSError as error:
            raise OutputError(
                f"{self.path} can't be written: {error.strerror}", hint="see the setting data_dir"
            ) from error
        finally:
            temporary.unlink(missing_ok=True)
