"""What the loop left out, counted where it did, as proof that the approximate methods acted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hayate.runtime.approximate import Approximate
from hayate.runtime.evidence import Evidence


@dataclass(slots=True, kw_only=True, eq=False)
class Acted:
    """Evaluations of the U-Net by what they were spared."""

    evaluations: int = 0
    unguided: int = 0
    """Those without the negative prompt."""
    reused: int = 0
    """Those with the deep features of another."""

    def evidence(self, asked: Approximate) -> Iterator[Evidence]:
        """A line for each method of the loop that was asked for."""
        limits = []
        if asked.guidance_interval is not None:
            limits.append(f"sigma {asked.guidance_interval[0]:g} to {asked.guidance_interval[1]:g}")
        if asked.s_min_uncond > 0:
            limits.append(f"NGMS {asked.s_min_uncond:g}")
        if limits:
            yield self._line("guidance", ", ".join(limits), self.unguided, "without the negative prompt")
        if asked.deepcache > 1:
            yield self._line("DeepCache", f"1 of {asked.deepcache}", self.reused, "with another's deep features")

    def _line(self, name: str, requested: str, count: int, what: str) -> Evidence:
        detail = f"{count} of {self.evaluations} evaluations {what}"
        return Evidence(name=name, requested=requested, active=count > 0, detail=detail)
