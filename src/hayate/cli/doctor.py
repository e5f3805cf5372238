"""`hayate doctor`: what this machine should change, and what it would gain."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hayate.errors import UnknownName, UsageError
from hayate.flags import given

if TYPE_CHECKING:
    from hayate.doctor.facts import Facts
    from hayate.doctor.finding import Finding
    from hayate.doctor.fixing import Report

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
_SERIOUS = 1
_WIDEST = 110
_TITLES = {"SERIOUS": "Serious", "WORTHWHILE": "Worth it", "MINOR": "Minor"}


@app.command()
def doctor(  # noqa: PLR0917 - Typer makes a flag of each
    fixes: Annotated[bool, typer.Option("--fix", help="Do what can be done here; all of it can be undone.")] = False,
    undoes: Annotated[bool, typer.Option("--undo", help="Take back what --fix did, the newest first.")] = False,
    only: Annotated[list[str] | None, typer.Option(metavar="CHECK", help="This check only; again for more.")] = None,
    shows_all: Annotated[bool, typer.Option("--all", help="Also name the checks that found nothing.")] = False,
    measures: Annotated[
        bool, typer.Option("--measure", help="Also fill an NVIDIA card's memory for a moment, and time copies.")
    ] = False,
    record: Annotated[
        Path | None, typer.Option("--facts", metavar="FILE", help="Write down what is known of this machine.")
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Judge the machine of a sheet instead of this one.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Look this machine over: what slows it down, what is wrong, what to do. Exit code 1 for something serious."""
    if (fixes or undoes) and sheet is not None:
        raise UsageError("a sheet is of another machine, where nothing can be changed", hint="leave --from out")
    if undoes:
        _say_undone(only or (), as_json=as_json)
        return
    from hayate.doctor.diagnose import is_serious

    facts = _facts(sheet, measures=measures)
    if record is not None:
        from hayate.doctor.sheet import write_sheet

        write_sheet(facts, record)
    findings = _findings(facts, only)
    if fixes:
        findings, reports = _fixed(findings, only, is_silent=as_json)
    else:
        reports = ()
    if sheet is None:
        from hayate.doctor.here import for_here

        findings = for_here(findings)
    if as_json:
        _print_json(facts, findings, reports, only or ())
    else:
        _print(facts, findings, only or (), shows_all=shows_all, is_fixed=fixes)
    if is_serious(findings):
        raise typer.Exit(_SERIOUS)


def _facts(sheet: Path | None, *, measures: bool = False) -> Facts:
    if sheet is not None:
        from hayate.doctor.sheet import read_sheet

        return read_sheet(sheet)
    from hayate.doctor.gather import gather_facts

    return gather_facts(given.get(), measures=measures)


def _findings(facts: Facts, only: Sequence[str] | None) -> tuple[Finding, ...]:
    from hayate.doctor.diagnose import diagnose

    _check_names(only or ())
    return tuple(finding for finding in diagnose(facts) if not only or finding.check in only)


def _check_names(only: Sequence[str]) -> None:
    """Raises: UnknownName."""
    from hayate.doctor.catalogue import CHECKS

    names = [check.name for check in CHECKS]
    for name in only:
        if name not in names:
            raise UnknownName("check", name, names)


def _fixed(
    findings: Sequence[Finding], only: Sequence[str] | None, *, is_silent: bool
) -> tuple[tuple[Finding, ...], tuple[Report, ...]]:
    """What is still found after all that can be done was done, and what that was."""
    from hayate.doctor.fixing import fix, remedies
    from hayate.doctor.undo import Ledger
    from hayate.settings import load_settings

    data_dir = load_settings().data_dir
    tell = (lambda report: None) if is_silent else _tell
    chosen = [finding for finding in findings if finding.is_fixable and (only or not finding.fix.is_asked_for)]
    if chosen and not is_silent:
        typer.echo(f"fixing: {', '.join(finding.check for finding in chosen)} …", err=True)
    reports = fix(chosen, remedies(data_dir, os.environ), Ledger(data_dir), tell)
    return (_findings(_facts(None), only) if reports else tuple(findings)), reports


def _say_undone(only: Sequence[str], *, as_json: bool) -> None:
    from hayate.doctor.fixing import remedies, undo
    from hayate.doctor.undo import Ledger
    from hayate.settings import load_settings

    data_dir = load_settings().data_dir
    tell = (lambda report: None) if as_json else _tell
    _check_names(only)
    reports = undo(remedies(data_dir, os.environ), Ledger(data_dir), tell, only)
    if as_json:
        typer.echo(json.dumps({"undone": [_report(each) for each in reports]}))
    elif not reports:
        typer.echo("there is nothing to undo")


def _tell(report: Report) -> None:
    typer.echo(f"{report.check}: {report.text}" if report.is_done else f"{report.check}: not done: {report.text}")


def _report(report: Report) -> dict[str, Any]:
    return {"check": report.check, "text": report.text, "is_done": report.is_done}


def _print_json(facts: Facts, findings: Sequence[Finding], reports: Sequence[Report], only: Sequence[str]) -> None:
    from hayate.doctor.diagnose import as_object

    typer.echo(json.dumps(as_object(facts, findings, only) | {"fixed": [_report(each) for each in reports]}))


def _print(facts: Facts, findings: Sequence[Finding], only: Sequence[str], *, shows_all: bool, is_fixed: bool) -> None:
    from hayate.doctor.diagnose import fine
    from hayate.doctor.figures import counted

    severity = None
    for finding in findings:
        if finding.severity is not severity:
            severity = finding.severity
            typer.echo(_TITLES[severity.name])
        typer.echo("\n".join(_lines(finding)))
    names = fine(findings, only)
    if findings:
        typer.echo("")
    if names:
        typer.echo(
            f"{counted(len(names), 'check')} found nothing{': ' + ', '.join(names) if shows_all or only else ''}"
        )
    for line in facts.unknown:
        typer.echo(f"not known: {line}")
    if not is_fixed:
        _print_offers(facts, [finding for finding in findings if finding.is_fixable])
    sys.stdout.flush()


def _print_offers(facts: Facts, fixable: Sequence[Finding]) -> None:
    """Which findings `--fix` can mend, and how it is asked to."""
    from hayate.doctor.diagnose import as_called

    fix = as_called(facts, "hayate doctor --fix")
    plain = [finding.check for finding in fixable if not finding.fix.is_asked_for]
    if plain:
        typer.echo(f"{', '.join(plain)}: {fix} does it, --undo takes it back")
    for finding in fixable:
        if finding.fix.is_asked_for:
            typer.echo(f'{finding.check}: {fix} --only "{finding.check}" does it, --undo takes it back')


def _lines(finding: Finding) -> list[str]:
    """A finding as a paragraph: what, why, what it brings, what to do."""
    gain, fix = finding.gain, finding.fix
    source = f": {gain.source}" if gain.source else ""
    needs = f" ({fix.needs})" if fix.needs else ""
    lines = _wrapped(f"{finding.check}: {finding.found}", "  ")
    lines += _wrapped(finding.why, "      ")
    lines += _wrapped(f"gain: {gain.kind.value}, {gain.text} ({gain.certainty.value}{source})", "      ")
    lines += _wrapped(f"fix:  {fix.text}{needs}", "      ")
    return [*lines, *([f"        {fix.command}"] if fix.command else [])]


def _wrapped(text: str, indent: str) -> list[str]:
    width = min(_WIDEST, shutil.get_terminal_size().columns)
    return textwrap.wrap(
        text,
        max(40, width),
        initial_indent=indent,
        subsequent_indent=indent if len(indent) > 2 else indent + "    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
