"""Doing what findings offer, one thing after the other, each written down before it begins."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from hayate.doctor.finding import Finding, Job
from hayate.doctor.remedies.base import Remedy
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
    }


def fix(findings: Iterable[Finding], known: Mapping[Job, Remedy], ledger: Ledger, tell: Tell) -> tuple[Report, ...]:
    """Does every action of the findings; one that fails costs no other, and is told.

    Raises: OutputError where nothing can be written down, before anything is changed.
    """
    reports = []
    for finding in findings:
        for action in finding.fix.actions:
            remedy, written = known[action.job], None
            try:
                written = ledger.add(replace(remedy.plan(action), check=finding.check))
                outcome = remedy.do(written)
                ledger.change(written, written.ended(outcome.after))
                report = Report(check=finding.check, text=outcome.text, is_done=True)
            except HayateError as error:
                if written is not None:
                    ledger.change(written, None)
                report = Report(check=finding.check, text=str(error), is_done=False)
            tell(report)
            reports.append(report)
    return tuple(reports)


def undo(known: Mapping[Job, Remedy], ledger: Ledger, tell: Tell) -> tuple[Report, ...]:
    """Takes back all that was done, the newest first; what can't be taken back stays written down."""
    reports = []
    for done in reversed(ledger.read()):
        report = _undone(done, known, ledger)
        tell(report)
        reports.append(report)
    return tuple(reports)


def _undone(done: Done, known: Mapping[Job, Remedy], ledger: Ledger) -> Report:
    try:
        text = known[done.job].undo(done)
    except HayateError as error:
        return Report(check=done.check, text=str(error), is_done=False)
    ledger.change(done, None)
    return Report(check=done.check, text=text, is_done=True)
