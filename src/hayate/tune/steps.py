"""The step-saver: the fewest steps whose picture is still the one that many steps make."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hayate.bench.charts import Curve, curves_chart
from hayate.bench.equivalence import Difference, compare
from hayate.bench.sheets import contact_sheet
from hayate.bench.svg import standalone
from hayate.errors import UsageError
from hayate.pipeline.hooked import NOBODY
from hayate.pipeline.session import make_pictures
from hayate.pipeline.workspace import Workspace
from hayate.request import TextToImage
from hayate.runtime.asked import Asked
from hayate.samplers.catalogue import resolve_sampler
from hayate.settings import Settings, lossless

LADDER = (4, 5, 6, 7, 8, 10, 12, 14, 16, 18, 20, 24, 28, 32, 40, 50, 60)
"""Step counts that are tried, below that of the reference."""
RIVALS = (("DPM++ 2M", "Karras"), ("UniPC", "Uniform"), ("DPM++ 2M", "SGM Uniform"), ("Heun", "Karras"))
"""Solvers of the same equation as any sampler without fresh noise: with many steps all of them make one picture."""
COLUMNS = 6
OnEvent = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Saving:
    """What is looked for."""

    request: TextToImage
    """The prompt, seed and sampler of the user."""
    reference_steps: int = 80
    min_ssim: float = 0.95
    """The least structural similarity to the many-step picture that still counts as the same picture."""
    budget_s: float = 180.0
    has_rivals: bool = True
    """Whether other samplers may take the place of the user's."""

    def check(self) -> None:
        """Raises: UsageError."""
        if not 0 < self.min_ssim < 1:
            raise UsageError(
                f"a similarity of {self.min_ssim:g} can't be the bound", hint="between 0 and 1; 0.95 is usual"
            )
        if not LADDER[0] < self.reference_steps <= 1000:
            raise UsageError(f"{self.reference_steps} steps are no reference", hint="5 to 1000; 80 is usual")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tried:
    """A picture of so many steps."""

    sampler: str
    schedule: str
    steps: int
    evaluations: int
    """Calls of the U-Net, which decide the time: two or more a step in samplers of higher order."""
    seconds: float
    difference: Difference
    picture: Image.Image

    @property
    def title(self) -> str:
        return f"{self.sampler} {self.schedule}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Saved:
    """What was found."""

    reference: Tried
    tried: tuple[Tried, ...]
    best: Tried | None
    """The least time within the bound; None where nothing below the reference is."""
    is_cut_short: bool
    """Whether the budget ended the search."""


def save_steps(saving: Saving, settings: Settings, asked: Asked, on_event: OnEvent = lambda what: None) -> Saved:
    """Makes the many-step picture, then pictures of few steps and more until they are like it, by each sampler.

    A sampler with fresh noise makes another picture with every number of steps, so that its bound may never be met.
    Raises: HayateError.
    """
    saving.check()
    settings = lossless(settings)
    ends_at = time.monotonic() + saving.budget_s
    with tempfile.TemporaryDirectory() as name, Workspace(settings, is_lasting=False) as workspace:
        painter = _Painter(settings, asked, workspace, Path(name))
        on_event(f"{saving.reference_steps} steps, the reference")
        own = _samplers(saving, settings)[0]
        expected = painter.paint(saving, own, saving.reference_steps, None)
        tried: list[Tried] = []
        best: Tried | None = None
        is_cut_short = False
        for sampler in _samplers(saving, settings):
            for steps in (each for each in LADDER if each < saving.reference_steps):
                if time.monotonic() >= ends_at:
                    is_cut_short = True
                    break
                on_event(f"{sampler[0]} {sampler[1]}, {steps} steps")
                tried.append(painter.paint(saving, sampler, steps, np.asarray(expected.picture)))
                if best is not None and tried[-1].evaluations >= best.evaluations:
                    break  # more steps of this sampler can't be a saving any more
                if tried[-1].difference.ssim >= saving.min_ssim:
                    best = tried[-1]
                    break
    return Saved(reference=expected, tried=tuple(tried), best=best, is_cut_short=is_cut_short)


class _Painter:
    def __init__(self, settings: Settings, asked: Asked, workspace: Workspace, folder: Path) -> None:
        self._settings, self._asked = settings, asked
        self._workspace, self._folder = workspace, folder
        self._made = 0

    def paint(self, saving: Saving, sampler: tuple[str, str], steps: int, expected: np.ndarray | None) -> Tried:
        self._made += 1
        request = replace(
            saving.request, sampler=sampler[0], scheduler=sampler[1], steps=steps, batch_size=1, batch_count=1
        )
        target = self._folder / str(self._made)
        report = make_pictures(
            request,
            self._settings,
            target,
            lambda *_: None,
            self._asked,
            workspace=self._workspace,
            hooked=NOBODY,
        )
        picture = Image.open(report.pictures[0].path).convert("RGB")
        pixels = np.asarray(picture)
        return Tried(
            sampler=sampler[0],
            schedule=sampler[1],
            steps=steps,
            evaluations=report.rows,
            seconds=report.seconds["sample"],
            difference=compare(pixels[None], (pixels if expected is None else expected)[None]),
            picture=picture,
        )


def _samplers(saving: Saving, settings: Settings) -> list[tuple[str, str]]:
    """The user's sampler and schedule first; then those that solve the same equation, if the user's does."""
    info, combined = resolve_sampler(saving.request.sampler or settings.sampler)
    schedule = saving.request.scheduler or combined or settings.scheduler
    own = (info.name, info.default_schedule if schedule.casefold() == "automatic" else schedule)
    is_fresh = info.adds_noise and info.default_eta != 0
    return [own, *(each for each in RIVALS if each != own and saving.has_rivals and not is_fresh)]


def sheet(saved: Saved) -> Image.Image:
    """The pictures side by side: the many-step one first, then each with its steps and its similarity."""
    everyone = [saved.reference, *saved.tried]
    captions = [f"{saved.reference.title}\n{saved.reference.steps} steps: the reference"]
    captions += [f"{each.title}\n{each.steps} steps, SSIM {each.difference.ssim:.3f}" for each in saved.tried]
    return contact_sheet([each.picture for each in everyone], captions, min(COLUMNS, len(everyone)))


def curve(saved: Saved) -> str:
    """Steps against similarity, a line for each sampler, as an SVG."""
    titles = list(dict.fromkeys(each.title for each in saved.tried))
    curves = [Curve(label=title, places=_places(saved.tried, title)) for title in titles]
    return standalone(curves_chart(curves, title="Similarity to the many-step picture", x_name="steps", y_name="SSIM"))


def _places(tried: Sequence[Tried], title: str) -> list[tuple[float, float | None]]:
    return [(each.steps, each.difference.ssim) for each in tried if each.title == title]


def as_object(saved: Saved) -> dict[str, Any]:
    """What was found, as JSON can hold it."""
    return {
        "reference": _object(saved.reference),
        "tried": [_object(each) for each in saved.tried],
        "best": None if saved.best is None else _object(saved.best),
        "is_cut_short": saved.is_cut_short,
    }


def described(saved: Saved, saving: Saving) -> Iterator[str]:
    """A line for each picture, and what was found."""
    for each in saved.tried:
        mark = "← within the bound" if each is saved.best else ""
        like = f"{each.difference.ssim:.3f}  {each.seconds:6.2f} s"
        yield f"{each.title:<24} {each.steps:>4} steps {each.evaluations:>4} evaluations  SSIM {like} {mark}".rstrip()
    if saved.is_cut_short:
        yield "the budget ended the search"
    if saved.best is None:
        yield f"no fewer steps than {saved.reference.steps} reach an SSIM of {saving.min_ssim:g}"
        return
    share = saved.reference.evaluations / saved.best.evaluations
    yield (
        f"fewest: {saved.best.steps} steps of {saved.best.title}, {share:.1f}× fewer evaluations than "
        f"{saved.reference.steps} steps of {saved.reference.title}"
    )


def _object(tried: Tried) -> dict[str, Any]:
    return {
        "sampler": tried.sampler,
        "scheduler": tried.schedule,
        "steps": tried.steps,
        "evaluations": tried.evaluations,
        "sample_s": round(tried.seconds, 4),
        **asdict(tried.difference),
    }
