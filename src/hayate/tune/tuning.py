"""A tuning from its goal to the profile that is kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hayate.errors import EngineError, OutputError
from hayate.pipeline.hooked import NOBODY
from hayate.pipeline.prepared import Prepared, prepare_request, work_of
from hayate.pipeline.workspace import Workspace
from hayate.request import TextToImage
from hayate.runtime.asked import Asked
from hayate.runtime.device import resolve_device
from hayate.runtime.facts import gather_facts
from hayate.runtime.profiles import Profile, save_profile, slot_for, versions_of
from hayate.settings import Settings
from hayate.tune.plot import front_svg, row_object
from hayate.tune.pool import TrialFailed
from hayate.tune.search import Aim, Outcome, Search
from hayate.tune.space import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What a user wants of a tuning."""

    budget_s: float = 180.0
    promise: str = "exact"
    min_psnr_db: float = 35.0


def aim_for(request: TextToImage, settings: Settings, goal: Goal, flags: Asked) -> tuple[Aim, Prepared]:
    """What to tune for, and the request as it will be made; `flags` are what A1111's flags ask for.

    Raises: HayateError for a request that can't be.
    """
    promise = goal.promise
    own = Asked(promise=None if promise == "exact" else promise, offload=flags.offload, ignores_profile=True)
    with Workspace(settings, is_lasting=False) as workspace:
        prepared = prepare_request(request, settings, own, workspace, hooked=NOBODY)
    facts = gather_facts(resolve_device(request.device or settings.device))
    place = Place(facts=facts, config=prepared.config, work=work_of(prepared.job), promise=promise)
    request = replace(request, model=str(prepared.files.model), steps=prepared.job.steps)
    return Aim(
        request=request,
        place=place,
        rows=prepared.job.table.rows,
        budget_s=goal.budget_s,
        min_psnr_db=goal.min_psnr_db,
        open=replace(own, ignores_profile=False),
    ), prepared


def run_search(search: Search) -> Outcome:
    """Raises: EngineError where the default plan itself can't be computed."""
    try:
        return search.run()
    except TrialFailed as error:
        raise EngineError(
            f"the default plan failed: {error.message}", hint="try hayate generate with it first"
        ) from error


def keep(outcome: Outcome, aim: Aim, prepared: Prepared, settings: Settings) -> str | None:
    """Keeps the winner as the profile; where, or None where nothing was found that could be kept.

    Raises: OutputError.
    """
    best = outcome.best
    if best is None or best.asked is None or best.trial is None:
        return None
    device, job = aim.place.facts.device, prepared.job
    slot = slot_for(device, aim.place.config, (job.width_px, job.height_px), aim.place.promise)
    summary: dict[str, Any] = {
        "winner": best.name,
        "ratio": round(outcome.ratio, 3),
        "ratio_range": [round(min(outcome.ratios), 3), round(max(outcome.ratios), 3)] if outcome.ratios else None,
        "it_per_s": best.trial.speed.as_object(),
        "psnr_db": None if best.difference is None else best.difference.psnr_db,
        "batch_size": job.batch_size,
        "steps": outcome.steps,
        "budget_s": aim.budget_s,
    }
    profile = Profile(
        slot=slot,
        asked=replace(best.asked, ignores_profile=False, notes=()),
        versions=versions_of(device, best.asked),
        at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        summary=summary,
    )
    return str(save_profile(profile, settings.data_dir))


def write_plot(outcome: Outcome, aim: Aim, path: Path) -> Path | None:
    """The Pareto front of speed and difference as an SVG; None where there is nothing to show.

    Raises: OutputError.
    """
    picture = front_svg(outcome, aim.rows)
    if picture is None:
        return None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(picture, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} can't be written: {error.strerror}", hint="choose another place") from error
    return path


def as_object(outcome: Outcome) -> dict[str, Any]:
    """The outcome as JSON can hold it."""
    return {
        "rows": [row_object(row) for row in outcome.rows],
        "best": None if outcome.best is None else outcome.best.name,
        "ratio": outcome.ratio,
        "ratios": outcome.ratios,
        "steps": outcome.steps,
        "is_interrupted": outcome.is_interrupted,
    }
