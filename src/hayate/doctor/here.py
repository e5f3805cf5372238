"""Findings as this machine's user can copy them: a sheet's `~` is the home folder, which Windows' shells don't know."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from hayate.doctor.figures import quoted
from hayate.doctor.finding import Finding

_BELOW_HOME = re.compile(r'"~/([^"]*)"|(?<!\S)~/(\S*)')


def for_here(findings: Iterable[Finding], home: Path | None = None) -> tuple[Finding, ...]:
    """The same with whole paths in their commands; only where the facts are this machine's."""
    place = (home or Path.home()).as_posix()

    def written_out(found: re.Match[str]) -> str:
        return quoted(f"{place}/{found[1] or found[2]}")

    return tuple(
        replace(each, fix=replace(each.fix, command=_BELOW_HOME.sub(written_out, each.fix.command)))
        for each in findings
    )
