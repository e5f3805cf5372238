"""The one tree of errors.

HayateError                      exit 1, HTTP 500
├── UsageError                   exit 2, HTTP 422   something the caller asked for can't be
│   ├── NotAllowed               exit 2, HTTP 403   not everybody who may call may do this
│   ├── UnknownName              exit 2, HTTP 422   no such sampler, model, setting …; lists the nearest
│   └── OutputError              exit 2, HTTP 422   a folder or file can't be written
├── ModelFileError               exit 3, HTTP 422   a file is not a model that Hayate reads
│   ├── BrokenFile               exit 3, HTTP 422   truncated, an LFS pointer, HTML, a malformed header
│   ├── RefusedFormat            exit 3, HTTP 422   a pickle or another format that is not read here
│   └── TensorMismatch           exit 3, HTTP 422   a tensor is missing, extra or of the wrong shape
├── JobError                     exit 1, HTTP 500   a job can't be taken, found or finished
│   ├── UnknownJob               exit 2, HTTP 404   no job has this id
│   ├── KeyReused                exit 2, HTTP 409   another job has the caller's key
│   ├── QueueFull                exit 1, HTTP 503   too many jobs wait; later there is room
│   ├── Busy                     exit 1, HTTP 409   what is done one at a time is being done
│   ├── ShuttingDown             exit 1, HTTP 503   the server takes no more jobs
│   ├── WorkerAway               exit 1, HTTP 503   the worker process is being started anew
│   ├── Cancelled                exit 1, HTTP 409   somebody ended the job
│   └── Crashed                  exit 1, HTTP 500   the worker ended twice in the middle of this job
├── EngineError                  exit 4, HTTP 500   the computation failed (NaN, out of memory)
└── MissingDependency            exit 5, HTTP 500   an optional package is not installed
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HayateError(Exception):
    """Any failure that Hayate explains in one line, with a hint for what to do next."""

    exit_code = 1
    http_status = 500

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UsageError(HayateError):
    """The caller asked for something that can't be."""

    exit_code = 2
    http_status = 422


class NotAllowed(UsageError):
    """Not everybody who may call may do this."""

    http_status = 403


class UnknownName(UsageError):
    """A name is not among the known ones; the hint lists the nearest three."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        near = nearest(name, known)
        hint = f"nearest: {', '.join(near)}" if near else "none are known"
        super().__init__(f"unknown {kind} {clip(name)!r}", hint=hint)
        self.nearest = near


class OutputError(UsageError):
    """A result can't be written where it was asked for."""


class ModelFileError(HayateError):
    """A file is not a model that Hayate can use."""

    exit_code = 3
    http_status = 422


class BrokenFile(ModelFileError):
    """A model file is damaged or is something else under a model's name."""


class RefusedFormat(ModelFileError):
    """A model file is in a format that is not opened here, such as a pickle."""


class TensorMismatch(ModelFileError):
    """A tensor that the architecture needs is missing, extra or of the wrong shape."""


class JobError(HayateError):
    """A job can't be taken, found or finished."""


class UnknownJob(JobError):
    """No job has this id."""

    exit_code = 2
    http_status = 404


class KeyReused(JobError):
    """A job with another body has the caller's key."""

    exit_code = 2
    http_status = 409


class QueueFull(JobError):
    """As many jobs wait as may."""

    http_status = 503
    retry_after_s = 5


class Busy(JobError):
    """What is done one at a time is being done."""

    http_status = 409


class ShuttingDown(JobError):
    """The server is about to end."""

    http_status = 503
    retry_after_s = 10


class WorkerAway(JobError):
    """The process that computes is not there, and is being started anew."""

    http_status = 503
    retry_after_s = 5


class Cancelled(JobError):
    """Somebody ended the job."""

    http_status = 409


class Crashed(JobError):
    """The worker process ended twice in the middle of this job."""


class EngineError(HayateError):
    """The computation itself failed."""

    exit_code = 4


class MissingDependency(HayateError):
    """A package that the request needs is not installed."""

    exit_code = 5


def nearest(name: str, known: Iterable[str], count: int = 3) -> tuple[str, ...]:
    """The `count` known names most like `name`, best first, compared without regard to case."""
    folded = {known_name.casefold(): known_name for known_name in known}
    matches = difflib.get_close_matches(clip(name, 80).casefold(), folded, n=count, cutoff=0.0)
    return tuple(folded[match] for match in matches)


def clip(text: str, length: int = 60) -> str:
    """`text` cut to `length` characters, so that a message stays one readable line."""
    return text if len(text) <= length else text[: length - 1] + "…"


def save_traceback(error: BaseException) -> str:
    """The file that now holds where an unforeseen failure came from; a note where none could be written."""
    import tempfile
    import traceback

    try:
        handle, name = tempfile.mkstemp(prefix="hayate-error-", suffix=".txt")
        with open(handle, "w", encoding="utf-8", errors="backslashreplace") as file:  # noqa: PTH123 - a descriptor
            file.write("".join(traceback.format_exception(error)))
    except OSError:
        return "no file: none could be written"
    return name
