"""What a job is, and what is told of it; the words that the queue, the worker and the server share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from hayate.errors import HayateError


class State(StrEnum):
    """Where a job is; the last three are for good."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        return self in (State.DONE, State.FAILED, State.CANCELLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job as it is handed in."""

    kind: str
    """generate, upscale, merge, convert, bench, tune, load or unload: a row of `bodies.KINDS`."""
    body: Mapping[str, Any]
    """As JSON can hold it; what it may say belongs to the kind."""
    priority: int = 0
    """The highest goes first; among equals the oldest."""
    key: str | None = None
    """The caller's own name of it: handed in again with the same body it is the same job."""
    client: str = ""
    """Who asked: `page`, `a1111`, or what a caller calls itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a job failed, as the error tree says it."""

    type: str
    """The class of the error, such as `UnknownName`."""
    message: str
    hint: str = ""
    status: int = 500
    """HTTP's."""


def failure_of(error: HayateError) -> Failure:
    """An error as it is kept and sent."""
    return Failure(type=type(error).__name__, message=error.message, hint=error.hint, status=error.http_status)


def error_of(failure: Failure) -> HayateError:
    """The error that a failure was, as far as the tree still knows it."""
    kinds = [HayateError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    kind = next((each for each in kinds if each.__name__ == failure.type), HayateError)
    error = kind.__new__(kind)  # UnknownName makes its message of other words
    HayateError.__init__(error, failure.message, hint=failure.hint)
    error.http_status = failure.status
    return error


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture that a job made."""

    path: str
    seed: int
    subseed: int
    infotext: str
    width_px: int
    height_px: int
    is_saved: bool
    """Whether it is among the user's outputs; others are kept for a while only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureRecord:
    """A picture as the database has it."""

    number: int
    """Counts up over all pictures of all jobs."""
    job: str
    picture: Picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a job that is done has made."""

    pictures: tuple[Picture, ...] = ()
    grid: str | None = None
    """The path of all pictures in one."""
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Of pictures: model, plan, seconds, speed and info (what A1111's `info` says); of other kinds their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """A job as the database has it."""

    id: str
    """26 letters and digits that sort by time."""
    kind: str
    body: Mapping[str, Any]
    priority: int
    key: str | None
    client: str
    state: State
    attempt: int
    """How often it was begun; a crash begins it once more, and no second time."""
    created_s: float
    """Seconds since 1970, as the other two."""
    started_s: float | None
    ended_s: float | None
    result: Result | None
    failure: Failure | None
    is_cancel_asked: bool = False
    """Whether it runs still and will end as cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What the picture would be by now."""

    number: int
    """Counts up, so that a reader knows a new one."""
    jpeg: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far the running job is."""

    job: str
    phase: str
    """loading, encoding, sampling, decoding or saving; of other kinds what they are at."""
    row: int = 0
    """Evaluations of the U-Net in this picture's pass; a step of some samplers has two."""
    rows: int = 0
    picture: int = 0
    """Batches that are finished."""
    pictures: int = 1
    share: float = 0.0
    """Of the whole job, 0 to 1."""
    it_per_s: float | None = None
    eta_s: float | None = None
    preview: Preview | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    """Of bench and tune: the rows of their tables so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened, for whoever listens."""

    number: int
    """Counts up while the server lives."""
    job: str
    """Empty for what belongs to no job, such as the worker's state."""
    kind: str
    """queued, started, progress, preview, done, failed, cancelled or worker."""
    data: Mapping[str, Any]


class WorkerPhase(StrEnum):
    """What the worker process is at."""

    STARTING = "starting"
    IMPORTING = "importing"
    LOADING = "loading"
    IDLE = "idle"
    BUSY = "busy"
    DOWN = "down"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerState:
    """The worker process, as the page shows it."""

    phase: WorkerPhase
    device: str = ""
    """As the settings name it."""
    pid: int | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    """How long each phase of its start took."""
    model: str = ""
    """The model in memory."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Versions of python and torch, the device, the attention backend: the page's footer."""
    restarts: int = 0
    """How often it had to be started anew."""
