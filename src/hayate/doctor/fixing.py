"""Doing what findings offer, one thing after the other, each written down before it begins."""

from __future__ import annotations

import sys
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from hayate.doctor.finding import Action, Finding, Job
from hayate.doctor.remedies.base import Remedy
from hayate.doctor.remedies.extension import SwitchingOff
from hayate.doctor.remedies.files import NewFolder, SettingAside
from hayate.doctor.remedies.package import PackageRemoval
from hayate.doctor.remedies.pickle import PickleConversion
from hayate.doctor.remedies.setting import SettingLine
from hayate.doctor.undo import Done, Ledger
from hayate.errors import HayateError


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What became of one action."""

    check: str
    text: str
    is_done: bool


Tell = Callable[[Report], None]


def remedies(data_dir: Path, environment: Mapping[str, str], python: str = sys.executable) -> Mapping[Job, Remedy]:
    """What can be done here, for this user and this Python."""
    return {
        Job.CONVERT_PICKLE: PickleConversion(),
        Job.WRITE_SETTING: SettingLine(environment),
        Job.SET_ASIDE: SettingAside(data_dir),
        Job.MAKE_FOLDER: NewFolder(),
        Job.REMOVE_PACKAGE: PackageRemoval(python),
        Job.SWITCH_OFF: SwitchingOff(data_dir),
    }


def fix(findings: Iterable[Finding], known: Mapping[Job, Remedy], ledger: Ledger, tell: Tell) -> tuple[Report, ...]:
    """Does every action of the findings; one that fails costs no other, and is told.

    Raises: Busy; OutputError where nothing can be written down, before anything is changed.
    """
    reports = []
    with ledger.alone():
        for finding in findings:
            for action in finding.fix.actions:
                reports.append(fix_one(finding.check, action, known, ledger))
                tell(reports[-1])
    return tuple(reports)


def fix_one(check: str, action: Action, known: Mapping[Job, Remedy], ledger: Ledger) -> Report:
    """Does one action for a check."""
    remedy, written = known[action.job], None
    try:
        written = ledger.add(replace(remedy.plan(action), check=check))
        outcome = remedy.do(written)
        ledger.change(written, written.ended(outcome.after))
    except HayateError as error:
        if written is not None:
            ledger.change(written, None)
        return Report(check=check, text=str(error), is_done=False)
    return Report(check=check, text=outcome.text, is_done=True)


def undo(known: Mapping[Job, Remedy], ledger: Ledger, tell: Tell, only: Container[str] = ()) -> tuple[Report, ...]:
    """Takes back what was done, the newest first; what can't be taken back stays written down.

    `only` names the checks whose fixes are taken back; none means all.
    Raises: Busy, OutputError; UsageError where what was written down can't be read.
    """
    reports = []
    with ledger.alone():
        for done in reversed(ledger.read()):
            if only and done.check not in only:
                continue
            reports.append(_undone(done, known, ledger))
            tell(reports[-1])
    return tuple(reports)


def _undone(done: Done, known: Mapping[Job, Remedy], ledger: Ledger) -> Report:
    try:
        text = known[done.job].undo(done)
    except HayateError as error:
        return Report(check=done.check, text=str(error), is_done=False)
    ledger.change(done, None)
    return Report(check=done.check, text=text, is_done=True)
