"""/v1/doctor: what this machine should change, what can be done about it from here, and its undoing."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from hayate.doctor.finding import Certainty, Finding, Job, Kind
from hayate.doctor.undo import Done
from hayate.errors import HayateError, NotAllowed, UnknownName, UsageError
from hayate.server.doctor_desk import Act, DoctorDesk, Look
from hayate.server.options import ServeOptions
from hayate.server.v1.doors import TheOptions, ThePreferences
from hayate.server.v1.jobs import REFUSED

if TYPE_CHECKING:
    from hayate.doctor.fixing import Report

router = APIRouter(prefix="/v1/doctor", tags=["doctor"])
WAIT_S = 4.0
"""How long a caller waits for a fix; one that takes longer goes on, and GET tells of it."""


class GainView(BaseModel):
    """What the fix would bring."""

    kind: Kind
    text: str
    certainty: Certainty
    source: str
    times: float = Field(description="the most that it could make the thing faster or smaller, for the order")


class ActionView(BaseModel):
    """One thing that a fix does."""

    job: Job
    subject: str = Field(description="a path, a setting's key, a package or an extension")
    value: str


class FixView(BaseModel):
    """What to do about it."""

    text: str
    command: str
    needs: str
    actions: list[ActionView]
    is_asked_for: bool = Field(description="whether `hayate doctor --fix` leaves it alone until the check is named")


class FindingView(BaseModel):
    """One thing that this machine should change."""

    check: str
    severity: Literal["serious", "worthwhile", "minor"]
    found: str
    why: str
    gain: GainView
    fix: FixView
    is_fixable: bool


class ReportView(BaseModel):
    """What became of one action."""

    check: str
    text: str
    is_done: bool


class DoneView(BaseModel):
    """A fix that can be taken back."""

    check: str
    job: Job
    subject: str
    at: str
    is_whole: bool = Field(description="false for one that was cut short")


class ActView(BaseModel):
    """A fix, or its undoing, as it stands."""

    undoes: bool
    checks: list[str]
    began_s: float
    is_over: bool
    reports: list[ReportView]
    failure: str = Field(description="what ended it before it was through")


class DoctorView(BaseModel):
    """What was found, as `hayate doctor --json` says it, and what was done about it from here."""

    findings: list[FindingView]
    fine: list[str] = Field(description="checks that found nothing")
    unknown: list[str] = Field(description="what could not be found out")
    fixed: list[ReportView] = Field(description="what the last fix did")
    at_s: float = Field(description="when this was looked at, in seconds since 1970")
    took_s: float
    act: ActView | None = Field(description="the fix, or the undoing, that is being done, or the last one")
    done: list[DoneView] = Field(description="what can be taken back, the newest first")
    refusal: str = Field(description="why nothing can be fixed through this server; empty where it can")


class FixBody(BaseModel):
    """Which finding's fix is to be done."""

    model_config = ConfigDict(extra="forbid")

    check: str = Field(max_length=200)


class UndoBody(BaseModel):
    """Whose fixes are to be taken back."""

    model_config = ConfigDict(extra="forbid")

    checks: list[Annotated[str, Field(max_length=200)]] = Field([], max_length=100, description="none means all")


ACTING: dict[int | str, dict[str, Any]] = {
    202: {"model": DoctorView, "description": "it goes on, and GET tells of it"},
    403: {"description": "strangers may call this server"},
    409: {"description": "another fix is being done"},
    **REFUSED,
}


async def _doctor_desk(request: Request) -> DoctorDesk:
    return request.app.state.doctor


TheDoctor = Annotated[DoctorDesk, Depends(_doctor_desk)]


@router.get("", responses=REFUSED)
async def doctor(doctor: TheDoctor, options: TheOptions) -> DoctorView:
    """What was found; this machine is looked at if it was not yet since the start."""
    return await _view(doctor.look(), doctor, options)


@router.post("/look", responses=REFUSED)
async def look(doctor: TheDoctor, options: TheOptions) -> DoctorView:
    """Looks anew."""
    return await _view(doctor.look(anew=True), doctor, options)


@router.get("/facts", responses={200: {"description": "a sheet, as `hayate doctor --facts` writes it"}})
async def facts(doctor: TheDoctor, response: Response) -> dict[str, Any]:
    """What is known of this machine, for a report of a fault: no names, no paths above the home folder."""
    from hayate.doctor.sheet import as_json

    response.headers["Content-Disposition"] = 'attachment; filename="hayate-facts.json"'
    return as_json((await asyncio.wrap_future(doctor.look())).facts)


@router.post("/fixes", responses=ACTING)
async def fix(
    asked: FixBody, response: Response, doctor: TheDoctor, options: TheOptions, preferences: ThePreferences
) -> DoctorView:
    """Does what a finding offers; it is written down before, so that it can be undone."""
    _refuse_strangers(options)
    found = (await asyncio.wrap_future(doctor.look())).findings
    finding = _named(asked.check, found)
    _refuse_overridden(finding, preferences.chosen.settings)
    return await _shown(doctor.fix(finding), response, doctor, options)


@router.post("/undo", responses=ACTING)
async def undo(asked: UndoBody, response: Response, doctor: TheDoctor, options: TheOptions) -> DoctorView:
    """Takes fixes back, the newest first; what was changed since stays."""
    _refuse_strangers(options)
    return await _shown(doctor.undo(asked.checks), response, doctor, options)


def fixing_refusal(options: ServeOptions) -> HayateError | None:
    """Why nobody may change this machine through this server, or None where its guards keep strangers out."""
    if options.is_guarded or (options.is_local and not options.names):
        return None
    return NotAllowed(
        "others can reach this server and are not asked who they are, so nothing is changed through it",
        hint="run hayate doctor --fix in a terminal, or start with --api-auth NAME:PASSWORD",
    )


def _refuse_strangers(options: ServeOptions) -> None:
    if refusal := fixing_refusal(options):
        raise refusal


def _refuse_overridden(finding: Finding, chosen: Any) -> None:
    """Raises: UsageError for a setting of the file that one chosen on the page hides: writing it would do nothing."""
    for action in finding.fix.actions:
        if action.job is Job.WRITE_SETTING and action.subject in chosen:
            message = f"{action.subject} is {chosen[action.subject]!r} by what was chosen in Settings, which decides"
            raise UsageError(message, hint="change it there")


def _named(check: str, findings: tuple[Finding, ...]) -> Finding:
    """Raises: UnknownName; UsageError for a check that finds nothing."""
    finding = next((each for each in findings if each.check == check), None)
    if finding is not None:
        return finding
    from hayate.doctor.catalogue import CHECKS

    names = [each.name for each in CHECKS]
    if check in names:
        raise UsageError(f"{check}: nothing is found any more", hint="look anew")
    raise UnknownName("check", check, names)


async def _shown(work: Future[None], response: Response, doctor: DoctorDesk, options: ServeOptions) -> DoctorView:
    """What is found after `work`; while it goes on, what was found before, and 202."""
    await asyncio.wait((asyncio.wrap_future(work),), timeout=WAIT_S)
    if not work.done():
        response.status_code = 202
    else:
        work.result()
    return await _view(doctor.look(), doctor, options)


async def _view(looking: Future[Look], doctor: DoctorDesk, options: ServeOptions) -> DoctorView:
    from hayate.doctor.diagnose import as_object

    look = await asyncio.wrap_future(looking)
    done = await asyncio.to_thread(doctor.done)
    act = doctor.act
    refusal = fixing_refusal(options)
    return DoctorView(
        **as_object(look.facts, look.findings),
        fixed=[] if act is None or act.undoes else [_report(each) for each in act.reports],
        at_s=look.at_s,
        took_s=look.took_s,
        act=None if act is None else _act(act),
        done=[_done(each) for each in done if each.after or act is None or act.is_over],
        refusal="" if refusal is None else str(refusal),
    )


def _act(act: Act) -> ActView:
    return ActView(
        undoes=act.undoes,
        checks=list(act.checks),
        began_s=act.began_s,
        is_over=act.is_over,
        reports=[_report(each) for each in tuple(act.reports)],
        failure="" if act.failure is None else str(act.failure),
    )


def _report(report: Report) -> ReportView:
    return ReportView(**asdict(report))


def _done(done: Done) -> DoneView:
    return DoneView(check=done.check, job=done.job, subject=done.subject, at=done.at, is_whole=bool(done.after))
