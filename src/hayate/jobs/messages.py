"""What server and worker say to each other: a line of JSON each, one way commands, the other way events."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from hayate.errors import UnknownName
from hayate.jobs.records import Failure, Progress, Result, State, WorkerState
from hayate.jobs.wire import as_object, read_object
from hayate.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The first command: how to work."""

    settings: Settings
    model: str | None = None
    """A model to bring into memory before anybody asks for a picture; None leaves that."""
    vae: str | None = None
    flags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """A1111's flags that the server was started with and that act on pictures, with their words."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """The extensions that have failed since the server's start, and why."""
    log_name: str = "worker.log"
    """What the worker prints is there, in the server's folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """A job to do."""

    job: str
    kind: str
    body: Mapping[str, Any]
    results: str
    """The folder for what is not saved among the user's outputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """The job is to end, if it is the one that runs."""

    job: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip:
    """The job's batch that is being made is given up."""

    job: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Whether somebody looks at previews."""

    is_watched: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Clear:
    """All models are to be given up, after the running job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A question, which is answered beside the work."""

    number: int
    question: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Am:
    """What the worker is at now."""

    state: WorkerState


@dataclass(frozen=True, slots=True, kw_only=True)
class Doing:
    """How far the job is."""

    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Showing:
    """What a picture would be by now."""

    job: str
    jpeg: str
    """In base64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The job has ended."""

    job: str
    state: State
    result: Result | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """An extension has failed, here or in another worker, and acts no more until the server's next start."""

    extension: str
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """The answer to a question, or why there is none."""

    number: int
    answer: Mapping[str, Any] = field(default_factory=dict)
    failure: Failure | None = None


Command = Hello | Begin | Cancel | Skip | Watch | Clear | Ask | LeftOut
Report = Am | Doing | Showing | Ended | LeftOut | Answered
KINDS: Mapping[str, type] = MappingProxyType(
    {
        kind.__name__: kind
        for kind in (Hello, Begin, Cancel, Skip, Watch, Clear, Ask, Am, Doing, Showing, Ended, LeftOut, Answered)
    }
)


def line_of(message: Command | Report) -> bytes:
    """A message as a line."""
    words = {"is": type(message).__name__, **as_object(message)}
    return json.dumps(words, separators=(",", ":"), default=str).encode() + b"\n"


def message_of(line: bytes) -> Any:
    """The message of a line. Raises: ValueError, UsageError for what is none."""
    words = json.loads(line)
    name = words.pop("is")
    if name not in KINDS:
        raise UnknownName("message", str(name), KINDS)
    return read_object(KINDS[name], words, f"the message {name}")
