"""Methods that leave work out and change the picture: each is off unless it was asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hayate.errors import UsageError
from hayate.runtime.asked import Asked

MAX_REUSE = 20
"""Evaluations between two whole ones that are allowed; beyond ten nothing of the picture is left."""
MAX_MERGED = 0.75
"""One token of each 2×2 stays: the others are merged into those."""

STREAMED = "lowvram brings the U-Net's blocks in their order, and it leaves most of them out"


@dataclass(frozen=True, slots=True, kw_only=True)
class Approximate:
    """What is left out; by default nothing."""

    guidance_interval: tuple[float, float] | None = None
    """Guidance acts where low ≤ sigma ≤ high; elsewhere the prompt is evaluated alone."""
    s_min_uncond: float = 0.0
    """Below this sigma every second evaluation goes without the negative prompt."""
    deepcache: int = 1
    """Every how many evaluations one is whole; those between use its deep features again."""
    tome: float = 0.0
    """Share of tokens that is merged before the largest self-attentions."""
    tiny_vae: Path | None = None
    """A small decoder that serves in place of the VAE's."""

    def limits_guidance(self) -> bool:
        """Whether some evaluations may go without the negative prompt."""
        return self.guidance_interval is not None or self.s_min_uncond > 0

    def titles(self) -> tuple[str, ...]:
        """The methods that act, in words."""
        acting = {
            "guidance in an interval": self.guidance_interval is not None,
            "NGMS": self.s_min_uncond > 0,
            "DeepCache": self.deepcache > 1,
            "token merging": self.tome > 0,
            "the tiny VAE": self.tiny_vae is not None,
        }
        return tuple(title for title, is_acting in acting.items() if is_acting)


EXACT = Approximate()


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacles:
    """What else the plan does with the U-Net."""

    is_compiled: bool
    is_vae_compiled: bool
    is_graphed: bool
    is_streamed: bool
    """Whether its blocks come to the device one by one."""


@dataclass(frozen=True, slots=True)
class Row:
    """One asked-for method as `hayate plan` shows it."""

    name: str
    value: str
    reason: str


def resolve_approximate(asked: Asked, obstacles: Obstacles) -> tuple[Approximate, tuple[Row, ...], tuple[str, ...]]:
    """The methods that will act, a row for each that was asked for, and a note for each of those that won't act.

    Raises: UsageError for a value that can't be, or a method beside compiled or recorded steps.
    """
    _check(asked)
    every, tome = asked.deepcache or 1, asked.tome or 0.0
    if every > 1:
        _refuse("DeepCache", obstacles)
    if tome:
        _refuse("token merging", obstacles)
    if asked.tiny_vae is not None and obstacles.is_vae_compiled:
        raise UsageError("the tiny VAE is not compiled", hint="leave --compile-parts vae or --tiny-vae out")
    blocked = STREAMED if every > 1 and obstacles.is_streamed else None
    found = Approximate(
        guidance_interval=asked.guidance_interval,
        s_min_uncond=asked.s_min_uncond or 0.0,
        deepcache=1 if blocked else every,
        tome=tome,
        tiny_vae=None if asked.tiny_vae is None else Path(asked.tiny_vae),
    )
    rows = [*_rows(found), *([Row("DeepCache", "off", blocked)] if blocked else [])]
    return found, tuple(rows), (f"DeepCache does not act: {blocked}",) if blocked else ()


def _check(asked: Asked) -> None:
    if asked.guidance_interval is not None:
        low, high = asked.guidance_interval
        if not 0 <= low < high:  # so that NaN is refused too
            hint = "two noise levels such as 0.3,5; the first is the lower one"
            raise UsageError(f"guidance from {low:g} to {high:g} is no interval", hint=hint)
    if asked.s_min_uncond is not None and not (math.isfinite(asked.s_min_uncond) and asked.s_min_uncond >= 0):
        raise UsageError(f"s_min_uncond {asked.s_min_uncond:g} can't be", hint="a noise level, such as 0.5; 0 is off")
    if asked.deepcache is not None and not 1 <= asked.deepcache <= MAX_REUSE:
        hint = f"1 (off) to {MAX_REUSE}; 2 and 3 are usual"
        raise UsageError(f"a whole evaluation of every {asked.deepcache} can't be", hint=hint)
    if asked.tome is not None and not 0 <= asked.tome <= MAX_MERGED:
        hint = f"0 (off) to {MAX_MERGED}; 0.5 is usual"
        raise UsageError(f"a share of {asked.tome:g} of the tokens can't be merged", hint=hint)


def _refuse(name: str, obstacles: Obstacles) -> None:
    if obstacles.is_compiled:
        raise UsageError(f"{name} can't act inside compiled steps", hint="leave one of them out, or --compile off")
    if obstacles.is_graphed:
        raise UsageError(f"{name} can't act inside recorded CUDA graphs", hint="leave one of them out")


def _rows(found: Approximate) -> Iterator[Row]:
    if found.guidance_interval is not None:
        low, high = found.guidance_interval
        yield Row("guidance", f"sigma {low:g} to {high:g}", "asked for; the prompt alone elsewhere")
    if found.s_min_uncond:
        reason = "asked for; below it every second evaluation has no negative prompt"
        yield Row("NGMS", f"sigma {found.s_min_uncond:g}", reason)
    if found.deepcache > 1:
        yield Row("DeepCache", f"1 of {found.deepcache} whole", "asked for; the others use its deep features again")
    if found.tome:
        yield Row("token merging", f"{found.tome:.0%} merged", "asked for; in the largest self-attentions")
    if found.tiny_vae is not None:
        yield Row("tiny VAE", found.tiny_vae.name, "asked for; decodes in place of the VAE")
