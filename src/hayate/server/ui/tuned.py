"""What the tune tab asks beside its jobs: the profiles that were kept, what becomes of them, and adopting a row."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from hayate.errors import UnknownName, UsageError
from hayate.jobs.desk import Desk
from hayate.runtime.asked import Asked, asked_of
from hayate.runtime.profiles import (
    OF_EXTENSIONS,
    Profile,
    all_profiles,
    extension_versions,
    find_profile,
    forget_profile,
    said,
    save_profile,
)
from hayate.settings import Settings

SOUND = ("default", "faster", "slower")
"""Verdicts of rows that do what they say; the others may not be adopted."""


class ProfileEntry(BaseModel):
    """A profile as the page lists it."""

    file: str
    device: str
    architecture: str
    size_px: int
    promise: str
    title: str
    asked: dict[str, Any]
    versions: dict[str, str]
    at: str
    summary: dict[str, Any]
    staleness: str | None
    """What has changed since, as far as the worker has said; None where nothing is known to have."""


class Adoption(BaseModel):
    """Which row of a tune job takes a profile's place."""

    job: str = Field(max_length=100)
    row: str = Field(max_length=200)


def tuned_router(desk: Desk, settings: Settings) -> APIRouter:
    """The routes of the profiles."""
    router = APIRouter(prefix="/ui/tune", tags=["page"])

    @router.get("/profiles")
    def profiles() -> list[ProfileEntry]:
        return [_entry(each, desk) for each in all_profiles(settings.data_dir)]

    @router.delete("/profiles/{file}", status_code=204)
    def forget(file: str) -> Response:
        """Raises: UnknownName."""
        forget_profile(find_profile(file, settings.data_dir).slot, settings.data_dir)
        return Response(status_code=204)

    @router.post("/profiles/{file}/adopt")
    def adopt(file: str, adoption: Adoption) -> ProfileEntry:
        """Raises: UnknownName, UsageError for a row that is not sound."""
        profile = find_profile(file, settings.data_dir)
        row = _row(desk, adoption)
        adopted = adopted_profile(profile, row, datetime.now(UTC))
        save_profile(adopted, settings.data_dir)
        return _entry(adopted, desk)

    return router


def adopted_profile(profile: Profile, row: dict[str, Any], at: datetime) -> Profile:
    """The profile with what a row of the same table asked for in the place of the winner's.

    Raises: UsageError for a row that failed, or did not keep its promise.
    """
    if row.get("verdict") not in SOUND:
        message = f"{row['name']!r} can't be adopted: {row.get('verdict')}, {row.get('reason')}"
        raise UsageError(message, hint="adopt a row that kept its promise")
    asked = replace(asked_of(row.get("asked") or {}), ignores_profile=False, promise=profile.asked.promise)
    difference = row.get("difference") or {}
    summary = {
        **profile.summary,
        "winner": row["name"],
        "ratio": None,  # only the winner was timed in turn with the default plan
        "ratio_range": None,
        "it_per_s": row.get("it_per_s"),
        "psnr_db": difference.get("psnr_db"),
        "is_adopted": True,
    }
    stamp = at.isoformat(timespec="seconds").replace("+00:00", "Z")
    machine = {name: value for name, value in profile.versions.items() if not name.startswith(OF_EXTENSIONS)}
    versions = {**machine, **extension_versions(asked)}
    return replace(profile, asked=asked, versions=versions, at=stamp, summary=summary)


def _row(desk: Desk, adoption: Adoption) -> dict[str, Any]:
    """Raises: UnknownJob, UnknownName, UsageError."""
    job = desk.job(adoption.job)
    if job.kind != "tune" or job.result is None:
        raise UsageError(f"job {job.id} has no table to adopt from", hint="wait until it has ended")
    rows = {row["name"]: row for row in job.result.facts.get("rows", ())}
    if adoption.row not in rows:
        raise UnknownName("row", adoption.row, rows)
    return rows[adoption.row]


def _entry(profile: Profile, desk: Desk) -> ProfileEntry:
    return ProfileEntry(
        file=profile.slot.file_name,
        device=profile.slot.device,
        architecture=profile.slot.architecture,
        size_px=profile.slot.size_px,
        promise=profile.slot.promise,
        title=profile.title,
        asked=_asked(profile.asked),
        versions={name: str(version) for name, version in profile.versions.items()},
        at=profile.at,
        summary=dict(profile.summary),
        staleness=_staleness(profile, desk),
    )


def _asked(asked: Asked) -> dict[str, Any]:
    return {name: value for name, value in said(asked).items() if name != "ignores_profile"}


def _staleness(profile: Profile, desk: Desk) -> str | None:
    """By what the worker has told of its versions; before it has, nothing can be said."""
    facts = desk.workers()[0].facts
    machine = {name: str(facts[name]) for name in profile.versions if name in facts}
    return profile.staleness({**machine, **extension_versions(profile.asked)})
