"""How a loopback goes: how often, and how the denoising changes on the way. No picture is needed to say that."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from hayate.errors import UnknownName, UsageError
from hayate.request import StartImage, TextToImage, validate

MAX_LOOPS = 1000
CURVES: Mapping[str, Callable[[float], float]] = MappingProxyType(
    {
        "linear": lambda progress: progress,
        "aggressive": lambda progress: math.sin(progress * math.pi / 2),
        "lazy": lambda progress: 1 - math.cos(progress * math.pi / 2),
    }
)
"""How much of the way to the final denoising is gone at each part of the loops, both from 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loops:
    """How often, and how the denoising changes on the way."""

    count: int = 4
    final_denoising: float = 0.5
    curve: str = "linear"

    def check(self) -> None:
        """Raises: UsageError, UnknownName."""
        if not 1 <= self.count <= MAX_LOOPS:
            raise UsageError(f"{self.count} loops can't be", hint=f"--loops takes 1 to {MAX_LOOPS}")
        if not 0 <= self.final_denoising <= 1:
            message = f"final denoising strength {self.final_denoising} is out of range"
            raise UsageError(message, hint="--final-denoising takes 0 to 1")
        if self.curve not in CURVES:
            raise UnknownName("denoising curve", self.curve, CURVES)

    def denoising_at(self, loop: int, first: float) -> float:
        """The denoising strength of a loop, counted from 0; that of a single loop is the first."""
        if self.count == 1:
            return first
        return first + (self.final_denoising - first) * CURVES[self.curve](loop / (self.count - 1))

    def keys(self) -> dict[str, str]:
        """What the infotext says of them."""
        return {"Final denoising strength": f"{self.final_denoising:g}", "Denoising curve": self.curve.capitalize()}


def check_loops(request: TextToImage, loops: Loops) -> StartImage:
    """The picture that all begins with.

    Raises: UsageError, UnknownName.
    """
    validate(request)
    loops.check()
    if request.start is None:
        raise UsageError("a loopback needs a picture to start from", hint="--image FILE")
    if any(request.start.extend_px):
        raise UsageError("a loopback has no larger canvas", hint="make that first, and begin with what comes of it")
    if request.batch_size not in (None, 1):
        raise UsageError("a loopback makes one picture at a time", hint="--batch-count repeats it")
    return request.start
