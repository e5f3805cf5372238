"""All checks over the facts of a machine."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hayate.doctor.catalogue import CHECKS
from hayate.doctor.checks.installing import launched
from hayate.doctor.facts import Facts
from hayate.doctor.finding import Finding, Severity

_HAYATE = re.compile(r"(?<!\S)hayate(?= )")
"""Hayate's own command among the words of a command line."""


def diagnose(facts: Facts) -> tuple[Finding, ...]:
    """What this machine should change: what matters most first, then what gains most."""
    found = [_named(check.name, finding, facts) for check in CHECKS if (finding := check.judge(facts)) is not None]
    return tuple(sorted(found, key=lambda finding: finding.rank))


def as_called(facts: Facts, command: str) -> str:
    """A command of Hayate's as it is called there: launch.py puts it on no path."""
    return _HAYATE.sub(lambda _: launched(facts), command, count=1) if facts.python.is_own else command


def _named(check: str, finding: Finding, facts: Facts) -> Finding:
    command = as_called(facts, finding.fix.command)
    return replace(finding, check=check, fix=replace(finding.fix, command=command))


def fine(findings: Sequence[Finding], asked: Sequence[str] = ()) -> tuple[str, ...]:
    """The names of the checks, of those that were asked for, that found nothing."""
    spoken = {finding.check for finding in findings}
    return tuple(each.name for each in CHECKS if each.name not in spoken and (not asked or each.name in asked))


def is_serious(findings: Sequence[Finding]) -> bool:
    return any(finding.severity is Severity.SERIOUS for finding in findings)


def as_object(facts: Facts, findings: Sequence[Finding], asked: Sequence[str] = ()) -> dict[str, Any]:
    """The whole answer as JSON can hold it."""
    return {
        "findings": [finding.as_object() for finding in findings],
        "fine": list(fine(findings, asked)),
        "unknown": list(facts.unknown),
    }
