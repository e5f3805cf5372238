"""What a check finds, why it matters, what it would gain and how sure that is, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hayate.doctor.facts import Facts


class Severity(IntEnum):
    """How much it matters; the first is an exit code of 1."""

    SERIOUS = 0
    """It does not work, or it may run foreign code, or a disk or memory is about to be full."""
    WORTHWHILE = 1
    """Pictures or starts would be faster, or what computes would be right more often."""
    MINOR = 2
    """Nice to know; little is gained."""


class Kind(StrEnum):
    """What is gained."""

    WORKS = "it works"
    SPEED = "faster pictures"
    LOADING = "faster loading"
    START = "a faster start"
    MEMORY = "memory"
    DISK = "disk space"
    SAFETY = "safety"


_ORDER = tuple(Kind)


class Certainty(StrEnum):
    """How sure a gain is."""

    MEASURED_HERE = "measured here"
    MEASURED_ELSEWHERE = "measured by others"
    REASONED = "reasoned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """What the fix would bring."""

    kind: Kind
    text: str
    """With its figure where there is one."""
    certainty: Certainty
    source: str = ""
    """Where a figure comes from: the measurement, or who published it."""
    times: float = 1.0
    """The most that it could make the thing faster or smaller, for the order of the list; 1 where nobody can say."""


class Job(StrEnum):
    """What `--fix` knows to do; `remedies/` has a file for each."""

    CONVERT_PICKLE = "convert a pickle"
    WRITE_SETTING = "write a setting"
    SET_ASIDE = "set a file aside"
    MAKE_FOLDER = "make a folder"
    REMOVE_PACKAGE = "remove a package"
    SWITCH_OFF = "disable an extension"


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One thing to do, on `subject`: a path, a setting's key, a package or an extension."""

    job: Job
    subject: str
    value: str = ""
    """A setting's value, or a package's version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fix:
    """What to do about it."""

    text: str
    """In words, one sentence."""
    command: str = ""
    """To be run as it stands."""
    needs: str = ""
    """What else it takes, such as an administrator or a restart."""
    actions: tuple[Action, ...] = ()
    """What `--fix` would do; none where a person must."""
    is_asked_for: bool = False
    """Whether `--fix` leaves it alone until the check is named: it takes away what somebody may use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that this machine should change."""

    severity: Severity
    found: str
    why: str
    gain: Gain
    fix: Fix
    check: str = ""
    """The name of the check; `diagnose` writes it."""

    @property
    def is_fixable(self) -> bool:
        return bool(self.fix.actions)

    @property
    def rank(self) -> tuple[float, ...]:
        """The order in the list: what matters most, then what gains most."""
        return (self.severity, _ORDER.index(self.gain.kind), -self.gain.times)

    def as_object(self) -> dict[str, Any]:
        """The finding as JSON can hold it."""
        return {**asdict(self), "severity": self.severity.name.lower(), "is_fixable": self.is_fixable}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One row of the catalogue."""

    name: str
    looks_at: str
    """What it looks at and when it speaks up, for docs/doctor.md."""
    judge: Callable[[Facts], Finding | None]
