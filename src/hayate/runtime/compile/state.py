"""How far the compiling of one call has come."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Stage(StrEnum):
    """Where a step stands; only an adopted one is run."""

    OFF = "off"
    WAITING = "waiting"
    COMPILING = "compiling"
    VERIFIED = "verified"
    """Its numbers are right; whether it is faster is not known yet."""
    ADOPTED = "adopted"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileState:
    """A stage, and what was measured on the way to it."""

    stage: Stage
    reason: str = ""
    """Why it was rejected."""
    is_from_disk: bool = False
    compile_s: float | None = None
    """Seconds that the compiling process took, in this start or the one that filled the cache."""
    ready_s: float | None = None
    """Seconds from the first request of this process to the adopted step."""
    speedup: float | None = None
    """Eager's time divided by the compiled step's."""

    def __str__(self) -> str:
        parts = [self.reason]
        if self.speedup is not None:
            parts.append(f"{self.speedup:.2f} times as fast as eager")
        if self.compile_s is not None:
            parts.append(f"{'kept from a compile of' if self.is_from_disk else 'compiled in'} {self.compile_s:.1f} s")
        if self.ready_s is not None:
            parts.append(f"ready after {self.ready_s:.1f} s")
        told = ", ".join(part for part in parts if part)
        return f"{self.stage}: {told}" if told else self.stage.value
