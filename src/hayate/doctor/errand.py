"""Fixes and their undoing in a process of their own: `python -m hayate.doctor.errand`, asked on stdin.

A server that changes its machine this way keeps torch out of its own process, answers meanwhile, and outlives what
ends the other one. What was done is told on stdout, a line of JSON for each action.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from hayate.doctor.finding import Action, Finding, Job
from hayate.doctor.fixing import Report, Tell, fix_one, remedies, undo
from hayate.doctor.undo import Ledger
from hayate.errors import EngineError, HayateError


def fix_apart(findings: Iterable[Finding], data_dir: Path, tell: Tell) -> tuple[Report, ...]:
    """Does what the findings offer, as `fixing.fix` does.

    Raises: EngineError where the process ends before it is done; what it was at is written down.
    """
    orders = [{"check": each.check, "action": asdict(action)} for each in findings for action in each.fix.actions]
    return _run({"data_dir": str(data_dir), "fix": orders}, tell)


def undo_apart(only: Sequence[str], data_dir: Path, tell: Tell) -> tuple[Report, ...]:
    """Takes back what was done, as `fixing.undo` does.

    Raises: EngineError where the process ends before it is done.
    """
    return _run({"data_dir": str(data_dir), "undo": list(only)}, tell)


def _run(errand: Mapping[str, Any], tell: Tell) -> tuple[Report, ...]:
    command = [sys.executable, "-P", "-m", "hayate.doctor.errand"]
    reports: list[Report] = []
    with tempfile.TemporaryFile() as said:
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            start_new_session=True,  # Ctrl-C is meant for the server
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(errand).encode())
            process.stdin.close()
            for line in process.stdout:
                reports.append(Report(**json.loads(line)))
                tell(reports[-1])
        if process.returncode:
            raise EngineError(f"the fix was cut short: {_last_line(said)}", hint="what was begun can be undone")
    return tuple(reports)


def _last_line(said: IO[bytes]) -> str:
    said.seek(0)
    lines = said.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "its process was ended"


def main() -> int:
    """Does the errand that stands on stdin."""
    errand = json.load(sys.stdin)
    data_dir = Path(errand["data_dir"])
    known, ledger = remedies(data_dir, os.environ), Ledger(data_dir)
    try:
        if "undo" in errand:
            undo(known, ledger, _tell, errand["undo"])
            return 0
        with ledger.alone():
            for order in errand["fix"]:
                action = Action(**{**order["action"], "job": Job(order["action"]["job"])})
                _tell(fix_one(order["check"], action, known, ledger))
    except HayateError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def _tell(report: Report) -> None:
    """A server that has ended meanwhile is no reason to leave things half done."""
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(f"{json.dumps(asdict(report))}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
